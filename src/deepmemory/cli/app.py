"""The commands and the words that lead a first-time reader through them."""

import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from deepmemory.cli import (
    ask,
    attach,
    benchmark,
    demo,
    diagnose,
    documents,
    evaluate,
    export,
    ingest,
    jobs,
    layers,
    queries,
    search,
    serve,
    train,
)
from deepmemory.cli.ending import DEBUG_VARIABLE, show_tracebacks

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)

# In the order of a first walk, which is how help lists them.
_COMMANDS: tuple[Callable[..., None], ...] = (
    demo.demo,
    ingest.ingest,
    attach.attach,
    search.search,
    ask.ask,
    queries.queries,
    diagnose.diagnose,
    train.train,
    evaluate.evaluate,
    jobs.status,
    jobs.jobs,
    jobs.cancel,
    layers.layers,
    export.export,
    documents.info,
    documents.documents,
    benchmark.benchmark,
    serve.serve,
    serve.token,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from deepmemory import __version__

        typer.echo(f"deepmemory {__version__}")
        raise typer.Exit


def _debug(wanted: bool) -> None:
    if wanted:
        show_tracebacks()


def deepmemory(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", callback=_debug, help=f"Show tracebacks, as {DEBUG_VARIABLE}=1 does.")
    ] = False,
) -> None:
    """Find more with the embeddings that you have, by learning from questions whose answers are known.

    See it work, offline, in a few minutes:

      deepmemory demo

    On documents of your own:

      deepmemory ingest ./handbook                    a folder, or https://...
      deepmemory search "how do I reset a password"   works before any training
      deepmemory train --queries train.jsonl          learn, where it helps
      deepmemory evaluate --queries test.jsonl        measure with and without
      deepmemory search "how do I reset a password"   now with what was learned

    Each line of train.jsonl and test.jsonl is a question with the ids of the documents that answer it ('search' and
    'documents' show ids):

      {"query": "locked out", "relevance": [["ID OF A DOCUMENT", 1.0]]}

    Where the documents are in a database already, 'deepmemory attach' takes the place of 'ingest'.

    All commands use the store ./deepmemory-store, unless --store or the variable DEEPMEMORY_STORE names another.
    'deepmemory COMMAND --help' tells more.
    """


def _help(command: Callable[..., None]) -> str:
    """A docstring as help: paragraphs are filled to the terminal's width, indented ones stay as they are."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(f"\b\n{part}" if part.startswith(" ") else part for part in paragraphs)


app.callback(help=_help(deepmemory))(deepmemory)
for command in _COMMANDS:
    app.command(command.__name__, help=_help(command))(command)
