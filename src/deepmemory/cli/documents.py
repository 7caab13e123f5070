"""``deepmemory info`` and ``documents``: what a store holds."""

import itertools
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from deepmemory.cli.opening import open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, StorePath
from deepmemory.cli.output import print_json, printable, screen_width

if TYPE_CHECKING:
    from deepmemory.data import Document

__all__ = ["documents", "info"]


def info(store: StorePath = DEFAULT_STORE, as_json: Json = False) -> None:
    """Say what the store holds."""
    with open_store(store, read_only=True) as opened:
        summary, attached = opened.summary(), opened.attachment
    if as_json:
        print_json(summary)
        return
    layers = summary["layers"]
    lines = {
        "store": summary["path"],
        **({} if attached is None else {"attached": attached.described}),
        "documents": f"{summary['documents']:,}",
        "embedder": summary["embedder"] or "none: vectors are given",
        "vectors": f"{summary['dimensions'] or 'no'} dimensions, compared by {summary['distance']}",
        "layers": f"{', '.join(layers)}; active: {summary['layer'] or 'none'}" if layers else "none trained yet",
        "jobs": summary["jobs"],
        "created": summary["created"][:19].replace("T", " ") + " UTC",
    }
    for name, value in lines.items():
        typer.echo(f"{name + ':':<11}{printable(str(value))}")


def documents(
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most this many.")] = None,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """List the documents and their ids.

    Questions are labelled with the ids of the documents that answer them.

      deepmemory documents --limit 20
      deepmemory documents --json > documents.json
    """
    with open_store(store, read_only=True) as opened:
        found = itertools.islice(opened.documents(), limit)
        if as_json:
            _print_json_list(found)
            return
        for document in found:
            typer.echo(_line(document))


def _line(document: "Document") -> str:
    text = " ".join(printable(document.text).split())
    room = screen_width() - len(document.id) - 2
    return f"{document.id}  {text if len(text) <= room else text[: max(0, room - 4)] + ' ...'}"


def _print_json_list(documents: "Iterable[Document]") -> None:
    """A JSON list, written as it is read: a store may be larger than memory."""
    between = "[\n"
    for document in documents:
        record = {"id": document.id, "text": document.text, "metadata": dict(document.metadata)}
        sys.stdout.write(between + json.dumps(record))
        between = ",\n"
    sys.stdout.write("[]\n" if between == "[\n" else "\n]\n")
