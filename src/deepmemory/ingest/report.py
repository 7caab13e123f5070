"""What an ingestion did, in numbers and sentences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["IngestReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingestion did.

    Attributes:
        source: the name under which the documents' metadata have it.
        pages_read: pages whose content came and was read.
        pages_unchanged: pages that are as they were.
        pages_removed: pages that are no more; their chunks are gone as well.
        pages_failed: pages that couldn't be read now; the chunks of those that were there before are still there.
        pages_skipped: pages that are not to be read, by the reason.
        pages_unreached: pages that are linked and that a limit left out.
        chunks_added: new documents.
        chunks_updated: documents whose text changed.
        chunks_unchanged: documents whose text is as it was; they were not embedded again.
        chunks_removed: documents that were deleted.
        problems: one sentence for each page that failed, and for what else should be known.
    """

    source: str
    pages_read: int = 0
    pages_unchanged: int = 0
    pages_removed: int = 0
    pages_failed: int = 0
    pages_skipped: Mapping[str, int] = field(default_factory=dict)
    pages_unreached: int = 0
    chunks_added: int = 0
    chunks_updated: int = 0
    chunks_unchanged: int = 0
    chunks_removed: int = 0
    problems: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all of the source was seen: no page failed, and no limit left one out."""
        return not self.pages_failed and not self.pages_unreached

    @property
    def changed(self) -> bool:
        """Whether the store is another than before."""
        return bool(self.chunks_added or self.chunks_updated or self.chunks_removed)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "problems": list(self.problems), "is_complete": self.is_complete}

    def __str__(self) -> str:
        pages = [
            f"{self.pages_read} read",
            f"{self.pages_unchanged} unchanged",
            *(f"{count} {word}" for count, word in self._exceptions() if count),
        ]
        chunks = (
            f"{self.chunks_added} added, {self.chunks_updated} updated, {self.chunks_unchanged} unchanged, "
            f"{self.chunks_removed} removed"
        )
        return f"{self.source}\n  pages: {', '.join(pages)}\n  chunks: {chunks}"

    def _exceptions(self) -> tuple[tuple[int, str], ...]:
        skipped = sum(self.pages_skipped.values())
        return (
            (self.pages_removed, "removed"),
            (self.pages_failed, "failed"),
            (skipped, "skipped"),
            (self.pages_unreached, "not reached"),
        )
