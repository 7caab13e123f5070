"""``deepmemory ingest``: from a site or a folder to a store that can be searched."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.opening import engine_for
from deepmemory.cli.options import DEFAULT_STORE, Engine, Json, StorePath
from deepmemory.cli.output import print_json, print_warning, progress_bars, shell_word
from deepmemory.errors import IngestError

if TYPE_CHECKING:
    from deepmemory.ingest import IngestOptions, IngestReport

__all__ = ["ingest"]

_AT_ONCE_ON_WORKERS = 8_192
"""Chunks embedded and stored together where several workers are to have something to do."""


def ingest(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", hidden=True)],
    *,
    max_pages: Annotated[
        int, typer.Option(metavar="N", min=1, help="Of a site, read at most this many pages.")
    ] = 1_000,
    max_depth: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of a site, go at most this many links away from SOURCE.")
    ] = None,
    max_minutes: Annotated[
        float, typer.Option(metavar="N", min=0.01, help="Of a site, stop crawling after so long.")
    ] = 60.0,
    prefix: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Of a site, read what is below this path. [the folder of SOURCE]"),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Of a site, read only paths like this, with * and ?; may be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Of a site, leave out paths like this; may be repeated."),
    ] = None,
    delay: Annotated[float, typer.Option(metavar="N", min=0, help="Seconds between two requests to a site.")] = 0.1,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Let a site be on this machine or in a private network.")
    ] = False,
    max_chars: Annotated[int, typer.Option(metavar="N", min=100, help="No document is longer than this.")] = 900,
    embedder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For a new store: local, or openai:MODEL (OPENAI_API_KEY). [local]"),
    ] = None,
    engine: Engine = None,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Read a folder or a site into the store.

    SOURCE is a folder or file of HTML, Markdown, reStructuredText, text or PDF, or the address of a site. Each page
    is split along its headings into documents, which are embedded and stored. The same command once more brings the
    store up to date: only what changed is read and embedded again, and what is gone is removed.

      deepmemory ingest ./handbook
      deepmemory ingest https://docs.example.org/guide/ --max-pages 200
    """
    from deepmemory.ingest import CrawlOptions, IngestOptions, SplitOptions

    options = IngestOptions(
        crawl=CrawlOptions(
            max_pages=max_pages,
            max_depth=max_depth,
            max_seconds=60 * max_minutes,
            prefix=prefix,
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            delay=delay,
            allow_private=allow_private,
        ),
        split=SplitOptions(max_chars=max_chars, min_chars=min(max_chars, SplitOptions().min_chars)),
    )
    for source in sources:
        _refuse_typo(source)
    reports, documents = _ingest_all(sources, store, embedder, options, engine)
    if as_json:
        print_json([report.as_dict() for report in reports])
        return
    for report in reports:
        typer.echo(str(report))
        for problem in report.problems:
            print_warning(problem)
    plural = "" if documents == 1 else "s"
    typer.echo(
        f"The store {store} holds {documents:,} document{plural}. Try: deepmemory search QUESTION{_where(store)}"
    )


def _refuse_typo(source: str) -> None:
    """Look at a source before a store is made for it.

    Raises:
        DeepMemoryError: there is no such folder, or the address is none.
    """
    from deepmemory.ingest import read_folder
    from deepmemory.ingest.crawl import start_addresses

    if "://" in source:
        start_addresses(source)
    else:
        next(read_folder(source), None)


def _ingest_all(
    sources: list[str], path: str, embedder: str | None, options: "IngestOptions", engine: str | None
) -> "tuple[list[IngestReport], int]":
    from deepmemory.executors import InProcessExecutor
    from deepmemory.ingest import ingest as ingest_source
    from deepmemory.store import RECORDED, VectorStore

    reports = []
    chosen = RECORDED if embedder is None else embedder
    with VectorStore(path, embedder=chosen, engine=engine_for(path, engine)) as opened:
        opened.check_writable("ingest")
        if not isinstance(opened.executor, InProcessExecutor):
            options = replace(options, at_once=_AT_ONCE_ON_WORKERS)
        for source in sources:
            with (
                interruptible("What was stored so far is whole; the same command goes on from there."),
                progress_bars("Pages", "Documents") as (on_page, on_chunk),
            ):
                try:
                    report = ingest_source(source, opened, options=options, on_page=on_page, on_chunk=on_chunk)
                except IngestError as error:
                    if "private address" in str(error):
                        error.add_note("To read a site on this machine or in a private network, add --allow-private.")
                    raise
                reports.append(report)
        return reports, opened.count()


def _where(store: str) -> str:
    """What a command needs to use the same store."""
    return "" if store in (DEFAULT_STORE, os.environ.get("DEEPMEMORY_STORE")) else f" --store {shell_word(store)}"
