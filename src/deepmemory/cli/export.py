"""``deepmemory export``: a layer as files that other programs apply."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from deepmemory.cli.opening import open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, StorePath
from deepmemory.cli.output import print_json, shell_word, wrapped
from deepmemory.errors import InputError

__all__ = ["export"]

_ID, _VECTOR, _SCHEMA, _NAME = "id", "embedding", "public", "deep_memory"


def export(
    layer: Annotated[str | None, typer.Argument(metavar="LAYER", help="Its name. [the active one]")] = None,
    *,
    format: Annotated[Literal["numpy", "onnx", "sql", "typescript"], typer.Option(help="What to write.")],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="Where to; the format's endings are added.")],
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="For sql: the table of documents, table or schema.table.")
    ] = None,
    id: Annotated[str, typer.Option("--id", metavar="NAME", help="For sql: its column with the documents' ids.")] = _ID,
    vector: Annotated[
        str, typer.Option("--vector", metavar="NAME", help="For sql: its column with their vectors.")
    ] = _VECTOR,
    schema: Annotated[
        str, typer.Option(metavar="NAME", help="For sql: where the layer's own tables and functions go.")
    ] = _SCHEMA,
    name: Annotated[str, typer.Option(metavar="NAME", help="For sql: what they are called.")] = _NAME,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Write a layer for programs that search without Deep Memory.

      deepmemory export --format numpy --out layer        layer.py and .npz
      deepmemory export v2 --format onnx --out layer      layer.onnx
      deepmemory export --format typescript --out layer   layer.ts and weights
      deepmemory export --format sql --out layer --table chunks

    The last is for PostgreSQL with pgvector: layer.sql makes the function deep_memory, for ORDER BY embedding <=>
    deep_memory(query), and deep_memory_search; layer.uninstall.sql takes them out again. What a format can't hold is
    said, here and at the top of the file.
    """
    from deepmemory.exporting import SqlTarget

    target = SqlTarget(table=table, id=id, vector=vector, schema=schema, name=name)
    if format != "sql" and target != SqlTarget(id=_ID, vector=_VECTOR, schema=_SCHEMA, name=_NAME):
        raise InputError(f"--table, --id, --vector, --schema and --name are for --format sql, and it is {format}")
    if table is None and (id, vector) != (_ID, _VECTOR):
        raise InputError("--id and --vector are columns of a table: name it by --table")
    with open_store(store, read_only=True) as opened:
        written = opened.deep_memory.export(
            out, format, model=layer, overwrite=force, sql=target if format == "sql" else None
        )
    files = [str(path) for path in written.files]
    if as_json:
        print_json({"files": files, "notes": list(written.notes)})
        return
    typer.echo(f"Written: {', '.join(shell_word(file) for file in files)}")
    for note in written.notes:
        typer.echo(wrapped(f"- {note}"))
