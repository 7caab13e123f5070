"""Every exception that Deep Memory raises on purpose.

    DeepMemoryError
    ├── InputError                  what was passed in is wrong; lists every problem at once (also a ValueError)
    ├── MissingExtraError           an optional dependency is absent; names the pip command (also an ImportError)
    ├── StoreError                  a store can't be opened or used
    │   ├── NotAStoreError          the folder exists and is something else, or nothing is there
    │   ├── NewerFormatError        written by a newer version of Deep Memory
    │   ├── EmbedderMismatchError   the store was filled with another embedder
    │   ├── ReadOnlyError           a change was asked of what is only read
    │   ├── StorageError            the disk, bucket or database behind the store refused or failed
    │   └── HubError                a Deep Memory hub refused or failed, or what answered is none
    │       ├── AuthenticationError     the token is missing, unknown, expired or revoked
    │       ├── AuthorizationError      the token's scope (read, write, admin) is too small
    │       ├── BadRequestError         the hub could not read the request
    │       ├── ConflictError           what is to be made is there already, otherwise
    │       ├── NotFoundError           there is no such dataset that this token may see (also a NotAStoreError)
    │       ├── OverLimitError          too many requests at once; says when to try again
    │       ├── TooLargeError           the request is larger than the hub takes
    │       └── HubUnavailableError     the hub can't be reached, did not answer in time, or is shutting down
    ├── CapabilityError             this backend can't do what was asked
    ├── EmbedderError               an embedding model or endpoint failed or answered nonsense
    ├── LLMError                    a language model or its endpoint failed, or answered what can't be used
    ├── ArtifactError               a saved layer is missing, truncated, altered or unknown
    ├── JobError                    a training job is unknown, or can't do what was asked in its state
    ├── IngestError                 a site or folder can't be read
    ├── EngineError                 the workers that bulk work was given to can't be started, or are gone
    └── Cancelled                   a long operation stopped because it was asked to

Messages are one clear sentence: what was expected, what was found, what to do.
"""

from collections.abc import Sequence

__all__ = [
    "ArtifactError",
    "AuthenticationError",
    "AuthorizationError",
    "BadRequestError",
    "Cancelled",
    "CapabilityError",
    "ConflictError",
    "DeepMemoryError",
    "EmbedderError",
    "EmbedderMismatchError",
    "EngineError",
    "HubError",
    "HubUnavailableError",
    "IngestError",
    "InputError",
    "JobError",
    "LLMError",
    "MissingExtraError",
    "NewerFormatError",
    "NotAStoreError",
    "NotFoundError",
    "OverLimitError",
    "ReadOnlyError",
    "StorageError",
    "StoreError",
    "TooLargeError",
]

_SHOWN_PROBLEMS = 20


class DeepMemoryError(Exception):
    """The root: catch it to catch everything that Deep Memory raises on purpose."""


class InputError(DeepMemoryError, ValueError):
    """What was passed in is wrong; nothing was changed.

    Attributes:
        problems: every problem found, one sentence each, in the order of the input's rows.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self._summary())

    def _summary(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        shown = self.problems[:_SHOWN_PROBLEMS]
        lines = [
            f"{len(self.problems)} problems in the input; nothing was changed:",
            *(f"  - {p}" for p in shown),
        ]
        if len(self.problems) > len(shown):
            lines.append(f"  ... and {len(self.problems) - len(shown)} more (see .problems)")
        return "\n".join(lines)


class MissingExtraError(DeepMemoryError, ImportError):
    """An optional dependency is absent."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional dependency that is not installed: pip install 'deepmemory[{extra}]'"
        )
        self.extra = extra
        self._feature = feature

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str]]:
        """Of what it was made, and not of its message: workers send errors from one process to another."""
        return type(self), (self._feature, self.extra)


class StoreError(DeepMemoryError):
    """A store can't be opened or used."""


class NotAStoreError(StoreError):
    """The path holds something other than a Deep Memory store, or nothing where a store was expected."""


class NewerFormatError(StoreError):
    """The store or artifact was written by a newer version of Deep Memory."""


class EmbedderMismatchError(StoreError):
    """The store was filled with another embedder than the one it was opened with."""


class ReadOnlyError(StoreError):
    """A change was asked of a store that was opened for reading only, or of documents that are somebody else's."""


class StorageError(StoreError):
    """The disk, bucket or database behind the store refused or failed."""


class HubError(StoreError):
    """A Deep Memory hub refused or failed, or what answered at its address is none."""


class AuthenticationError(HubError):
    """The token for a hub is missing, unknown, expired or revoked."""


class AuthorizationError(HubError):
    """The token is known, and its scope (read, write or admin) is too small for what was asked."""


class BadRequestError(HubError):
    """The hub could not read the request."""


class ConflictError(HubError):
    """What was to be made on the hub is there already, and otherwise than asked."""


class NotFoundError(HubError, NotAStoreError):
    """The hub has no such dataset that this token may see."""


class OverLimitError(HubError):
    """The hub takes no more requests for now; the message says when to try again."""


class TooLargeError(HubError):
    """The request is larger than the hub takes."""


class HubUnavailableError(HubError):
    """The hub can't be reached, did not answer in time, or is shutting down."""


class CapabilityError(DeepMemoryError):
    """The backend can't do what was asked; it says so rather than doing something else."""


class EmbedderError(DeepMemoryError):
    """An embedding model or endpoint failed or answered nonsense."""


class LLMError(DeepMemoryError):
    """A language model or its endpoint failed, or answered what can't be used."""


class ArtifactError(DeepMemoryError):
    """A saved layer is missing, truncated, altered or unknown."""


class JobError(DeepMemoryError):
    """A training job is unknown, or can't do what was asked of it in its state."""


class IngestError(DeepMemoryError):
    """A site or folder can't be read."""


class EngineError(DeepMemoryError):
    """The workers that bulk work was given to can't be started, are gone, or die of it."""


class Cancelled(DeepMemoryError):  # noqa: N818  it is a state that was asked for, not an error
    """A long operation stopped because it was asked to; what it had not finished left no trace."""
