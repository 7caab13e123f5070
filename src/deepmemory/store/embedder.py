"""The embedder of a store: made when first needed, and held to the one that filled the store."""

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders import (
    CachedEmbedder,
    Embedder,
    Fingerprint,
    QueryCache,
    SpreadEmbedder,
    embed_batches,
    resolve_embedder,
)
from deepmemory.embedders.bulk import QUERIES_AT_ONCE
from deepmemory.errors import EmbedderMismatchError
from deepmemory.executors import Executor, InProcessExecutor
from deepmemory.memory import EmbedderSpec
from deepmemory.progress import Progress

__all__ = ["ChosenEmbedder", "StoreEmbedder", "refuse_other_embedder"]

_BATCHES_AT_ONCE = 16
"""Batches of queries that are kept together where several workers embed them."""


class ChosenEmbedder:
    """An embedder that someone named; its fingerprint is taken once, when first asked for.

    Attributes:
        embedder: what embeds.
        spec: what it can be made of again, such as ``"local"``; None for an object or a function.
    """

    def __init__(self, given: EmbedderSpec) -> None:
        """Make it.

        Raises:
            InputError: there is no such embedder.
            MissingExtraError: it needs a package that is not installed.
        """
        self.embedder = resolve_embedder(given)
        self.spec = given if isinstance(given, str) else None

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Its fingerprint."""
        return Fingerprint.of(self.embedder)


class StoreEmbedder(Embedder):
    """Embeds for one store.

    The first text makes the embedder, which may load a model, and compares its fingerprint with the store's; what
    needs no embedding, such as looking at jobs, never loads a model.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], ChosenEmbedder],
        recorded: Fingerprint | None,
        *,
        location: str,
        pin: Callable[[Fingerprint], None],
        cache_file: Path | None,
        executor: Executor | None = None,
    ) -> None:
        """Bind an embedder to a store.

        Args:
            name: of the embedder.
            make: makes what embeds; called once, when it is needed.
            recorded: the fingerprint of the store; None where nothing was embedded for it yet.
            location: the store, for messages.
            pin: called once with the fingerprint, where the store has none.
            cache_file: where vectors of queries are kept; None to keep none.
            executor: embeds batches of texts; None embeds in this process.
        """
        self._name = name
        self._make = make
        self._recorded = recorded
        self._location = location
        self._pin = pin
        self._cache_file = cache_file
        self._executor = executor or InProcessExecutor()
        self._ready: tuple[Embedder, Embedder] | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The name of the embedder."""
        return self._name

    @property
    def dimensions(self) -> int | None:
        """Length of the vectors; None before the first text was embedded for the store."""
        return self._recorded.dimensions if self._recorded else None

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents.

        Raises:
            EmbedderMismatchError: the store was filled with another embedder.
        """
        return self._verified()[0].embed_documents(texts, progress=progress)

    def embed_document_batches(
        self, batches: Iterable[Sequence[str]], *, progress: Progress | None = None
    ) -> Generator[NDArray[np.float32], None, None]:
        """Embed documents batch by batch, by the store's executor; see `embed_batches`.

        Raises:
            EmbedderMismatchError: the store was filled with another embedder.
        """
        return embed_batches(self._executor, self._verified()[0], batches, "documents", progress=progress)

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries, those that are not kept from before.

        Raises:
            EmbedderMismatchError: the store was filled with another embedder.
        """
        return self._verified()[1].embed_queries(texts, progress=progress)

    def fingerprint(self) -> Fingerprint | None:
        """The store's fingerprint; None before the first text was embedded for it."""
        return self._recorded

    def _verified(self) -> tuple[Embedder, Embedder]:
        """What embeds documents, and what embeds queries."""
        with self._lock:
            if self._ready is None:
                chosen = self._make()
                if self._recorded is None:
                    self._pin(chosen.fingerprint)
                    self._recorded = chosen.fingerprint
                else:
                    refuse_other_embedder(self._recorded, chosen.fingerprint, self._location)
                self._ready = (chosen.embedder, self._cached(chosen.embedder, self._recorded.key))
            return self._ready

    def _cached(self, embedder: Embedder, key: str) -> Embedder:
        spread = SpreadEmbedder(embedder, self._executor)
        if self._cache_file is None:
            return spread
        batches = 1 if isinstance(self._executor, InProcessExecutor) else _BATCHES_AT_ONCE
        return CachedEmbedder(spread, key, QueryCache(self._cache_file, at_once=batches * QUERIES_AT_ONCE))


def refuse_other_embedder(recorded: Fingerprint, found: Fingerprint, location: str) -> None:
    """Raise unless both are of one embedder.

    Raises:
        EmbedderMismatchError: naming both.
    """
    if said := recorded.difference(found):
        raise EmbedderMismatchError(
            f"{location} was filled with another embedder than {found.name}: {said}; open it with {recorded.name}, "
            "or fill a new store"
        )
