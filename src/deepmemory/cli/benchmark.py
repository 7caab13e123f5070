"""``deepmemory benchmark``: the method, measured on collections with known answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.options import Engine, Json, Seed, Words
from deepmemory.cli.output import print_json, print_table, progress_bars

if TYPE_CHECKING:
    from deepmemory.benchmark import BenchmarkResult

__all__ = ["benchmark"]


def benchmark(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", hidden=True)],
    *,
    split: Annotated[
        Literal["query", "document", "standard"] | None,
        typer.Option(
            help="How test questions are held out: at random (query), together with all documents that they want "
            "(document), or as the folder itself says (standard; the default where it does)."
        ),
    ] = None,
    fraction: Annotated[float, typer.Option(metavar="N", min=0.01, max=0.99, help="The part to train on.")] = 0.6,
    embedder: Annotated[
        str, typer.Option(metavar="NAME", help="local, or openai:MODEL; for folders without embeddings.npz.")
    ] = "local",
    words: Words = True,
    seed: Seed = 0,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Measure the method on BEIR folders.

    It trains on one part of the questions of each and tests on the others.

      deepmemory benchmark ./scifact ./nfcorpus --split document --seed 1
    """
    from deepmemory.benchmark import run_benchmark

    results = []
    with interruptible("Nothing was changed."):
        for folder in folders:
            with progress_bars(folder.name) as (progress,):
                results.append(
                    run_benchmark(
                        folder,
                        split=split,
                        fraction=fraction,
                        seed=seed,
                        embedder=embedder,
                        words=words,
                        engine=engine,
                        progress=progress,
                    )
                )
    if as_json:
        print_json([result.as_dict() for result in results])
    else:
        _print(results)


def _print(results: "list[BenchmarkResult]") -> None:
    from deepmemory.benchmark import mean_lift
    from deepmemory.evaluation.text import interval, p_value, percent, points

    rows = []
    for result in results:
        for group, lifts in (("all", result.overall), ("seen", result.seen), ("unseen", result.unseen)):
            if lifts:
                lift = lifts["ndcg@10"]
                change = f"{percent(lift.baseline)} to {percent(lift.trained)}"
                chance = f"{interval(lift.interval)}, {p_value(lift.p_value)}" if lift.n_queries > 1 else "one query"
                rows.append([result.name, group, f"{lift.n_queries}", change, points(lift.lift), chance])
    right = ["TEST", "LIFT"]
    print_table(["NAME", "DOCUMENTS", "TEST", "NDCG@10", "LIFT", "95% INTERVAL"], rows, right=right)
    for result in results:
        typer.echo(f"{result.name}: {result.report.reason} Fitted in {result.report.seconds:.1f} s.")
    if len(results) > 1:
        typer.echo(f"Mean lift of nDCG@10: {points(mean_lift(results))} points.")
