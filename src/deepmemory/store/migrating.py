"""`migrate`: search the documents that a store has with a newer embedding model, without embedding them anew."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deepmemory.artifacts import LayerArchive
from deepmemory.data import LabelledQueries, Relevance, check_labelled
from deepmemory.data.text import shown, text_problems
from deepmemory.embedders import Embedder, Fingerprint
from deepmemory.embedders.fingerprint import PROBE_TEXT
from deepmemory.errors import (
    CapabilityError,
    EmbedderError,
    EmbedderMismatchError,
    InputError,
    MissingExtraError,
    ReadOnlyError,
)
from deepmemory.memory import EmbedderSpec
from deepmemory.memory.history import History
from deepmemory.migration import MIN_PAIRS, MapResult, encode_map, fit_map
from deepmemory.progress import Progress
from deepmemory.store.comparison import Comparison, compare
from deepmemory.store.embedder import ChosenEmbedder
from deepmemory.store.local import LocalParts
from deepmemory.store.migration_result import MigrationResult
from deepmemory.store.opening import RECORDED
from deepmemory.store.record import DocumentsBy, Migration, StoreRecord, replace_record
from deepmemory.store.sample import Sample, draw_documents
from deepmemory.store.vector_store import VectorStore

__all__ = ["migrate", "rollback_migration"]

_FOLDER = "migrations"
PAIRS = 2_000
"""Documents embedded by the new model unless asked otherwise."""


def migrate(
    store: VectorStore | str | os.PathLike[str],
    embedder: EmbedderSpec,
    *,
    pairs: int = PAIRS,
    texts: Sequence[str] | None = None,
    queries: Sequence[str] | None = None,
    relevance: Relevance | None = None,
    test_queries: Sequence[str] | None = None,
    test_relevance: Relevance | None = None,
    documents: DocumentsBy | None = None,
    dry_run: bool = False,
    force: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> MigrationResult:
    """Move a store's queries to another embedding model, of other dimensions too; documents keep their vectors.

    A sample of the documents is embedded by the new model. With the vectors that are stored these are pairs, from
    which a map is learned that lets the new model's query vectors search the old model's documents (see `fit_map`).
    Nothing is written before all of that has succeeded; then the store's record names both models, and every later
    opening embeds queries with the new one. `rollback_migration` takes it back.

    A layer that was active for the old model's queries is left off, unless the map makes the same vectors; one is
    trained for the new ones from ``queries`` and ``relevance`` or, without them, from what it was trained on.

    Args:
        store: an open store, or the path of one.
        embedder: the new one, in any form that `VectorStore` takes.
        pairs: how many documents to embed.
        texts: texts to learn from instead, for a store whose documents have none; both models embed them.
        queries: like those to come: the map is judged, and fitted more closely, where they are. No answers are needed.
        relevance: their answers, if they are known: Deep Memory is trained on them, on top of the map.
        test_queries: queries to measure on, which take no part in anything else.
        test_relevance: their answers.
        documents: how documents that are added later are embedded: ``"old"``, by the embedder that made the others, so
            that they lie exactly where they should; or ``"mapped"``, by the new one and a map, so that the old is not
            needed any more. By default old where it is made from its name and still answers, and mapped otherwise.
        dry_run: learn and measure, and change nothing.
        force: change over even where the new model finds less.
        seed: of the sample and of the folds; the same seed gives the same map.
        progress: called with (done, total).

    Returns:
        what was learned and measured; prints as text.

    Raises:
        InputError: everything that is wrong with the arguments; nothing was changed.
        CapabilityError: the store is on a hub.
        ReadOnlyError: it was opened for reading.
        EmbedderError: an embedder failed; nothing was changed.
    """
    with _opened(store) as (opened, parts):
        asked = _checked(
            parts,
            pairs=pairs,
            texts=texts,
            train=(queries, relevance),
            test=(test_queries, test_relevance),
            documents=documents,
            path=opened.path,
        )
        if not dry_run:
            _refuse_read_only(opened)
        return _Migrating(opened, parts, ChosenEmbedder(embedder), asked, dry_run, force, seed, progress).run()


def rollback_migration(store: VectorStore | str | os.PathLike[str]) -> str | None:
    """Embed queries again with the model that made the documents' vectors; the layer of that time is active again.

    Documents that were added meanwhile stay: they lie in the old model's space.

    Returns:
        the name of the old embedder; None where vectors were given.

    Raises:
        InputError: the store was not migrated.
        CapabilityError: the store is on a hub.
        ReadOnlyError: it was opened for reading.
    """
    with _opened(store) as (opened, parts):
        _refuse_read_only(opened)
        migration = parts.record.migration
        if migration is None:
            raise InputError(f"{opened.path} was not migrated: there is nothing to go back to")
        record = replace(parts.record, migration=None)
        replace_record(parts.state, record)
        archive = LayerArchive(parts.state)
        before = migration.layer_before
        archive.activate(before if before in archive.names() else None)
        parts.bind(record, RECORDED)
        return record.embedder


@contextmanager
def _opened(store: VectorStore | str | os.PathLike[str]) -> Iterator[tuple[VectorStore, LocalParts]]:
    if isinstance(store, VectorStore):
        yield store, _local(store)
        return
    if os.fspath(store).startswith("hub:"):
        raise _on_a_hub(os.fspath(store))
    with VectorStore(store, create=False) as opened:
        yield opened, _local(opened)


def _local(store: VectorStore) -> LocalParts:
    if not isinstance(store._parts, LocalParts):
        raise _on_a_hub(store.path)
    return store._parts


def _on_a_hub(path: str) -> CapabilityError:
    return CapabilityError(
        f"{path} is on a hub, and a store on a hub can't be migrated yet: open it by its own path, or fill a new one"
    )


def _refuse_read_only(store: VectorStore) -> None:
    if store._read_only:
        raise ReadOnlyError(f"can't migrate: {store.path} was opened for reading; open it without read_only=True")


@dataclass(frozen=True, eq=False)
class _Asked:
    """What was asked for, checked."""

    pairs: int
    texts: tuple[str, ...] | None
    queries: tuple[str, ...]
    train: LabelledQueries | None
    test: LabelledQueries | None
    documents: DocumentsBy | None


def _checked(
    parts: LocalParts,
    *,
    pairs: object,
    texts: object,
    train: tuple[object, object],
    test: tuple[object, object],
    documents: object,
    path: str,
) -> _Asked:
    problems: list[str] = []

    def known(ids: Sequence[str]) -> set[str]:
        return {document.id for document in parts.backend.get(ids) if document is not None}

    def labelled(queries: object, relevance: object) -> LabelledQueries | None:
        try:
            return check_labelled(queries, relevance, known_ids=known)
        except InputError as error:
            problems.extend(error.problems)
            return None

    if parts.record.migration is not None:
        problems.append(
            f"the queries of {path} were migrated to {parts.record.migration.embedder} already: go back first, with "
            "rollback_migration() or: deepmemory migrate --rollback"
        )
    if not isinstance(pairs, int | np.integer) or isinstance(pairs, bool) or pairs < MIN_PAIRS:
        problems.append(f"pairs is a whole number of {MIN_PAIRS} or more; found {shown(pairs)}")
    if documents not in (None, "old", "mapped"):
        problems.append(f"documents is 'old' or 'mapped'; found {documents!r}")
    if documents == "old" and parts.record.spec is None:
        problems.append("documents='old' needs an embedder that is made from its name, and the store's isn't")
    if train[1] is not None and train[0] is None:
        problems.append("relevance is given without its queries")
    if (test[0] is None) != (test[1] is None):
        problems.append("test_queries and test_relevance come together; one of them is missing")
    for name, values in (("texts", texts), ("queries", train[0])):
        problems += [] if values is None else text_problems(values, name, "text")
    if texts is not None and parts.embedder is None:
        problems.append("texts are embedded by both models, and this store has no embedder of its own")
    trained = labelled(*train) if train[0] is not None and train[1] is not None else None
    tested = labelled(*test) if test[0] is not None and test[1] is not None else None
    if problems:
        raise InputError(problems)
    return _Asked(
        pairs=int(pairs),  # type: ignore[call-overload]  # it is a number, or there would be a problem
        texts=None if texts is None else tuple(texts),  # type: ignore[arg-type]
        queries=() if train[0] is None else tuple(dict.fromkeys(train[0])),  # type: ignore[call-overload]
        train=trained,
        test=tested,
        documents=documents,  # type: ignore[arg-type]  # as above
    )


@dataclass(eq=False)
class _Migrating:
    """One migration: learn, measure, and only then write."""

    store: VectorStore
    parts: LocalParts
    chosen: ChosenEmbedder
    asked: _Asked
    dry_run: bool
    force: bool
    seed: int
    progress: Progress | None

    def run(self) -> MigrationResult:
        self._refuse_same_model()
        documents = self._documents()
        sample = self._sample()
        new_pairs = self.chosen.embedder.embed_documents(sample.texts, progress=self.progress)
        queries = self.chosen.embedder.embed_queries(list(self.asked.queries)) if self.asked.queries else None
        fitted = fit_map(
            new_pairs,
            sample.vectors,
            query_vectors=queries,
            n_documents=max(len(sample.texts), self.parts.backend.count()) if sample.ids else None,
            distance=self.parts.record.distance,
            seed=self.seed,
            progress=self.progress,
        )
        comparison = self._compare(fitted, sample, new_pairs)
        result = MigrationResult(
            old=self.parts.record.embedder,
            new=self.chosen.embedder.name,
            documents=documents,
            migrated=False,
            reason=self._reason(comparison),
            map=fitted.report,
            comparison=comparison,
        )
        if result.reason:
            return result
        before = self.parts.deep_memory.get_model()
        migration = self._save(fitted, result, before)
        layer, note = self._layer(migration, before)
        return replace(result, migrated=True, layer=layer, layer_note=note)

    def _refuse_same_model(self) -> None:
        old = self.parts.record.fingerprint
        if old is not None and old.matches(self.chosen.fingerprint):
            raise InputError(
                f"{self.store.path} is filled by {old.name}, and {self.chosen.embedder.name} makes the same vectors: "
                "there is nothing to migrate"
            )

    @cached_property
    def _old(self) -> Embedder | None:
        """The old embedder; None where it doesn't answer any more, which may be why the store is to leave it."""
        try:
            if self.parts.embedder is not None:
                self.parts.embedder.embed_documents([PROBE_TEXT])
        except (EmbedderError, EmbedderMismatchError, MissingExtraError):
            return None
        return self.parts.embedder

    def _documents(self) -> DocumentsBy:
        by_name = self.parts.record.spec is not None
        if self.asked.documents == "old" and self._old is None:
            raise InputError(
                f"documents='old' needs {self.parts.record.embedder}, which doesn't answer: give documents='mapped'"
            )
        return self.asked.documents or ("old" if by_name and self._old is not None else "mapped")

    def _sample(self) -> Sample:
        if self.asked.texts is None:
            return draw_documents(self.parts.backend, self.asked.pairs, self.seed, self.store.path)
        texts = list(dict.fromkeys(self.asked.texts))
        if self._old is None:
            raise InputError(
                f"texts are embedded by both models, and {self.parts.record.embedder} doesn't answer: leave them out"
            )
        return Sample((), texts, self._old.embed_documents(texts))

    def _compare(self, fitted: MapResult, sample: Sample, new_pairs: NDArray[np.float32]) -> Comparison | None:
        """Old, mapped and re-embedded on queries with answers: the test's, or else those of Deep Memory's training.

        The map has not seen answers, so that those of training queries are still fair to it.
        """
        labelled = self.asked.test or self.asked.train
        if labelled is None:
            return None
        return compare(
            self.parts.backend,
            labelled,
            fitted.map,
            old=self._old,
            new=self.chosen.embedder,
            sample=sample,
            new_vectors=new_pairs,
            distance=self.parts.record.distance,
            held_out=self.asked.test is not None,
            seed=self.seed,
        )

    def _reason(self, comparison: Comparison | None) -> str:
        """Why nothing is changed; empty where it is."""
        if self.dry_run:
            return "this was a dry run"
        if self.force or comparison is None or comparison.lift is None or comparison.lift.interval[1] >= 0:
            return ""
        return (
            f"the new model finds less here than the old one ({comparison.sentence()}); "
            "give force=True (--force) to change over all the same"
        )

    def _save(self, fitted: MapResult, result: MigrationResult, before: str | None) -> Migration:
        """Write the map, then the record that names it: the moment at which the store changes over."""
        record, state = self.parts.record, self.parts.state
        new = self.chosen.fingerprint
        probe = fitted.map.transform(self.chosen.embedder.embed_queries([PROBE_TEXT]))[0]
        mapped = Fingerprint(f"{new.name} for {record.embedder or 'given vectors'}", len(probe), probe)
        old = None if record.fingerprint is None else record.fingerprint.as_dict()
        about = {"old": old, "new": new.as_dict(), "report": result.as_dict()}
        data, number = encode_map(fitted.map, about), len(state.list(_FOLDER)) + 1
        while not state.write_new(f"{_FOLDER}/m{number}.safetensors", data):
            number += 1
        migration = Migration(
            map=f"{_FOLDER}/m{number}.safetensors",
            embedder=new.name,
            spec=self.chosen.spec,
            fingerprint=new,
            mapped=mapped,
            documents=result.documents,
            layer_before=before,
        )
        changed: StoreRecord = replace(record, migration=migration)
        replace_record(state, changed)
        self.parts.bind(changed, self.chosen)
        return migration

    def _layer(self, migration: Migration, before: str | None) -> tuple[str | None, str]:
        """See to it that the active layer is one for the queries as they are now."""
        memory, archive = self.parts.deep_memory, LayerArchive(self.parts.state)
        labelled = self.asked.train
        if before is not None:
            info = memory.model_info(before)
            if info.embedder and Fingerprint.from_dict(info.embedder).matches(migration.mapped):
                return before, f"layer {before} stays active: the map makes the same vectors"
            archive.activate(None)
            entry = History(self.parts.state).read(str(info.report.get("history", "")))
            labelled = labelled or (entry.labelled if entry is not None else None)
        if labelled is None:
            note = f"layer {before} was for the old model's queries and is off: train again" if before else ""
            return None, note
        job_id = memory.train(labelled.queries, labelled.relevance, seed=self.seed, wait=True, progress=self.progress)
        active = memory.get_model()
        reason = str((memory.status(job_id, verbose=False).results or {}).get("reason", ""))
        return active, f"Deep Memory was trained on {len(labelled):,} queries: {reason}"
