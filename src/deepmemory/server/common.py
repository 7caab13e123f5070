"""What the hub's endpoints share."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

from fastapi import Header, Path, Request, Response

from deepmemory.errors import InputError
from deepmemory.server import replies
from deepmemory.server.datasets import Dataset
from deepmemory.server.refusals import Refusal, not_found
from deepmemory.server.registry import check_name
from deepmemory.server.route import JSON, asker, hub_of

__all__ = [
    "ERRORS",
    "IdempotencyKey",
    "Name",
    "Org",
    "bounded",
    "check_org",
    "dataset_of",
    "known_layer",
    "note_queries",
    "reply",
]

_EXAMPLE = "acme"

Org: TypeAlias = Annotated[str, Path(description="The organisation.", examples=[_EXAMPLE])]
Name: TypeAlias = Annotated[str, Path(description="The dataset.", examples=["docs"])]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Drawn anew for each request and sent again when it is retried: it is then done once.",
    ),
]

_SAID = {
    400: "The request can't be read.",
    401: "The token is missing, unknown, revoked or expired.",
    403: "The token's scope is too small.",
    404: "There is nothing of that name that the token may see.",
    405: "That address has other methods.",
    409: "It can't be done in the state that things are in.",
    412: "It is there already.",
    413: "The body, or a list in it, is too large.",
    415: "The body has another media type.",
    422: "What was sent is wrong; nothing was changed.",
    429: "Too many requests or jobs.",
    500: "The hub failed.",
    502: "The embedding endpoint behind the hub failed.",
    503: "The hub is stopping, or its disk failed.",
}
_EXAMPLE_ERROR = {
    "error": {
        "code": "input",
        "message": "2 problems in the input; nothing was changed: ...",
        "problems": ["documents[0].text: the text is empty.", "documents[3].id: the id is used already."],
        "type": "InputError",
    }
}

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "model": replies.ErrorReply,
        "description": description,
        "content": {JSON: {"example": _EXAMPLE_ERROR}} if status == 422 else {},
    }
    for status, description in _SAID.items()
}
"""The error replies that every endpoint may give."""


def reply(content: Any, status: int = 200) -> Response:
    """A JSON reply, made here in the worker's thread."""
    return Response(json.dumps(content, ensure_ascii=False, allow_nan=False), status, media_type=JSON)


def check_org(request: Request, org: str) -> str:
    """The organisation of an address, where it is the token's own."""
    org = check_name(org, "an organisation")
    if org != asker(request).org:
        raise not_found(f"organisation {org}")
    return org


def dataset_of(request: Request, org: str, name: str) -> Dataset:
    """The dataset of an address, open.

    Raises:
        Refusal: there is none that the token may see.
    """
    dataset = hub_of(request).datasets.find(asker(request).org, org, name)
    request.state.dataset, request.state.database = dataset.path, dataset.database
    return dataset


def bounded(n: int, most: int, what: str) -> None:
    """Refuse a list that is too long.

    Raises:
        Refusal: it is.
    """
    if n > most:
        raise Refusal(413, "too_large", f"a request may have {most:,} {what} here; found {n:,}: send fewer at once")


def known_layer(dataset: Dataset, name: str) -> str:
    """The name of a layer that is there.

    Raises:
        Refusal: it isn't.
    """
    names = dataset.store.deep_memory.models()
    if name not in names:
        known = ", ".join(names) or "none yet: train one"
        raise Refusal(
            404,
            "artifact",
            f"there is no layer {name[:80]!r} in {dataset.path}; the layers are: {known}",
            kind="ArtifactError",
        )
    return name


def note_queries(request: Request, queries: Sequence[str] | None) -> None:
    """Let the log show the queries, where that was asked for."""
    if queries and hub_of(request).settings.log_queries:
        request.state.queries = list(queries[:10])


def own_embedder(dataset: Dataset, otherwise: str) -> Any:
    """What the hub embeds with for a dataset.

    Raises:
        InputError: it can't.
    """
    if dataset.embeds and dataset.store.embedder is not None:
        return dataset.store.embedder
    record = dataset.record.embedder
    why = "it has no embedder" if record is None else f"its embedder {record} is not one that this hub runs"
    raise InputError(f"this hub can't embed for {dataset.path} ({why}): send {otherwise}")
