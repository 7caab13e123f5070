"""``deepmemory migrate``: another embedding model for the documents that are there, without embedding them anew."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.opening import known_ids, open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, Seed, Split, StorePath
from deepmemory.cli.output import print_json, progress_bars, wrapped
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from deepmemory.data import LabelledQueries
    from deepmemory.store import VectorStore

__all__ = ["migrate"]

_Labelled = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Questions with answers, to fit the map closer and train on top.")
]
_Test = Annotated[Path | None, typer.Option(metavar="FILE", help="Other questions with answers, to measure on.")]


def migrate(
    *,
    embedder: Annotated[
        str | None, typer.Option(metavar="NAME", help="The new one: local, or openai:MODEL (OPENAI_BASE_URL).")
    ] = None,
    queries: _Labelled = None,
    test: _Test = None,
    pairs: Annotated[int, typer.Option(metavar="N", min=1, help="How many documents to embed by both models.")] = 2_000,
    documents: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Embed later documents by the old model, or mapped. [old, if it can be made]"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Learn and measure, and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Change over even where the new model finds less.")] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Back to the model that embedded the documents.")
    ] = False,
    split: Split = None,
    seed: Seed = 0,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Change the embedding model, and keep the vectors.

    Some thousand documents are embedded by the new model. From those a map is learned by which its vectors of
    questions search the vectors that the old model made. Documents stay as they are; the store remembers both models,
    and there is a way back.

      deepmemory migrate --embedder local --dry-run

      deepmemory migrate --embedder local --queries train.jsonl --test test.jsonl

      deepmemory migrate --rollback
    """
    from deepmemory.store import migrate as migrate_store

    if rollback:
        if embedder is not None or queries is not None or test is not None or dry_run:
            raise InputError("--rollback goes back to what there was: give it alone, with --store")
        _roll_back(store, as_json=as_json)
        return
    if embedder is None:
        raise InputError("say which embedding model comes: --embedder local, or --embedder openai:MODEL")
    with open_store(store, read_only=dry_run) as opened:
        train, tested = (_read(file, split, opened) for file in (queries, test))
        with interruptible("The store is as it was."), progress_bars("Migrating") as (progress,):
            result = migrate_store(
                opened,
                embedder,
                pairs=pairs,
                queries=None if train is None else train.queries,
                relevance=None if train is None else train.relevance,
                test_queries=None if tested is None else tested.queries,
                test_relevance=None if tested is None else tested.relevance,
                documents=documents,  # type: ignore[arg-type]  # anything else is refused there
                dry_run=dry_run,
                force=force,
                seed=seed,
                progress=progress,
            )
    if as_json:
        print_json(result.as_dict())
        return
    typer.echo(wrapped(str(result)))
    if result.migrated:
        typer.echo("To go back: deepmemory migrate --rollback")


def _read(file: Path | None, split: str | None, store: "VectorStore") -> "LabelledQueries | None":
    from deepmemory.formats import read_labelled

    return None if file is None else read_labelled(file, split=split, known_ids=partial(known_ids, store))


def _roll_back(path: str, *, as_json: bool) -> None:
    from deepmemory.store import rollback_migration

    with open_store(path) as opened:
        embedder = rollback_migration(opened)
        layer = opened.deep_memory.get_model()
    if as_json:
        print_json({"embedder": embedder, "layer": layer})
        return
    typer.echo(f"Queries go through {embedder or 'no embedder'} again; active layer: {layer or 'none'}.")
