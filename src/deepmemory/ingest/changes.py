"""Bring chunks into a store in batches, so that the manifest always knows at least what the store holds.

Before the store is changed, the manifest is written with the chunks that are about to change marked as uncertain;
what they then are is written with the next batch, or at the end. A process that dies in between leaves no chunk that
the manifest doesn't know, and the next run finds by the marks what to do again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from deepmemory.backends.base import metadata_json
from deepmemory.data import Document
from deepmemory.ingest.manifest import Manifest, PageRecord, fingerprint
from deepmemory.ingest.target import Target
from deepmemory.progress import Progress

__all__ = ["Changes"]

_PAGES = 200
"""Pages between two writes, also where little of them changed."""


@dataclass(slots=True)
class _Batch:
    pages: dict[str, PageRecord | None] = field(default_factory=dict)
    added: list[Document] = field(default_factory=list)
    moved: list[Document] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


class Changes:
    """Collects what becomes of pages, and does it.

    Attributes:
        added: how many chunks are new.
        updated: how many have another text.
        unchanged: how many have the same text, which is not embedded again.
        removed: how many are gone.
    """

    def __init__(self, target: Target, manifest: Manifest, progress: Progress | None, *, at_once: int) -> None:
        """Take the store, what is known of it, and whom to tell of the chunks stored and known so far.

        Chunks are embedded, so many at once, between two writes of the manifest.
        """
        self._target = target
        self._manifest = manifest
        self._progress = progress
        self._at_once = at_once
        self._batch = _Batch()
        self._stored = 0
        self.added = self.updated = self.unchanged = self.removed = 0

    def put(self, key: str, record: PageRecord, chunks: Sequence[Document]) -> None:
        """Let a page be these chunks."""
        before = self._chunks_of(key)
        marks: dict[str, str | None] = {}
        for chunk in chunks:
            mark, was = _mark(chunk), before.get(chunk.id)
            marks[chunk.id] = mark
            if was == mark:
                self.unchanged += 1
            elif was is not None and _text_of(was) == _text_of(mark):
                self.unchanged += 1
                self._batch.moved.append(chunk)
            else:
                self.updated += chunk.id in before
                self.added += chunk.id not in before
                self._batch.added.append(chunk)
        self._discard([id for id in before if id not in marks])
        self._note(key, replace(record, chunks=marks))

    def keep(self, key: str, record: PageRecord) -> None:
        """Let a page's chunks be as they are."""
        chunks = self._chunks_of(key)
        self.unchanged += len(chunks)
        self._note(key, replace(record, chunks=chunks))

    def remove(self, key: str) -> None:
        """Let a page be no more."""
        self._discard(list(self._chunks_of(key)))
        self._note(key, None)

    def finish(self) -> None:
        """Do what is left to do."""
        self._do()
        self._manifest.save(self._target.state)

    def _chunks_of(self, key: str) -> Mapping[str, str | None]:
        record = self._manifest.pages.get(key)
        return record.chunks if record else {}

    def _discard(self, ids: list[str]) -> None:
        self.removed += len(ids)
        self._batch.removed += ids

    def _note(self, key: str, record: PageRecord | None) -> None:
        self._batch.pages[key] = record
        if len(self._batch.added) >= self._at_once or len(self._batch.pages) >= _PAGES:
            self._do()

    def _do(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if batch.added or batch.moved or batch.removed:
            self._mark_uncertain(batch)
            self._manifest.save(self._target.state)
            self._move(batch)
            self._add(batch.added)
            if batch.removed:
                self._target.delete(ids=batch.removed)
        for key, record in batch.pages.items():
            if record is None:
                self._manifest.pages.pop(key, None)
            else:
                self._manifest.pages[key] = record

    def _mark_uncertain(self, batch: _Batch) -> None:
        # What is to be deleted needs no mark: a chunk that is no longer in the store is found out by the next run.
        changing = {chunk.id for chunk in (*batch.added, *batch.moved)}
        for key, record in batch.pages.items():
            if record is None or changing.isdisjoint(record.chunks):
                continue
            before = self._manifest.pages.get(key, record)
            uncertain = {id: None for id in record.chunks if id in changing}
            self._manifest.pages[key] = replace(before, digest="", chunks={**self._chunks_of(key), **uncertain})

    def _move(self, batch: _Batch) -> None:
        """Store what stands beside a text anew; its vector is still right."""
        vectors = self._target.backend.get_vectors([chunk.id for chunk in batch.moved]) if batch.moved else {}
        kept = [chunk for chunk in batch.moved if chunk.id in vectors]
        batch.added += [chunk for chunk in batch.moved if chunk.id not in vectors]
        if kept:
            self._target.add(
                [chunk.text for chunk in kept],
                [chunk.metadata for chunk in kept],
                [chunk.id for chunk in kept],
                np.stack([vectors[chunk.id] for chunk in kept]),
            )

    def _add(self, chunks: list[Document]) -> None:
        if not chunks:
            return
        start = self._stored

        def tell(done: int, _: int) -> None:
            if self._progress is not None:
                self._progress(start + done, start + len(chunks) + len(self._batch.added))

        self._target.add(
            [chunk.text for chunk in chunks],
            [chunk.metadata for chunk in chunks],
            [chunk.id for chunk in chunks],
            progress=tell,
        )
        self._stored += len(chunks)


def _mark(chunk: Document) -> str:
    """What is compared of a chunk: its text, and what stands beside it."""
    return f"{fingerprint(chunk.text)}.{fingerprint(metadata_json(chunk.metadata))}"


def _text_of(mark: str) -> str:
    return mark.partition(".")[0]
