"""What a migration learned, measured and did."""

from dataclasses import dataclass
from typing import Any

from deepmemory.migration import MapReport
from deepmemory.store.comparison import Comparison
from deepmemory.store.record import DocumentsBy

__all__ = ["MigrationResult"]


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """What came of `migrate`.

    Attributes:
        old: the embedder that made the documents' vectors; None where vectors were given.
        new: the embedder of queries.
        documents: how documents that are added later are embedded, ``"old"`` or ``"mapped"``.
        migrated: whether the store was changed over.
        reason: why it was not; empty where it was.
        map: how the map was chosen, and how far it agrees with re-embedding.
        comparison: recall of the old model, of the map and of re-embedding; None where no queries with answers came.
        layer: the layer that is active now.
        layer_note: what became of Deep Memory's layer; empty where there was none.
    """

    old: str | None
    new: str
    documents: DocumentsBy
    migrated: bool
    reason: str
    map: MapReport
    comparison: Comparison | None
    layer: str | None = None
    layer_note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "old": self.old,
            "new": self.new,
            "documents": self.documents,
            "migrated": self.migrated,
            "reason": self.reason,
            "map": self.map.as_dict(),
            "comparison": None if self.comparison is None else self.comparison.as_dict(),
            "layer": self.layer,
            "layer_note": self.layer_note,
        }

    def __str__(self) -> str:
        lines = [str(self.map)]
        if self.comparison is not None:
            kind = "Held-out queries" if self.comparison.held_out else "The training queries (the map saw no answers)"
            lines.append(f"{kind}: {self.comparison.sentence()}.")
        if not self.migrated:
            lines.append(f"The store is as it was: {self.reason}.")
            return "\n".join(lines)
        by = self.old if self.documents == "old" else f"{self.new} and a map"
        lines.append(
            f"Queries go through {self.new} from now on; documents keep the vectors of {self.old or 'before'}, and "
            f"those that are added are embedded by {by}."
        )
        if self.layer_note:
            lines.append(f"{self.layer_note[0].upper()}{self.layer_note[1:]}.")
        return "\n".join(lines)
