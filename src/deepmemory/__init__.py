"""Deep Memory: learn a small layer on the query embedding that lifts recall, on any vector store.

    store = deepmemory.VectorStore("./docs-store")
    ids = store.add(["Ice is frozen water.", ...])
    job_id = store.deep_memory.train(queries=[...], relevance=[[(ids[0], 1.0)], ...])
    store.search("what does water become when it freezes?")

Documents that are in a database already stay there: see `attach`.

The names below are imported when first used, so that ``import deepmemory`` takes milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepmemory._version import __version__
from deepmemory.errors import (
    ArtifactError,
    AuthenticationError,
    AuthorizationError,
    BadRequestError,
    Cancelled,
    CapabilityError,
    ConflictError,
    DeepMemoryError,
    EmbedderError,
    EmbedderMismatchError,
    HubError,
    HubUnavailableError,
    IngestError,
    InputError,
    JobError,
    LLMError,
    MissingExtraError,
    NewerFormatError,
    NotAStoreError,
    NotFoundError,
    OverLimitError,
    ReadOnlyError,
    StorageError,
    StoreError,
    TooLargeError,
)

if TYPE_CHECKING:
    from deepmemory.data import Document, Hit
    from deepmemory.jobs import Job
    from deepmemory.memory import DeepMemory
    from deepmemory.store import VectorStore, attach

__all__ = [
    "ArtifactError",
    "AuthenticationError",
    "AuthorizationError",
    "BadRequestError",
    "Cancelled",
    "CapabilityError",
    "ConflictError",
    "DeepMemory",
    "DeepMemoryError",
    "Document",
    "EmbedderError",
    "EmbedderMismatchError",
    "Hit",
    "HubError",
    "HubUnavailableError",
    "IngestError",
    "InputError",
    "Job",
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
    "VectorStore",
    "__version__",
    "attach",
]

_ROOMS = {
    "DeepMemory": "deepmemory.memory",
    "Document": "deepmemory.data",
    "Hit": "deepmemory.data",
    "Job": "deepmemory.jobs",
    "VectorStore": "deepmemory.store",
    "attach": "deepmemory.store",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_ROOMS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
