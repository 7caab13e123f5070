"""Searches that the hub does in one round trip: texts or vectors up, hits with text and metadata down."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.backends.base import Filter
from deepmemory.data import Hit
from deepmemory.explanation import Explanation, decode_explanation
from deepmemory.hub.backend import QUERIES_AT_ONCE, filter_values, results_of
from deepmemory.hub.connection import Effect, HubConnection
from deepmemory.hub.parts import ask_in_parts
from deepmemory.hub.vectors import pack

__all__ = ["explain", "search", "search_words"]


def search(
    connection: HubConnection,
    queries: Sequence[str] | None,
    vectors: NDArray[np.float32] | None,
    k: int,
    *,
    with_layer: bool,
    filter: Filter | None,
) -> list[list[Hit]]:
    """Find the documents nearest to each query.

    Args:
        connection: to the dataset.
        queries: texts, which the hub embeds where there are no vectors, and searches for by words where the layer
            trusts them.
        vectors: ``(n, dimensions)`` float32, of the queries.
        k: hits a query.
        with_layer: whether the active layer, if there is one, has its part.
        filter: metadata that hits must have.
    """
    body = {"k": k, "deep_memory": with_layer, **filter_values(filter)}
    found: list[list[Hit]] = []

    def ask(part: slice) -> None:
        texts = {} if queries is None else {"queries": list(queries[part])}
        given = {} if vectors is None else {"vectors": pack(vectors[part])}
        found.extend(_hits(connection, {**body, **texts, **given}, slow=vectors is None))

    ask_in_parts(len(queries or () if vectors is None else vectors), ask, most=QUERIES_AT_ONCE)
    return found


def search_words(
    connection: HubConnection, queries: Sequence[str], k: int, *, filter: Filter | None
) -> list[list[Hit]]:
    """Find the documents that share words with each query."""
    body = {"k": k, "mode": "words", **filter_values(filter)}
    found: list[list[Hit]] = []
    ask_in_parts(
        len(queries),
        lambda part: found.extend(_hits(connection, {**body, "queries": list(queries[part])}, slow=False)),
        most=QUERIES_AT_ONCE,
    )
    return found


def explain(
    connection: HubConnection, query: str | None, vector: NDArray[np.float32] | None, k: int, *, filter: Filter | None
) -> Explanation:
    """What the hub's active layer changes in one ranking.

    Args:
        connection: to the dataset.
        query: its text, which the hub embeds where there is no vector.
        vector: ``(1, dimensions)`` float32.
        k: hits to explain.
        filter: metadata that hits must have.
    """
    asked = {**({} if query is None else {"query": query}), **({} if vector is None else {"vectors": pack(vector)})}
    body = {"k": k, **asked, **filter_values(filter)}
    reply = connection.call("POST", "/explain", body, effect=Effect.NONE, slow=vector is None)
    with connection.understood("an explanation"):
        return decode_explanation(reply)


def _hits(connection: HubConnection, body: Mapping[str, Any], *, slow: bool) -> list[list[Hit]]:
    reply = connection.call("POST", "/search", body, effect=Effect.NONE, slow=slow)
    with connection.understood("hits"):
        return [[_hit(values) for values in result["hits"]] for result in results_of(reply, body)]


def _hit(values: Mapping[str, Any]) -> Hit:
    return Hit(str(values["id"]), str(values["text"]), dict(values["metadata"]), float(values["score"]))
