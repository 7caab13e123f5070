"""Tables and figures of the comparison, from its lines of results: docs/peers.md and docs/figures/."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from deepmemory.significance import paired_lift

from .figures import learning_curve, lift_by_collection
from .peers import PEERS, Peer

__all__ = ["OURS", "Line", "write"]

Line: TypeAlias = dict[str, Any]

OURS = "ours"

_HEAD = """# Side by side with the peers

    make benchmark-peers            # BENCHMARK_DATA names the folder of collections; what is measured already is kept

Everyone gets the same splits (those of `deepmemory benchmark`: 60% of the queries train, or the queries that want only
60% of the labelled documents), the same vectors (all-MiniLM-L6-v2) and the same exact search, each in a process of its
own on the same machine; times are by the clock, whatever else ran on it (see benchmarks.md). The relevance of test
queries is never handed over. Lifts are points over no training.
"Searched" settings, the defaults among them, were chosen by nDCG@10 on a fifth of the training queries (of 1,500 where
there are more), held out as the test is; then all of them train. Deep Memory has no settings to choose: `fit` chooses
by cross-validation inside, and its time includes that. Peers that want a validation set draw it from the training
queries.
"""


def write(lines: Sequence[Line], docs: Path) -> None:
    """Write the page and its figures.

    Args:
        lines: all results.
        docs: the folder of the documentation.
    """
    figures = docs / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    parts = [_HEAD, _who(lines)]
    for split in ("query", "document"):
        there = [line for line in lines if line["split"] == split and line["size"] is None]
        if not there:
            continue
        picture = f"peers-by-{split}.svg"
        (figures / picture).write_text(lift_by_collection(_bars(there), split))
        shown = f"![Lift in nDCG@10 by collection, split by {split}](figures/{picture})\n"
        parts += [f"## Split by {split}\n", *_verdict(there), shown, _lifts(there), _against_ours(there), _costs(there)]
    curve = [line for line in lines if line["split"] == "query" and not line["searched"]]
    if any(line["size"] is not None for line in curve):
        parts += ["## Learning curve\n", _curve(curve), "![Lift by training queries](figures/peers-curve.svg)\n"]
        (figures / "peers-curve.svg").write_text(learning_curve(_points(curve)))
    (docs / "peers.md").write_text("\n".join(parts))


def _verdict(lines: Sequence[Line]) -> list[str]:
    """Ours against the best of the peers that start from vectors alone too and were measured on all the collections.

    Each is compared on the runs that it shares with ours, since some have more seeds than others.
    """
    names = _names(lines)
    alone = {peer.key for peer in PEERS if peer.needs == "vectors" and peer.key != OURS}
    ours = {(line["collection"], line["seed"]): line for line in lines if line["peer"] == OURS}
    compared = []
    for label, mine in _variants([line for line in lines if line["peer"] in alone]):
        shared = [line for line in mine if (line["collection"], line["seed"]) in ours]
        if shared and _names(shared) == names:
            same = [ours[line["collection"], line["seed"]] for line in shared]
            compared.append((_mean(shared), _mean(same), label))
    if not compared:
        return []
    theirs, mean, label = max(compared)
    times = f", {mean / theirs:.1f} times as much" if theirs > 0 else ""
    return [
        f"On vectors alone the mean lift over the {len(names)} collections is {mean:+.2f} points; the best peer's on "
        f"the same runs, {label}, is {theirs:+.2f}{times}.\n"
    ]


def _who(lines: Sequence[Line]) -> str:
    rows = []
    for peer in _present(lines):
        defaults = ", ".join(f"{name} {value}" for name, value in peer.defaults.items()) or "-"
        tried = "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in peer.grid.items()) or "-"
        rows.append([peer.name, peer.source, peer.changes, defaults, tried])
    table = _table(["method", "where from", "changes", "defaults", "searched over"], rows)
    commits = ", ".join(sorted({line["commit"] for line in lines}))
    machines = "; ".join(sorted({line["machine"] for line in lines}))
    return f"## Who takes part\n\n{table}\nCommit {commits}; {machines}.\n"


def _present(lines: Iterable[Line]) -> list[Peer]:
    keys = {line["peer"] for line in lines}
    return [peer for peer in PEERS if peer.key in keys]


def _variants(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """For each method and way of choosing settings its label and lines, in the order of the peers."""
    found = []
    for peer in _present(lines):
        for searched in (False, True):
            mine = [line for line in lines if line["peer"] == peer.key and line["searched"] == searched]
            if mine:
                found.append((f"{peer.name}, searched" if searched else peer.name, mine))
    return found


def _names(lines: Iterable[Line]) -> list[str]:
    return sorted({line["collection"] for line in lines})


def _mean(lines: Sequence[Line], metric: str = "ndcg@10") -> float:
    """In points: over the seeds, then over the collections, so that each collection counts once."""
    by_name = [
        np.mean([line["metrics"][metric]["lift"] for line in lines if line["collection"] == name])
        for name in _names(lines)
    ]
    return 100 * float(np.mean(by_name))


def _lifts(lines: Sequence[Line]) -> str:
    names = _names(lines)
    rows = []
    for label, mine in _variants(lines):
        cells = []
        for name in names:
            here = [line for line in mine if line["collection"] == name]
            cells.append(_cell(here) if here else "")
        whole = {line["collection"] for line in mine} == set(names)
        worst = min(100 * line["metrics"]["ndcg@10"]["lift"] for line in mine)
        rows.append([label, *cells, f"**{_mean(mine):+.1f}**" if whole else "", f"{worst:+.1f}", _seeds(mine)])
    baselines = [_baseline(lines, name) for name in names]
    rows.insert(0, ["No training (nDCG@10)", *baselines, "", "", ""])
    return "Lift in nDCG@10, mean of the seeds (95% interval at the first seed):\n\n" + _table(
        ["method", *names, "mean", "worst run", "seeds"], rows
    )


def _cell(lines: Sequence[Line]) -> str:
    first = min(lines, key=lambda line: line["seed"])["metrics"]["ndcg@10"]["interval"]
    mean = 100 * float(np.mean([line["metrics"]["ndcg@10"]["lift"] for line in lines]))
    return f"{mean:+.1f} ({100 * first[0]:+.1f} to {100 * first[1]:+.1f})"


def _baseline(lines: Sequence[Line], name: str) -> str:
    """Of all seeds that anyone was measured at."""
    values = {line["seed"]: line["metrics"]["ndcg@10"]["baseline"] for line in lines if line["collection"] == name}
    return f"{100 * float(np.mean(list(values.values()))):.1f}"


def _seeds(lines: Sequence[Line]) -> str:
    counts = [len({line["seed"] for line in lines if line["collection"] == name}) for name in _names(lines)]
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _against_ours(lines: Sequence[Line]) -> str:
    """Query by query at the first seed that both have: a peer's interval above 0 is a peer that beats us."""
    ours = {(line["collection"], line["seed"]): line for line in lines if line["peer"] == OURS}
    names = _names(lines)
    rows = []
    for label, mine in _variants([line for line in lines if line["peer"] != OURS]):
        cells = []
        for name in names:
            pairs = [
                (ours[name, line["seed"]], line)
                for line in mine
                if line["collection"] == name and (name, line["seed"]) in ours
            ]
            cells.append(_difference(*min(pairs, key=lambda pair: pair[1]["seed"])) if pairs else "")
        rows.append([label, *cells])
    return (
        "Deep Memory on vectors alone less each peer, nDCG@10 on the same test queries, first seed (95% interval); "
        "in bold where the peer is ahead beyond it:\n\n" + _table(["peer", *names], rows)
    )


