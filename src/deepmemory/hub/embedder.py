"""The embedder of a hub, as one of ours: for what needs the vectors themselves."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders import Embedder
from deepmemory.embedders.checks import check_texts, no_vectors
from deepmemory.errors import CapabilityError, NotFoundError
from deepmemory.hub.connection import Effect, HubConnection
from deepmemory.hub.vectors import unpack
from deepmemory.progress import Progress

__all__ = ["HubEmbedder"]

_TEXTS_AT_ONCE = 128


class HubEmbedder(Embedder):
    """Embeds on the hub, with the embedder that fills the dataset.

    Adding and searching don't need it: they send texts, and the hub embeds them on the way.
    """

    def __init__(self, connection: HubConnection, name: str, dimensions: int | None) -> None:
        """Take a dataset for which the hub can embed.

        Args:
            connection: to the dataset.
            name: of the embedder.
            dimensions: of its vectors; None where nothing was embedded yet.
        """
        self._connection = connection
        self._name = name
        self._dimensions = dimensions

    @property
    def name(self) -> str:
        """The name of the hub's embedder."""
        return self._name

    @property
    def dimensions(self) -> int | None:
        """Length of the vectors; None where nothing was embedded yet."""
        return self._dimensions

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents on the hub."""
        return self._embed(texts, "documents", progress)

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries on the hub."""
        return self._embed(texts, "queries", progress)

    def _embed(
        self, texts: Sequence[str], kind: Literal["documents", "queries"], progress: Progress | None
    ) -> NDArray[np.float32]:
        checked = check_texts(texts)
        parts: list[NDArray[np.float32]] = []
        for start in range(0, len(checked), _TEXTS_AT_ONCE):
            part = checked[start : start + _TEXTS_AT_ONCE]
            vectors = self._asked({"texts": part, "kind": kind}, len(part))
            self._dimensions = vectors.shape[1]
            parts.append(vectors)
            if progress is not None:
                progress(start + len(part), len(checked))
        return np.concatenate(parts) if parts else no_vectors(self._dimensions)

    def _asked(self, body: dict[str, object], n: int) -> NDArray[np.float32]:
        try:
            reply = self._connection.call("POST", "/embed", body, effect=Effect.NONE, slow=True)
        except NotFoundError as error:
            raise CapabilityError(
                f"the hub doesn't give out vectors of texts for {self._connection.path}: open the store with an "
                "embedder of this machine"
            ) from error
        with self._connection.understood("vectors"):
            vectors = unpack(reply["vectors"])
            if len(vectors) != n:
                raise ValueError(f"{len(vectors)} vectors for {n} texts")
        return vectors
