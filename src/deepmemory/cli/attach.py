"""``deepmemory attach``: Deep Memory beside documents that are in a database already."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepmemory.cli.options import DEFAULT_STORE, Json, StorePath
from deepmemory.cli.output import print_json, printable, shell_word
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from deepmemory.store import VectorStore

__all__ = ["attach"]


def attach(  # noqa: PLR0917  options, which are given by name
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            envvar="DEEPMEMORY_DATABASE_URL",
            help="Where the database is; with its password, better by the variable than here.",
            show_envvar=True,
        ),
    ],
    table: Annotated[
        str | None,
        typer.Option("--table", "--collection", metavar="NAME", help="What in it has the documents."),
    ] = None,
    id: Annotated[str | None, typer.Option(metavar="COLUMN", help="What tells documents apart.")] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="What is shown.")] = None,
    vector: Annotated[str | None, typer.Option(metavar="COLUMN", help="The embedding.")] = None,
    metadata: Annotated[
        str | None,
        typer.Option(metavar="COLUMN,COLUMN", help="What filters may ask for; by default all that is left."),
    ] = None,
    metadata_json: Annotated[str | None, typer.Option(metavar="COLUMN", help="A column of JSON objects.")] = None,
    schema: Annotated[
        str | None, typer.Option(metavar="NAME", help="A schema or database within the one of the address.")
    ] = None,
    distance: Annotated[
        str | None, typer.Option(metavar="cosine|dot", help="By default as the collection's index compares.")
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC", help="What made the vectors: local or openai:MODEL; without it, there is no search by text."
        ),
    ] = None,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let documents be added and deleted, in the database itself.")
    ] = False,
    store: StorePath = DEFAULT_STORE,
    hub_data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="On a hub's machine, its data: make it a dataset of the hub.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="ORG/NAME", help="With --hub-data, the dataset.")] = None,
    as_json: Json = False,
) -> None:
    """Use documents that are in a database already, and stay there.

    Nothing is copied, and nothing in the database is made, changed or indexed. Columns that aren't named are found
    out; those that LangChain and LlamaIndex write are recognised. What is learned goes to the store, which every
    other command then takes.

      deepmemory attach postgresql://me@host/app --table chunks
      deepmemory attach chroma://localhost:8000 --collection docs
      deepmemory attach ./lancedb --vector embedding --metadata lang,year
      deepmemory attach ./deeplake-dataset --embedder local
    """
    options: dict[str, Any] = {
        "table": table,
        "id": id,
        "text": text,
        "vector": vector,
        "metadata": None if metadata is None else [name.strip() for name in metadata.split(",") if name.strip()],
        "metadata_json": metadata_json,
        "schema": schema,
        "distance": distance,
        "embedder": embedder,
        "read_only": not writable,
    }
    if (hub_data is None) != (dataset is None):
        raise InputError("--hub-data and --dataset belong together: give both, or none of them")
    if hub_data is not None and dataset is not None:
        from deepmemory.cli.serve import need_server

        need_server()
        from deepmemory.server import HubFolder, attach_dataset

        opened, place = attach_dataset(HubFolder(hub_data), dataset, url, **options), f"hub://{dataset}"
    else:
        from deepmemory.store import attach as attach_store

        opened, place = attach_store(url, path=store, **options), store
    with opened:
        found = _found(opened, place)
    if as_json:
        print_json(found)
    else:
        _print(found, place)


def _found(opened: "VectorStore", place: str) -> dict[str, Any]:
    """What there is, as JSON values."""
    attached = opened.attachment
    assert attached is not None
    summary = opened.summary()
    return {
        "store": place,
        "url": attached.url,
        "layout": attached.layout.as_dict(),
        "read_only": attached.read_only,
        "documents": summary["documents"],
        "without_vector": opened.backend.left_out,
        "dimensions": summary["dimensions"],
        "distance": summary["distance"],
        "full_text": opened.backend.capabilities.full_text,
        "embedder": summary["embedder"],
    }


def _print(found: dict[str, Any], place: str) -> None:
    layout = found["layout"]
    metadata = [*layout["metadata"], *([f"what is in {layout['metadata_json']}"] if layout["metadata_json"] else [])]
    left_out = f" ({found['without_vector']:,} rows have no vector)" if found["without_vector"] else ""
    lines = {
        "documents": f"{found['documents']:,}{left_out}",
        "in": " of ".join(part for part in (layout["collection"], found["url"]) if part),
        "id": layout["id"],
        "text": layout["text"] or "none",
        "vector": f"{layout['vector']}, {found['dimensions'] or 'no'} dimensions, compared by {found['distance']}",
        "metadata": ", ".join(metadata) or "none",
        "words": "full-text search" if found["full_text"] else "no full-text search",
        "embedder": found["embedder"] or "none: vectors are given",
        "changes": "none: the documents are only read" if found["read_only"] else "documents are added and deleted",
    }
    for name, value in lines.items():
        typer.echo(f"{name + ':':<11}{printable(str(value))}")
    named = "" if place == DEFAULT_STORE else f" --store {shell_word(place)}"
    typer.echo(f"\nWhat is learned goes to {place}. Try: deepmemory documents --limit 5{named}")