def _difference(ours: Line, theirs: Line) -> str:
    compared = paired_lift(theirs["ndcg_by_query"], ours["ndcg_by_query"])
    low, high = (100 * bound for bound in compared.interval)
    text = f"{100 * compared.lift:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"**{text}**" if high < 0 else text


def _costs(lines: Sequence[Line]) -> str:
    rows = []
    for label, mine in _variants(lines):
        recalls = [f"{_mean(mine, f'recall@{k}'):+.1f}" for k in (1, 5, 10)]
        peaks = [line["peak_mib"] for line in mine if line["peak_mib"] is not None]
        trained = max(line["fit_seconds"] for line in mine) > 0
        rows.append(
            [
                label,
                str(len(_names(mine))),
                f"{_mean(mine):+.1f}",
                *recalls,
                f"{sum(line['wins'] for line in mine)} / {sum(line['losses'] for line in mine)}",
                f"{np.median([line['fit_seconds'] for line in mine]):.1f} s" if trained else "-",
                f"{np.max([line['fit_seconds'] for line in mine]):.1f} s" if trained else "-",
                f"{np.median([line['search_seconds'] for line in mine]):.0f} s" if mine[0]["searched"] else "-",
                f"{max(peaks):.0f} MiB" if peaks else "-",
                f"{np.median([line['milliseconds'] for line in mine]):.2f}",
            ]
        )
    head = ["method", "collections", "nDCG@10", "recall@1", "recall@5", "recall@10", "wins / losses", "fit, median"]
    head += ["fit, longest", "search of settings", "peak memory", "ms a query"]
    return (
        "Mean lifts in points over the collections measured; wins and losses by query in nDCG@10, all runs together; "
        "memory is the largest of the process, its libraries (PyTorch ...) included; a query is transformed and "
        "searched exactly among all documents, Deep Memory's by `Layer.rank`, which makes all documents unit anew at "
        "every call (a search in a store is timed in [benchmarks.md](benchmarks.md)):\n\n" + _table(head, rows)
    )


