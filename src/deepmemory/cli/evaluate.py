"""``deepmemory evaluate``: the same questions without and with Deep Memory."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.opening import known_ids, open_store
from deepmemory.cli.options import DEFAULT_STORE, Engine, Json, Queries, Seed, Split, StorePath
from deepmemory.cli.output import print_json, progress_bars, wrapped
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from deepmemory.store import VectorStore

__all__ = ["evaluate", "report_details"]


def evaluate(
    queries: Queries,
    *,
    report: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Also write a report with plots and examples to this file.")
    ] = None,
    top_k: Annotated[
        list[int] | None, typer.Option(min=1, metavar="K", help="Depths of recall; may be repeated. [1 3 5 10 50 100]")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="A saved layer (see 'layers') instead of the active one.")
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Rank all documents instead of asking the store's index, which may miss some."),
    ] = False,
    split: Split = None,
    seed: Seed = 0,
    engine: Engine = None,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Measure with and without what was learned.

    Use questions that took no part in training. Every question is searched for twice, without and with the layer;
    each difference comes with the interval that chance alone could explain. Questions that were trained on are named,
    and count only in the first two lists.

      deepmemory evaluate --queries test.jsonl --report report.html
    """
    from deepmemory.evaluation import TOP_K
    from deepmemory.formats import read_labelled
    from deepmemory.report import save_report

    _refuse_unwritable(report)
    with open_store(store, engine=engine) as opened:
        labelled = read_labelled(queries, split=split, known_ids=partial(known_ids, opened))
        with interruptible("Nothing was changed."), progress_bars("Searching") as (progress,):
            evaluation = opened.deep_memory.evaluate(
                labelled.relevance,
                labelled.queries,
                top_k=top_k or TOP_K,
                model=layer,
                seed=seed,
                exact=exact,
                verbose=False,
                progress=progress,
            )
        details = report_details(opened, layer)
    if as_json:
        print_json({**evaluation.as_dict(), **details})
    else:
        typer.echo(wrapped(str(evaluation)))
    if report is not None:
        save_report(evaluation, report, details={name.capitalize(): text for name, text in details.items()})
        typer.echo(f"Report: {report}", err=as_json)


def _refuse_unwritable(report: Path | None) -> None:
    """Look at where the report is to go before the work begins, and not only after."""
    folder = None if report is None else report.absolute().parent
    if report is not None and report.is_dir():
        raise InputError(f"the report needs the name of a file, but {report} is a folder")
    if folder is not None and not folder.is_dir():
        raise InputError(f"the report can't be written to {report}: there is no folder {folder}")


def report_details(store: "VectorStore", layer: str | None) -> dict[str, str]:
    """What was measured: the store, its embedder, the layer."""
    summary = store.summary()
    return {
        "store": str(summary["path"]),
        "embedder": str(summary["embedder"] or "vectors were given"),
        "layer": str(layer or summary["layer"] or "none is active"),
    }
