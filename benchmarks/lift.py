"""Lift on every collection of a folder, split by query and by document, over seeds.

python benchmarks/lift.py DATA [--seeds 0 1 2 3 4] [--no-words] [--json FILE]
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from deepmemory.benchmark import BenchmarkResult, SplitKind, run_benchmark

SPLITS: tuple[SplitKind, ...] = ("query", "document")


def collections(data: Path) -> list[Path]:
    """The BEIR folders below a folder."""
    return sorted(folder.parent for folder in data.glob("*/queries.jsonl*"))


def table(results: list[BenchmarkResult]) -> str:
    """One row a collection and split: means over the seeds, the 95% interval of the first."""
    grouped = defaultdict(list)
    for result in results:
        grouped[result.split, result.name].append(result)
    lines = [
        "| split | collection | train / test | nDCG@10 without | with | lift | 95% interval, first seed "
        "| worst seed | recall@10 lift | unseen lift | layer on | fit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for split in SPLITS:
        lifts = []
        for (kind, name), runs in grouped.items():
            if kind != split:
                continue
            ndcg = [run.overall["ndcg@10"] for run in runs]
            lift = 100 * float(np.mean([one.lift for one in ndcg]))
            lifts.append(lift)
            low, high = (100 * bound for bound in ndcg[0].interval)
            unseen = [run.unseen["ndcg@10"].lift for run in runs if run.unseen]
            lines.append(
                f"| {split} | {name} | {runs[0].n_train} / {ndcg[0].n_queries} "
                f"| {100 * np.mean([one.baseline for one in ndcg]):.1f} "
                f"| {100 * np.mean([one.trained for one in ndcg]):.1f} | **{lift:+.1f}** "
                f"| {low:+.1f} to {high:+.1f} | {100 * min(one.lift for one in ndcg):+.1f} "
                f"| {100 * np.mean([run.overall['recall@10'].lift for run in runs]):+.1f} "
                f"| {100 * np.mean(unseen) if unseen else float('nan'):+.1f} "
                f"| {sum(run.report.active for run in runs)} of {len(runs)} "
                f"| {np.median([run.report.seconds for run in runs]):.1f} s |"
            )
        if lifts:
            lines.append(f"| {split} | **mean** | | | | **{np.mean(lifts):+.2f}** | | | | | | |")
    return "\n".join(lines)


def main() -> None:
    """Run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--no-words", action="store_true", help="vectors alone")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    results = []
    for seed in chosen.seeds:
        for folder in collections(chosen.data):
            for split in SPLITS:
                result = run_benchmark(folder, split=split, seed=seed, words=not chosen.no_words)
                results.append(result)
                print(f"seed {seed} {split:8} {result.name:16} {100 * result.overall['ndcg@10'].lift:+.1f}", flush=True)
    print(table(results))
    if chosen.json:
        chosen.json.write_text(json.dumps([result.as_dict() for result in results], indent=1))


if __name__ == "__main__":
    main()