def _bars(lines: Sequence[Line]) -> list[tuple[str, dict[str, float]]]:
    """For each method its lift by collection in points; of both ways of choosing settings the better in the mean.

    Means over different collections can't be compared, so the way that was measured on more of them comes first.
    """
    bars = []
    for peer in _present(lines):
        variants = [mine for _, mine in _variants([one for one in lines if one["peer"] == peer.key])]
        best = max(variants, key=lambda mine: (len(_names(mine)), _mean(mine)))
        by_name = {name: _mean([one for one in best if one["collection"] == name]) for name in _names(best)}
        bars.append((peer.name, by_name))
    return bars


def _points(lines: Sequence[Line]) -> list[tuple[str, list[tuple[int, float]]]]:
    """For each method the mean lift by number of training queries, over the collections that have all the sizes."""
    cut = [line for line in lines if line["size"] is not None]
    sizes = sorted({line["size"] for line in cut})
    shared = [
        name for name in _names(cut) if sizes == sorted({line["size"] for line in cut if line["collection"] == name})
    ]
    found = []
    for peer in _present(cut):
        mine = [line for line in cut if line["peer"] == peer.key and line["collection"] in shared]
        by_size = {size: [line for line in mine if line["size"] == size] for size in sizes}
        found.append((peer.name, [(size, _mean(there)) for size, there in by_size.items() if there]))
    return found


def _curve(lines: Sequence[Line]) -> str:
    points = _points(lines)
    sizes = sorted({size for _, line in points for size, _ in line})
    rows = [
        [name, *(f"{dict(line)[size]:+.1f}" if size in dict(line) else "" for size in sizes)] for name, line in points
    ]
    seeds = sorted({line["seed"] for line in lines if line["size"] is not None})
    return (
        "Lift in nDCG@10 by number of training queries, split by query, defaults, mean of the collections that have "
        f"so many (seeds {', '.join(map(str, seeds))}):\n\n" + _table(["method", *map(str, sizes)], rows)
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
