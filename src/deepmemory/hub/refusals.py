"""What a hub's refusal means here: each status and code as one of our exceptions."""

import json
from collections.abc import Mapping
from typing import Any

from deepmemory.errors import (
    ArtifactError,
    AuthenticationError,
    AuthorizationError,
    BadRequestError,
    CapabilityError,
    ConflictError,
    DeepMemoryError,
    EmbedderError,
    EmbedderMismatchError,
    HubError,
    HubUnavailableError,
    InputError,
    JobError,
    NotFoundError,
    OverLimitError,
    ReadOnlyError,
    TooLargeError,
)

__all__ = ["BY_CODE", "BY_STATUS", "refusal"]

BY_CODE: Mapping[str, type[DeepMemoryError]] = {
    "bad_request": BadRequestError,
    "unauthenticated": AuthenticationError,
    "forbidden": AuthorizationError,
    "not_found": NotFoundError,
    "job": JobError,
    "artifact": ArtifactError,
    "conflict": ConflictError,
    "too_large": TooLargeError,
    "input": InputError,
    "embedder_mismatch": EmbedderMismatchError,
    "capability": CapabilityError,
    "read_only": ReadOnlyError,
    "over_limit": OverLimitError,
    "embedder": EmbedderError,
    "unavailable": HubUnavailableError,
    "internal": HubError,
}
"""What the hub itself says."""

BY_STATUS: Mapping[int, type[HubError]] = {
    401: AuthenticationError,
    403: AuthorizationError,
    408: HubUnavailableError,
    413: TooLargeError,
    429: OverLimitError,
    502: HubUnavailableError,
    503: HubUnavailableError,
    504: HubUnavailableError,
}
"""What a proxy before the hub says, whose pages have no code; any other status is a `HubError`."""

_SHOWN = 300


def refusal(
    status: int, body: bytes, url: str, *, retry_after: str | None = None, location: str = ""
) -> DeepMemoryError:
    """The exception for a reply that is no success.

    Args:
        status: of the reply.
        body: of the reply.
        url: of the hub, for messages.
        retry_after: seconds, as the reply's header has them.
        location: where a redirect leads.
    """
    if said := _said(body):
        kind = BY_CODE.get(said["code"], BY_STATUS.get(status, HubError))
        problems = said.get("problems")
        if kind is InputError and isinstance(problems, list) and problems:
            return InputError([str(problem) for problem in problems])
        return kind(_with_wait(str(said["message"]), kind, retry_after))
    if 300 <= status < 400:
        where = f" to {location[:_SHOWN]}" if location else ""
        return HubError(f"{url} sends requests on{where}: set DEEPMEMORY_HUB_URL to the address of the hub itself")
    kind = BY_STATUS.get(status, HubError)
    return kind(
        _with_wait(
            f"what answers at {url} said {status} without a reason that a hub gives; a proxy may stand before the "
            "hub, or DEEPMEMORY_HUB_URL be another server's address",
            kind,
            retry_after,
        )
    )


def _said(body: bytes) -> dict[str, Any] | None:
    """The error that a hub described; None where it is none of a hub's."""
    try:
        said = json.loads(body)["error"]
        return said if isinstance(said["code"], str) and isinstance(said["message"], str) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _with_wait(message: str, kind: type[DeepMemoryError], retry_after: str | None) -> str:
    if kind is OverLimitError and retry_after and "try again" not in message:
        return f"{message}; try again in {retry_after[:20]} seconds"
    return message
