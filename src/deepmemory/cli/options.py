"""The options that several commands share, so that a thing has the same name everywhere."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["DEFAULT_STORE", "Engine", "Json", "Queries", "Seed", "Split", "StorePath", "Words"]

DEFAULT_STORE = "./deepmemory-store"

StorePath: TypeAlias = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="DEEPMEMORY_STORE",
        metavar="PATH",
        help="Where the store is: a folder, s3://bucket/prefix, or hub://org/name (DEEPMEMORY_TOKEN).",
        show_envvar=True,
    ),
]

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

Queries: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--queries",
        metavar="FILE",
        help="Questions with their answers: JSON Lines, CSV, a LlamaIndex dataset or a BEIR folder.",
    ),
]

Split: TypeAlias = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Of a BEIR folder, the part to read: train, test ..."),
]

Words: TypeAlias = Annotated[
    bool,
    typer.Option("--words/--no-words", help="Learn how far to trust full-text search beside the vectors, or not."),
]

Engine: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--engine",
        envvar="DEEPMEMORY_ENGINE",
        metavar="NAME",
        help="Where bulk work is done: in-process, ray (RAY_ADDRESS, or this machine), ray:N for N workers. "
        "[in-process]",
        show_envvar=True,
    ),
]

Seed: TypeAlias = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Same seed, same result.")]
