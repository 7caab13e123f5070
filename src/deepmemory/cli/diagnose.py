"""``deepmemory diagnose``: what is wrong with questions that are to train, in plain words."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.opening import known_ids, open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, Queries, Seed, Split, StorePath
from deepmemory.cli.output import print_json, printable, progress_bars, wrapped
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["diagnose"]


def diagnose(
    queries: Queries,
    *,
    split: Split = None,
    test_queries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Questions that are to measure the training: none of them should train."),
    ] = None,
    test_split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a BEIR folder with test questions, the part to read.")
    ] = None,
    seed: Seed = 0,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Tell what is wrong with questions that train.

    Use it before a training, or after one. It names how good the search is already, what the labels cover, too few
    questions, questions that contradict or repeat each other, answers that no search finds, copies of documents of
    which only some are labelled, questions near to nothing, test questions that train, and whether the active layer is
    out of date: each with why it matters, what to do, and the worst of them. Nothing is changed.

      deepmemory diagnose --queries train.jsonl --test-queries test.jsonl
    """
    from deepmemory.formats import read_labelled

    if test_split is not None and test_queries is None:
        raise InputError("--test-split is of the folder that --test-queries names: give both")
    with open_store(store, read_only=True) as opened:
        labelled = read_labelled(queries, split=split, known_ids=partial(known_ids, opened))
        test: Sequence[str] | None = None
        if test_queries is not None:
            test = read_labelled(test_queries, split=test_split).queries
        with interruptible("Nothing was changed."), progress_bars("Searching") as (progress,):
            diagnosis = opened.deep_memory.diagnose(
                labelled.queries, labelled.relevance, test_queries=test, seed=seed, progress=progress
            )
    if as_json:
        print_json(diagnosis.as_dict())
    else:
        typer.echo(wrapped(printable(str(diagnosis))))
