"""A sample of a store's documents with their vectors, drawn in one pass."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Backend
from deepmemory.errors import InputError
from deepmemory.migration import MIN_PAIRS

__all__ = ["Sample", "draw_documents"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Texts with the old model's vectors.

    Attributes:
        ids: of the documents, ascending; empty where the texts are no documents of the store.
        texts: in the same order.
        vectors: ``(len(texts), old_dim)`` float32.
    """

    ids: tuple[str, ...]
    texts: list[str]
    vectors: NDArray[np.float32]


def draw_documents(backend: Backend, n: int, seed: int, path: str) -> Sample:
    """Draw documents that have a text and a vector, each with the same probability; all of them where n are not there.

    The draw depends on ids and not on their order in the store: each id gets a random number, and the lowest n stay.

    Raises:
        InputError: there are too few, or the documents have no texts.
    """
    kept: dict[str, tuple[int, str, NDArray[np.float32]]] = {}
    total = 0
    for batch in backend.batches(text=True):
        vectors = batch.column("vector")
        rows = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
        ids, texts = batch.column("id").to_pylist(), batch.column("text").to_pylist()
        total += len(ids)
        numbers = _numbers(ids, seed)
        for row, (id, text) in enumerate(zip(ids, texts, strict=True)):
            if text and not text.isspace() and rows[row].any():
                kept[id] = (numbers[row], text, rows[row].astype(np.float32))
        if len(kept) > 2 * n:
            kept = _lowest(kept, n)
    kept = _lowest(kept, n)
    if len(kept) < MIN_PAIRS:
        raise InputError(_too_few(path, total, len(kept)))
    ids = sorted(kept)
    return Sample(tuple(ids), [kept[id][1] for id in ids], np.stack([kept[id][2] for id in ids]))


def _numbers(ids: list[str], seed: int) -> list[int]:
    import hashlib

    key = str(seed).encode()
    return [int.from_bytes(hashlib.blake2b(id.encode(), key=key, digest_size=8).digest(), "big") for id in ids]


def _lowest(
    kept: dict[str, tuple[int, str, NDArray[np.float32]]], n: int
) -> dict[str, tuple[int, str, NDArray[np.float32]]]:
    return {id: kept[id] for id in sorted(kept, key=lambda id: (kept[id][0], id))[:n]}


def _too_few(path: str, total: int, usable: int) -> str:
    if total >= MIN_PAIRS:
        return (
            f"only {usable} of the {total:,} documents in {path} have a text to embed, and a map needs at least "
            f"{MIN_PAIRS}: give texts=..., which both models embed"
        )
    return (
        f"there are {total} documents in {path}, and a map needs at least {MIN_PAIRS}, better 2,000: "
        "so few are embedded anew at once, in a new store"
    )
