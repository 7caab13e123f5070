"""How Deep Lake's ways to name a store and an embedder become ours."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import deepmemory
from deepmemory.errors import NotAStoreError
from deepmemory.memory import EmbedderSpec
from deepmemory.store import RECORDED

__all__ = ["open_store", "translated_path", "whole_embedder"]

_SCHEMES = {"gcs": "gs", "gcp": "gs"}


def open_store(
    path: str,
    embedder: EmbedderSpec | None,
    *,
    read_only: bool,
    overwrite: bool,
    storage_options: Mapping[str, str] | None,
    hub: Mapping[str, Any],
) -> deepmemory.VectorStore:
    """Open a store, or make one.

    Args:
        path: in our form.
        embedder: None is the one that an existing store has on record, and none at all in a new store.
        read_only: refuse every change.
        overwrite: begin anew.
        storage_options: of a bucket.
        hub: arguments that only a path of a hub gets.
    """
    options: dict[str, Any] = {"read_only": read_only, "storage_options": storage_options}
    if path.startswith("hub://"):
        options |= hub
    if embedder is None and not overwrite:
        try:
            return deepmemory.VectorStore(path, RECORDED, create=False, **options)
        except NotAStoreError:
            if read_only:
                raise
    return deepmemory.VectorStore(path, embedder, overwrite=overwrite, **options)


def translated_path(path: str | os.PathLike[str]) -> str:
    """Our form of one of Deep Lake's paths."""
    text = os.fspath(path)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return str(Path(text).expanduser())
    # A store in memory ends with its object, whatever the name.
    return "memory://" if scheme in ("mem", "memory") else f"{_SCHEMES.get(scheme, scheme)}://{rest}"


def whole_embedder(function: EmbedderSpec) -> EmbedderSpec:
    """The embeddings object of which only a method was given: it knows queries from documents."""
    owner = getattr(function, "__self__", None)
    if all(callable(getattr(owner, name, None)) for name in ("embed_documents", "embed_query")):
        return owner  # type: ignore[return-value]
    return function
