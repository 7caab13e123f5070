"""``deepmemory train``: learn from questions whose answers are known, and say honestly what that brings."""

from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.opening import known_ids, open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, Queries, Seed, Split, StorePath, Words
from deepmemory.cli.output import print_json, progress_bars, wrapped
from deepmemory.cli.records import job_record

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["diagnosis_lines", "train", "training_summary"]


def train(
    queries: Queries,
    *,
    split: Split = None,
    words: Words = True,
    seed: Seed = 0,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Learn from questions whose answers are known.

    What is learned is kept with the store and used by every search from then on, but only where questions that were
    left out of training gain from it. Some hundreds of questions are a good number.

    Lines of FILE, as JSON (relevance: ids of documents that answer, with grades):

      {"query": "locked out, what now", "relevance": [["ID", 1.0]]}

    or as CSV with a header:

      query,id
      "locked out, what now",ID

    Questions that deepmemory queries made are marked with "made": true. They train beside real ones, which alone judge
    what is learned.
    """
    from deepmemory.formats import read_labelled

    with open_store(store) as opened:
        labelled = read_labelled(queries, split=split, known_ids=partial(known_ids, opened))
        with (
            interruptible("Training was cancelled; the store is as it was."),
            progress_bars("Training") as (progress,),
        ):
            job_id = opened.deep_memory.train(
                labelled.queries,
                labelled.relevance,
                made=labelled.made or None,
                words=words,
                seed=seed,
                wait=True,
                progress=progress,
            )
        job = opened.deep_memory.status(job_id, verbose=False)
    if as_json:
        print_json(job_record(job))
        return
    from deepmemory.memory import status_table

    typer.echo(status_table(job))
    typer.echo(wrapped(training_summary(job.results or {})))
    for line in diagnosis_lines(job.results or {}):
        typer.echo(wrapped(line))
    typer.echo("To measure it on other questions: deepmemory evaluate --queries FILE")


def diagnosis_lines(results: "Mapping[str, Any]") -> list[str]:
    """What was found in the questions that asks for something to be done, and how to see more of it."""
    found = [f"- {finding['line']}" for finding in results.get("diagnosis", ())]
    if not found:
        return []
    return ["Found in the questions:", *found, "To see which they are: deepmemory diagnose --queries FILE"]


def training_summary(results: "Mapping[str, Any]") -> str:
    """What a completed training found, in sentences."""
    from deepmemory.evaluation.text import interval, p_value, percent, points

    if not results["active"]:
        return f"The layer stays off: {results['reason']}\nSearches go on as before."
    measured = results["by_query"]["ndcg@10"]
    trusts_words = results["settings"].get("words")  # reports from before words don't say
    by_words = " It trusts words too: searches with it are full-text searches as well." if trusts_words else ""
    return (
        f"Layer {results['layer']} is on. Measured on the {results['n_queries']:,} questions themselves, each while it "
        f"was left out of training: nDCG@10 from {percent(measured['baseline'])} to {percent(measured['trained'])}, "
        f"{points(measured['lift'])} points (95% interval {interval(tuple(measured['interval']))}, "
        f"{p_value(measured['p_value'])}).{by_words}"
    )
