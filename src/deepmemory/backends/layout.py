"""How a collection names its parts: ours, or one that somebody else made and that is only attached to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deepmemory.backends.base import Distance

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a collection ids, texts, vectors and metadata are.

    Names are the engine's own (of a table's columns, a payload's keys, a schema's fields), unquoted.

    Attributes:
        collection: the table, collection or dataset.
        id: what tells documents apart; values of any type are ids as text.
        vector: the embedding.
        text: what is shown; None where the collection has no text.
        metadata: what becomes a metadata key of its own name.
        metadata_json: what holds a JSON object, whose keys are metadata keys; None where nothing does.
        namespace: a schema or database within the one that the address names; None for the engine's default.
        where: fixed values that a row must have to be of this collection, by name, as for one of LangChain's
            collections that share a table.
        distance: how the collection compares vectors.
    """

    collection: str
    id: str
    vector: str
    text: str | None = None
    metadata: tuple[str, ...] = ()
    metadata_json: str | None = None
    namespace: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    distance: Distance = "cosine"

    def as_dict(self) -> dict[str, Any]:
        """The layout as JSON values, for a store's record."""
        return {**asdict(self), "metadata": list(self.metadata), "where": dict(self.where)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Layout":
        """Read what `as_dict` wrote.

        Raises:
            TypeError: a name is missing or unknown.
        """
        return cls(**{**values, "metadata": tuple(values.get("metadata", ()))})
