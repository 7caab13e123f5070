"""The documents of a dataset on a hub, by the contract of every backend."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from deepmemory.backends.base import (
    Backend,
    Capabilities,
    Distance,
    Filter,
    Ranking,
    VectorArray,
    check_dimensions,
)
from deepmemory.backends.filters import metadata_terms, read_filter
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, HubUnavailableError, InputError, ReadOnlyError
from deepmemory.hub.connection import Effect, HubConnection
from deepmemory.hub.parts import ask_in_parts, send_in_parts
from deepmemory.hub.vectors import pack, packed_bytes, unpack

__all__ = ["QUERIES_AT_ONCE", "HubBackend", "filter_values", "results_of"]

QUERIES_AT_ONCE = 256
"""Queries sent in one search."""

_IDS_AT_ONCE = 1_000
_ARROW = "application/vnd.apache.arrow.stream"
_ARROW_END = b"\xff\xff\xff\xff\0\0\0\0"


class HubBackend(Backend):
    """Each call is one request, but for those about many documents, ids or queries, which are cut.

    So more documents than a request takes are stored whole request by request: where one fails, those before it stay,
    and a note of the error says how many.
    """

    def __init__(self, connection: HubConnection, capabilities: Capabilities, *, read_only: bool = False) -> None:
        """Take the documents of a dataset.

        Args:
            connection: to the dataset.
            capabilities: that the hub says it has.
            read_only: refuse every change before anything is sent.
        """
        self._connection = connection
        self._capabilities = capabilities
        self._read_only = read_only

    @property
    def capabilities(self) -> Capabilities:
        """What the hub can do beyond the contract, as it says itself."""
        return self._capabilities

    @property
    def dimensions(self) -> int | None:
        """Length of the vectors, asked of the hub."""
        record = self._connection.call("GET", effect=Effect.NONE)
        with self._connection.understood("the dataset"):
            return None if record["dimensions"] is None else int(record["dimensions"])

    def upsert(self, documents: Sequence[Document], vectors: VectorArray) -> None:
        """Add documents, replacing those whose id exists: all of them or, where it raises, none."""
        if len(vectors) != len(documents):
            raise InputError(f"expected {len(documents)} vectors, one for each document; found {len(vectors)}")
        for document in documents:
            metadata_terms(document.metadata)
        with self._of_one_length(vectors):
            send_in_parts(
                documents,
                lambda start, end: self.put(documents[start:end], vectors[start:end]),
                vector_bytes=packed_bytes(vectors.shape[1]),
            )

    def put(self, documents: Sequence[Document], vectors: VectorArray | None) -> None:
        """Add documents in one request, all of them or none; without vectors the hub makes them.

        Raises:
            TooLargeError: the hub takes no so large a request.
            InputError: there are no vectors, and the hub can't make them for this dataset.
        """
        self._refuse_if_read_only("add documents")
        rows = [{"id": each.id, "text": each.text, "metadata": _plain(each.metadata)} for each in documents]
        body = {"documents": rows, **({} if vectors is None else {"vectors": pack(vectors)})}
        # By id, so that a second time changes nothing.
        self._connection.call("POST", "/documents", body, effect=Effect.SAME, slow=True)

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """Fetch documents by id, in the order asked; None where there is none."""
        found: list[Document | None] = []

        def ask(part: slice) -> None:
            asked = list(ids[part])
            reply = self._connection.call("POST", "/documents/get", {"ids": asked}, effect=Effect.NONE)
            with self._connection.understood("documents"):
                documents = [None if values is None else _document(values) for values in reply["documents"]]
                if len(documents) != len(asked):
                    raise ValueError(f"{len(documents)} for {len(asked)} ids")
            found.extend(documents)

        ask_in_parts(len(ids), ask, most=_IDS_AT_ONCE)
        return found

    def get_vectors(self, ids: Sequence[str], *, filter: Filter | None = None) -> dict[str, VectorArray]:
        """Fetch the vectors of those of the ids that exist and pass the filter."""
        found: dict[str, VectorArray] = {}
        distinct, passing = list(dict.fromkeys(ids)), filter_values(filter)

        def ask(part: slice) -> None:
            body = {"ids": distinct[part], "vectors": True, "documents": False, **passing}
            reply = self._connection.call("POST", "/documents/get", body, effect=Effect.NONE)
            with self._connection.understood("vectors"):
                found.update(zip(reply["vectors"]["ids"], unpack(reply["vectors"]["values"]), strict=True))

        ask_in_parts(len(distinct), ask, most=_IDS_AT_ONCE)
        return found

    def known_ids(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that exist, without their texts."""
        known: set[str] = set()

        def ask(part: slice) -> None:
            body = {"ids": list(ids[part]), "documents": False, "vectors": False}
            reply = self._connection.call("POST", "/documents/get", body, effect=Effect.NONE)
            with self._connection.understood("ids"):
                known.update(str(values["id"]) for values in reply["documents"] if values is not None)

        ask_in_parts(len(ids), ask, most=_IDS_AT_ONCE)
        return known

    def delete(self, *, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:
        """Delete by ids, by filter or both; everything with neither."""
        self._refuse_if_read_only("delete documents")
        if ids is None:
            return self._deleted(filter_values(filter) or {"all": True})
        distinct, passing = list(dict.fromkeys(ids)), filter_values(filter)
        deleted: list[int] = []
        ask_in_parts(
            len(distinct),
            lambda part: deleted.append(self._deleted({"ids": distinct[part], **passing})),
            most=_IDS_AT_ONCE,
        )
        return sum(deleted)

    def count(self, filter: Filter | None = None) -> int:
        """How many documents there are, or pass the filter."""
        reply = self._connection.call("POST", "/documents/count", filter_values(filter), effect=Effect.NONE)
        with self._connection.understood("a count"):
            return int(reply["count"])

    def search(
        self,
        query_vectors: VectorArray,
        k: int,
        *,
        distance: Distance = "cosine",
        filter: Filter | None = None,
    ) -> list[Ranking]:
        """Rank documents by similarity for a batch of queries, without a layer."""
        body = {"k": int(k), "deep_memory": False, "distance": distance, "documents": False, **filter_values(filter)}
        if k < 1:
            return [_ranking([])] * len(query_vectors)
        rankings: list[Ranking] = []
        with self._of_one_length(query_vectors):
            ask_in_parts(
                len(query_vectors),
                lambda part: rankings.extend(self._ranked({**body, "vectors": pack(query_vectors[part])})),
                most=QUERIES_AT_ONCE,
            )
        return rankings

    def search_text(self, queries: Sequence[str], k: int, *, filter: Filter | None = None) -> list[Ranking]:
        """Rank documents by their words, where the hub's engine can."""
        if not self._capabilities.full_text:
            raise CapabilityError(f"the hub has no full-text search for {self._connection.path}")
        body = {"k": int(k), "mode": "words", "documents": False, **filter_values(filter)}
        if k < 1:
            return [_ranking([])] * len(queries)
        # One without a word finds nothing, and a hub takes no empty query.
        rows = [row for row, query in enumerate(queries) if query.strip()]
        rankings: list[Ranking] = []
        ask_in_parts(
            len(rows),
            lambda part: rankings.extend(self._ranked({**body, "queries": [queries[row] for row in rows[part]]})),
            most=QUERIES_AT_ONCE,
        )
        found = dict(zip(rows, rankings, strict=True))
        return [found.get(row) or _ranking([]) for row in range(len(queries))]

    def batches(self, *, batch_size: int = 8192, text: bool = False) -> Iterator[pa.RecordBatch]:
        """Iterate over the whole collection without holding it."""
        params = {"text": "true" if text else "false", "vectors": "true"}
        with self._connection.stream("/export", accept=_ARROW, params=params) as response, self._whole():
            body = _Body(response)
            for batch in pa.ipc.open_stream(io.BufferedReader(body)):
                for start in range(0, batch.num_rows, batch_size):
                    yield batch.slice(start, batch_size)
            if not body.is_whole:
                raise EOFError

    def optimize(self) -> None:
        """Let the hub's engine compact, and index what is not indexed yet."""
        self._refuse_if_read_only("optimize")
        self._connection.call("POST", "/optimize", effect=Effect.SAME, slow=True)

    def drop(self) -> None:
        """Remove the documents, and with them what the hub has learned from them."""
        self._refuse_if_read_only("remove everything")
        self._connection.call("POST", "/clear", effect=Effect.SAME, slow=True)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def _refuse_if_read_only(self, action: str) -> None:
        if self._read_only:
            raise ReadOnlyError(
                f"can't {action}: {self._connection.path} was opened for reading; open it without read_only=True"
            )

    def _deleted(self, body: Mapping[str, Any]) -> int:
        # A second time deletes nothing more, and would count nothing.
        reply = self._connection.call("POST", "/documents/delete", body, effect=Effect.ONCE)
        with self._connection.understood("a deletion"):
            return int(reply["deleted"])

    def _ranked(self, body: Mapping[str, Any]) -> list[Ranking]:
        reply = self._connection.call("POST", "/search", body, effect=Effect.NONE)
        with self._connection.understood("hits"):
            return [_ranking(result["hits"]) for result in results_of(reply, body)]

    @contextlib.contextmanager
    def _of_one_length(self, vectors: VectorArray) -> Iterator[None]:
        """Where the hub refuses vectors, say it as every backend does if it is for their length."""
        check_dimensions(vectors, None)
        try:
            yield
        except InputError:
            check_dimensions(vectors, self.dimensions)
            raise

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Around an export: one that was cut off, or is no Arrow stream, is no answer."""
        try:
            yield
        except (pa.ArrowInvalid, OSError, EOFError) as error:
            raise HubUnavailableError(
                f"the export of {self._connection.path} broke off before it was whole: begin it again"
            ) from error


def filter_values(filter: Filter | None) -> dict[str, Any]:
    """A filter as a part of a request's body; nothing where everything passes.

    Raises:
        InputError: it is no mapping from strings to JSON values.
    """
    read_filter(filter)
    return {"filter": _plain(filter)} if filter else {}


def results_of(reply: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results in the reply to a search, one for each query that was sent.

    Raises:
        KeyError, TypeError, ValueError: it is no such reply.
    """
    results = list(reply["results"])
    n = asked["vectors"]["shape"][0] if "vectors" in asked else len(asked["queries"])
    if len(results) != n:
        raise ValueError(f"{len(results)} results for {n} queries")
    return results


def _plain(value: Any) -> Any:
    """A filter or metadata in the types that JSON is written from."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return value


def _document(values: Mapping[str, Any]) -> Document:
    return Document(str(values["id"]), str(values["text"]), dict(values["metadata"]))


def _ranking(hits: Sequence[Mapping[str, Any]]) -> Ranking:
    scores = np.array([float(hit["score"]) for hit in hits], dtype=np.float32)
    return Ranking(tuple(str(hit["id"]) for hit in hits), scores)


class _Body(io.RawIOBase):
    """A reply's body, an Arrow stream, as a file, read as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__()
        self._chunks = response.iter_bytes()
        self._left = self._end = b""

    @property
    def is_whole(self) -> bool:
        """Whether what was read ends as an Arrow stream does; to its readers a stream may end after any batch."""
        return self._end == _ARROW_END

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            try:
                self._left = next(self._chunks)
                self._end = (self._end + self._left)[-len(_ARROW_END) :]
            except StopIteration:
                return 0
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n
