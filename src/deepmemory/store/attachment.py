"""What a store is attached to: a collection that others made, whose documents stay where they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepmemory.backends import Backend
from deepmemory.backends.attaching import engine_of
from deepmemory.backends.layout import Layout
from deepmemory.store.addresses import with_secrets

__all__ = ["Attachment"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A collection of somebody else's, as it is on record.

    Attributes:
        url: where its database is, without a password.
        layout: where in it are ids, texts, vectors and metadata.
        read_only: whether its documents may only be read.
    """

    url: str
    layout: Layout
    read_only: bool = True

    @property
    def named(self) -> str:
        """The collection and where it is, for messages."""
        return f"{self.layout.collection} in {self.url}" if self.layout.collection else self.url

    @property
    def described(self) -> str:
        """The same, and what may be done with it."""
        return f"{self.named}, {'which is only read' if self.read_only else 'which may be written to'}"

    def is_same_collection(self, other: "Attachment") -> bool:
        """Whether both have the same documents with the same vectors; text and metadata may be read otherwise."""
        return self._identity == other._identity

    @property
    def _identity(self) -> tuple[Any, ...]:
        one = self.layout
        return (self.url, one.collection, one.namespace, dict(one.where), one.id, one.vector, one.distance)

    def open(self, *, read_only: bool, storage_options: Mapping[str, str] | None) -> Backend:
        """Open the collection.

        Raises:
            StorageError: it can't be reached, or is not what it was.
            MissingExtraError: its client is not installed.
        """
        url = with_secrets(self.url)
        return engine_of(url).open_attached(
            url, self.layout, read_only=read_only or self.read_only, storage_options=storage_options
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, for a store's record."""
        return {"url": self.url, "layout": self.layout.as_dict(), "read_only": self.read_only}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Attachment":
        """Read what `as_dict` wrote.

        Raises:
            KeyError: something is missing.
            TypeError: something is of another kind.
        """
        return cls(str(values["url"]), Layout.from_dict(values["layout"]), bool(values["read_only"]))
