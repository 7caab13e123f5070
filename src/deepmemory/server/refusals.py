"""How the hub says no: one JSON shape for every error, and which status each of our exceptions has.

{"error": {"code": "input", "message": "one sentence", "problems": ["...", ...]}}
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from deepmemory import errors

__all__ = ["CODES", "Refusal", "not_found", "refusal_of"]

CODES: Mapping[str, str] = {
    "bad_request": "no JSON, a body that was cut off, another media type, no such address",
    "unauthenticated": "the token is missing, unknown, revoked or expired",
    "forbidden": "the token's scope is too small",
    "not_found": "there is no such dataset or organisation that the token may see",
    "job": "there is no such job, or it can't do what was asked in its state",
    "artifact": "there is no such layer, it is damaged, or it doesn't fit the dataset",
    "conflict": "something is there already, and is another",
    "too_large": "the body, or a list in it, is larger than this hub takes",
    "input": "what was sent is wrong; nothing was changed; problems lists everything that is",
    "embedder_mismatch": "the dataset was filled with another embedder",
    "capability": "this dataset can't do that",
    "read_only": "the dataset's documents are in a database that the hub's operator attached, and are only read",
    "over_limit": "too many requests or jobs; Retry-After says when to try again",
    "embedder": "the embedding endpoint behind the hub failed",
    "unavailable": "the hub is stopping, or its disk or database failed; Retry-After says when to try again",
    "internal": "a fault of the hub; the request's id finds it in the log",
}

_RETRY_SECONDS = 1
_PROBLEMS = 1_000
_FOLDER = re.compile(r"\S*/datasets/[0-9a-f]{32}")


class Refusal(Exception):  # noqa: N818  an answer, not a fault
    """A request that is not done.

    Attributes:
        status: of HTTP.
        body: the JSON that says why.
        headers: to be sent with it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        problems: Sequence[str] = (),
        kind: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse.

        Args:
            status: of HTTP.
            code: one of `CODES`.
            message: one sentence.
            problems: everything that is wrong, where there are several things.
            kind: name of the exception that a local store would raise.
            retry_after: seconds after which it may be tried again.
            headers: to be sent with it.
        """
        super().__init__(message)
        error: dict[str, Any] = {"code": code, "message": message}
        if problems:
            error["problems"] = list(problems[:_PROBLEMS])
        if kind:
            error["type"] = kind
        self.status = status
        self.body = {"error": error}
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))


def not_found(what: str) -> Refusal:
    """Nothing that the token may see."""
    return Refusal(404, "not_found", f"there is no {what} that this token may see")


_STATUS: tuple[tuple[type[errors.DeepMemoryError], int, str], ...] = (
    (errors.InputError, 422, "input"),
    (errors.EmbedderMismatchError, 422, "embedder_mismatch"),
    (errors.CapabilityError, 422, "capability"),
    (errors.MissingExtraError, 422, "capability"),
    (errors.ArtifactError, 422, "artifact"),
    (errors.NewerFormatError, 422, "artifact"),
    (errors.JobError, 409, "job"),
    (errors.EmbedderError, 502, "embedder"),
    (errors.NotAStoreError, 404, "not_found"),
    (errors.ReadOnlyError, 409, "read_only"),
    (errors.StorageError, 503, "unavailable"),
)


def refusal_of(error: errors.DeepMemoryError, dataset: str, database: str | None = None) -> Refusal | None:
    """How an exception is answered; None for one that is a fault of the hub.

    Args:
        error: what was raised.
        dataset: ``org/name``, which messages show instead of a folder of the hub.
        database: the address of the database that has the dataset's documents, which they don't show either.
    """
    found = next(((status, code) for kind, status, code in _STATUS if isinstance(error, kind)), None)
    if found is None:
        return None
    status, code = found
    problems = [without_places(problem, dataset, database) for problem in getattr(error, "problems", ())]
    return Refusal(
        status,
        code,
        without_places(str(error), dataset, database),
        problems=problems if len(problems) > 1 else (),
        kind=type(error).__name__,
        retry_after=_RETRY_SECONDS if status == 503 else None,
    )


def without_places(message: str, dataset: str, database: str | None = None) -> str:
    """A message with the dataset's name in place of its folder, and a word for its database: nobody's business."""
    shown = _FOLDER.sub(lambda _: dataset, message)
    return shown.replace(database, "its database") if database else shown
