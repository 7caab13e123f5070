"""Time, memory and lift against size.

    python -m benchmarks.scale [--documents 1e4,1e5,1e6] [--queries 1e2,1e3,1e4,1e5] [--dimensions 384,1536]
                               [--through arrays,store] [--out FILE] [--keep FOLDER] [--again]
    python -m benchmarks.scale --report [--out FILE] [--docs docs]

Results are added to a file as they come, so that a run that was cut short goes on where it ended. `--report` writes
the pictures and the tables.
"""

import argparse
from itertools import product
from pathlib import Path

from benchmarks.scale.cell import Cell
from benchmarks.scale.report import summary, write
from benchmarks.scale.runner import Results, run

from deepmemory.errors import InputError

HERE = Path(__file__).parent


def _numbers(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


def main() -> None:
    """Measure, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=_numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=_numbers, default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--dimensions", type=_numbers, default=[384, 1536])
    parser.add_argument("--through", default="arrays,store", help="arrays, store or both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scale.jsonl")
    parser.add_argument("--keep", type=Path, help="folder to keep the stores in, or to take them from")
    parser.add_argument("--again", action="store_true", help="measure also what is in the file already")
    parser.add_argument("--report", action="store_true", help="write docs/scale-figures.md and the pictures, no more")
    parser.add_argument("--docs", type=Path, default=HERE.parents[1] / "docs")
    chosen = parser.parse_args()
    through = chosen.through.split(",")
    if unknown := set(through) - {"arrays", "store"}:
        parser.error(f"--through takes arrays and store, not {', '.join(sorted(unknown))}")
    results = Results(chosen.out)
    if chosen.report:
        try:
            write(results.lines, chosen.docs)
        except InputError as error:
            raise SystemExit(str(error)) from None
        return
    sizes = product(through, chosen.dimensions, chosen.documents, chosen.queries)
    cells = [Cell(documents, queries, dimensions, way, chosen.seed) for way, dimensions, documents, queries in sizes]
    for line in run(cells, results, keep=chosen.keep, again=chosen.again):
        print(summary(line), flush=True)


if __name__ == "__main__":
    main()
