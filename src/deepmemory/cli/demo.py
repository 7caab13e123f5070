"""``deepmemory demo``: all of it on real input, told step by step."""

import platform
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.options import Json, Seed
from deepmemory.cli.output import print_json, print_warning, progress_bars, screen_width, shell_word, wrapped
from deepmemory.cli.records import job_record
from deepmemory.cli.train import training_summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepmemory.demo import Demo, Showcase, Training
    from deepmemory.demo.answers import Labels
    from deepmemory.demo.showcase import Answer
    from deepmemory.evaluation import Evaluation
    from deepmemory.ingest import IngestReport

__all__ = ["demo"]

Say: TypeAlias = Callable[[str], None]

_NARROW = 60
_HANGING = "     "


def demo(
    folder: Annotated[Path, typer.Option("--dir", metavar="FOLDER", help="Where to keep what the demo makes.")] = Path(
        "deepmemory-demo"
    ),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew instead of using what an earlier run left.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """See it work on Python's own documentation.

    It serves the documentation of some 160 standard modules with Python's pydoc, on this machine and offline; crawls
    and stores it; learns from some 900 questions; and measures on some 500 others, half of them about things that no
    training question covers. The store stays there to play with; a second run uses it.
    """
    say = _say_nothing if as_json else typer.echo
    begun = time.monotonic()
    with interruptible("What was done so far is kept: 'deepmemory demo' goes on from there."):
        from deepmemory.demo import Demo

        with Demo(folder, seed=seed, start_anew=fresh) as walk:
            read = _read(walk, say)
            labels = _label(walk, say)
            training = _train(walk, labels, say)
            evaluation = _evaluate(walk, labels, training, say)
            examples = walk.compare(evaluation)
    seconds = time.monotonic() - begun
    if as_json:
        print_json(
            {
                "ingest": read.as_dict(),
                "questions": labels.as_dict(),
                "job": job_record(training.job),
                "evaluation": evaluation.as_dict(),
                "examples": [example.as_dict() for example in examples],
                "files": walk.files,
                "seconds": seconds,
            }
        )
        return
    _print_examples(examples, evaluation)
    _print_end(walk, examples[0].question if examples else "day of the week", seconds)


def _say_nothing(_: str) -> None:
    """Where stdout is for JSON alone."""


def _read(walk: "Demo", say: Say) -> "IngestReport":
    say(f"Deep Memory on the documentation of Python {platform.python_version()}, in {walk.folder}\n")
    say(wrapped("1. Read: pydoc serves the pages here; they are crawled, split along their headings and embedded."))
    if walk.is_new:
        say(wrapped("   It takes about two minutes; another time only what changed is embedded."))
    with progress_bars("Pages", "Documents") as (on_page, on_chunk):
        report = walk.read(on_page=on_page, on_chunk=on_chunk)
    for line in str(report).split("\n")[1:]:
        say(f" {line}")
    for problem in report.problems:
        print_warning(problem)
    return report


def _label(walk: "Demo", say: Say) -> "Labels":
    labels = walk.label()
    say(
        wrapped(
            f"\n2. Label: {len(labels.train):,} questions to learn from and {len(labels.test):,} held out, each with "
            "the documents that answer it, found by the names of functions, classes and methods."
        )
    )
    if labels.missing:
        say(
            wrapped(
                f"   {len(labels.missing)} of the names are not in this Python or on this platform, "
                f"{labels.missing[0]} among them; {labels.unanswered} questions are left out for that."
            )
        )
    return labels


def _train(walk: "Demo", labels: "Labels", say: Say) -> "Training":
    say("\n3. Train")
    with progress_bars("Training") as (progress,):
        training = walk.train(labels, progress=progress)
    if not training.is_new:
        say("   An earlier run did, on the same questions and pages. What it found:")
    from deepmemory.memory import status_table

    say(status_table(training.job))
    say(wrapped(training_summary(training.job.results or {})))
    return training


def _evaluate(walk: "Demo", labels: "Labels", training: "Training", say: Say) -> "Evaluation":
    say("\n4. Measure, on the questions that were held out")
    with progress_bars("Searching") as (progress,):
        evaluation = walk.evaluate(labels, training, progress=progress)
    say(wrapped(str(evaluation)))
    return evaluation


def _print_examples(examples: "list[Showcase]", evaluation: "Evaluation") -> None:
    typer.echo(f"\n5. Side by side\n{wrapped(_how_chosen(evaluation))}")
    for example in examples:
        typer.echo(f"\n{wrapped(f'Question: {example.question}')}")
        typer.echo(wrapped(f"Answer: {' or '.join(example.right)}"))
        sides = (
            [f"Without: {_rank(example.baseline_rank)}", *_answers(example.without)],
            [f"With Deep Memory: {_rank(example.trained_rank)}", *_answers(example.trained)],
        )
        typer.echo("\n".join(_side_by_side(*sides)))


def _how_chosen(evaluation: "Evaluation") -> str:
    lifts = [result.lift for result in evaluation.fair_queries]
    gained, lost = sum(lift > 0 for lift in lifts), sum(lift < 0 for lift in lifts)
    return (
        f"Of {len(lifts):,} held-out questions {gained:,} gained in nDCG@10, {lost:,} lost and the others stayed. "
        "These are the three that gained most and the one that lost most, each with its first three hits; a star marks "
        "those that answer."
    )


def _rank(rank: int | None) -> str:
    return "no answer in the first 100" if rank is None else f"first answer at {rank}"


def _answers(answers: "Sequence[Answer]") -> list[str]:
    return [f"{rank}. {'*' if answer.is_right else ' '} {answer.names}" for rank, answer in enumerate(answers, start=1)]


def _side_by_side(left: list[str], right: list[str]) -> Iterator[str]:
    """Two columns, row by row, where the screen has room for them; one below the other where it hasn't."""
    width = screen_width()
    if width < _NARROW:
        yield from (*left, *right)
        return
    column = (width - 2) // 2
    for pair in zip_longest(left, right, fillvalue=""):
        cells = (textwrap.wrap(cell, column, subsequent_indent=_HANGING) for cell in pair)
        for first, second in zip_longest(*cells, fillvalue=""):
            yield f"{first:<{column}}  {second}".rstrip()


def _print_end(walk: "Demo", question: str, seconds: float) -> None:
    files = walk.files
    search = f"deepmemory search {shell_word(question)} --store {shell_word(files['store'])}"
    typer.echo(
        f"""
The report, with plots and more examples: {files["report"]}

What to try next:
  {search}
  {search} --no-deep-memory
  deepmemory layers --store {shell_word(files["store"])}
  deepmemory evaluate --queries {shell_word(files["test"])} --store {shell_word(files["store"])}
  deepmemory --help      how to do the same with documents of your own

This took {seconds:.0f} seconds."""
    )
