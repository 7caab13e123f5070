"""Run the comparison and write its tables (`make benchmark-peers`).

python -m benchmarks.peers run DATA [--seeds 0 1 2 3 4] [--splits query document] [--peers KEY ...]
                                    [--collections NAME ...] [--no-search] [--no-curve] [--finetune]
python -m benchmarks.peers report

What the results have already is not run again, so that an interrupted run goes on where it was.
"""

import argparse
import os
from pathlib import Path

from .peers import PEERS, Peer, by_key
from .problem import collections
from .report import write
from .runner import Results, Task, run

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESULTS = HERE / "results" / "results.jsonl"

CURVE = (25, 50, 100, 200, 400)


def tasks(folders: list[Path], peers: list[Peer], chosen: argparse.Namespace) -> list[Task]:
    """All that is to be done, the broad picture first: seed by seed the defaults, then the searches, then the curve."""
    quick, slow = [peer for peer in peers if not peer.slow], [peer for peer in peers if peer.slow]
    all_of = [
        Task(folder, split, seed, None, quick, searched)
        for seed in chosen.seeds
        for searched in ((False,) if chosen.no_search else (False, True))
        for split in chosen.splits
        for folder in folders
    ]
    if not chosen.no_curve:
        all_of += [
            Task(folder, "query", seed, size, quick, searched=False)
            for seed in chosen.seeds
            for folder in folders
            for size in CURVE
        ]
    if chosen.finetune:
        all_of += [Task(folder, split, 0, None, slow, searched=False) for split in chosen.splits for folder in folders]
    return all_of


def main() -> None:
    """Run, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report"])
    data = Path(os.environ.get("BENCHMARK_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("data", type=Path, nargs="?", default=data)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--splits", nargs="+", choices=["query", "document"], default=["query", "document"])
    parser.add_argument("--peers", nargs="+", default=[peer.key for peer in PEERS])
    parser.add_argument("--collections", nargs="+")
    parser.add_argument("--no-search", action="store_true", help="defaults only")
    parser.add_argument("--no-curve", action="store_true", help="without the learning curve")
    parser.add_argument("--finetune", action="store_true", help="the fully fine-tuned embedder too, seed 0 (hours)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    results = Results(chosen.results)
    if chosen.what == "run":
        folders = [one for one in collections(chosen.data) if not chosen.collections or one.name in chosen.collections]
        if not folders:
            print(f"skipped: there is no collection in {chosen.data}; name a folder of them in BENCHMARK_DATA")
        for line in run(tasks(folders, by_key(chosen.peers), chosen), results):
            lift = line["metrics"]["ndcg@10"]["lift"]
            kind = "searched" if line["searched"] else "defaults"
            size = "" if line["size"] is None else f" {line['size']} queries"
            print(
                f"seed {line['seed']} {line['split']:8} {line['collection']:14} {line['peer']:20} {kind}{size} "
                f"{100 * lift:+.1f} fit {line['fit_seconds']:.1f} s",
                flush=True,
            )
    if results.lines:
        write(results.lines, ROOT / "docs")


if __name__ == "__main__":
    main()
