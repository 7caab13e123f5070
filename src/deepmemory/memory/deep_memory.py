"""`DeepMemory`: what a store learns from queries with known answers."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory import jobs
from deepmemory.artifacts import LayerArchive, LayerInfo, SavedLayer
from deepmemory.backends.base import Backend, Distance
from deepmemory.data import LabelledQueries, Relevance, check_labelled, check_vectors
from deepmemory.embedders import Embedder, Fingerprint, resolve_embedder
from deepmemory.embedders.adapters import EmbeddingFunction, LangChainEmbeddings
from deepmemory.errors import ArtifactError, Cancelled, InputError, JobError, ReadOnlyError, StorageError
from deepmemory.evaluation import TOP_K, Evaluation, depth_for, evaluate_rankings
from deepmemory.jobs import CANCELLED, FAILED, Job, JobStore
from deepmemory.memory.history import History, HistoryEntry
from deepmemory.memory.ranking import rank_both
from deepmemory.memory.tables import jobs_table, status_table
from deepmemory.memory.training_work import TrainingWork, embed_checked
from deepmemory.progress import Progress
from deepmemory.state import State
from deepmemory.transform import Layer

__all__ = ["DeepMemory", "EmbedderSpec"]

EmbedderSpec: TypeAlias = str | Embedder | LangChainEmbeddings | EmbeddingFunction
"""What `resolve_embedder` makes an embedder of: a name such as ``"local"``, an object, or a function."""

_LOOKUP_BATCH = 1_000


class DeepMemory:
    """Trains layers for one store, keeps them with their jobs, and says what they are worth.

    Everything is kept in the store's state and survives the process. Several processes may use one store at once.
    """

    def __init__(
        self,
        backend: Backend,
        embedder: Embedder | None,
        state: State,
        *,
        distance: Distance = "cosine",
        fingerprint: Callable[[], Fingerprint | None] | None = None,
        read_only: bool = False,
    ) -> None:
        """Put Deep Memory beside a collection of documents; `VectorStore.deep_memory` is one, ready to use.

        Args:
            backend: where the documents are.
            embedder: turns queries into vectors; None where vectors are always given.
            state: where layers, jobs and history are kept.
            distance: how the store compares vectors.
            fingerprint: of the embedder, where it is known already; by default it is taken when first needed.
            read_only: refuse everything that changes the store.
        """
        self._backend = backend
        self._embedder = embedder
        self._distance: Distance = distance
        self._fingerprint = fingerprint or self._taken_fingerprint
        self._read_only = read_only
        self._state = state
        self._jobs = JobStore(state)
        self._archive = LayerArchive(state)
        self._history = History(state)
        self._started: list[str] = []

    def train(
        self,
        queries: Sequence[str],
        relevance: Relevance,
        embedding_function: EmbedderSpec | None = None,
        token: str | None = None,  # noqa: ARG002  the original's; nothing leaves this machine
        *,
        embeddings: ArrayLike | None = None,
        seed: int = 0,
        wait: bool = False,
        progress: Progress | None = None,
    ) -> str:
        """Start a training job. The layer is saved, and made active only where held-out queries gain from it.

        All arguments are checked before the job is made. The job runs in a thread of this process, after those
        started before it. A program that comes to its end waits for its jobs; Ctrl-C cancels them.

        Args:
            queries: texts; at least some dozens, better hundreds.
            relevance: for each query the ``(document id, grade)`` pairs that answer it, grades above 0.
            embedding_function: embeds the queries instead of the store's embedder; it must make the same vectors.
            token: accepted as the original's, and not used.
            embeddings: ``(len(queries), dimensions)``, the queries' vectors, where they are known already.
            seed: of the folds; the same seed and data give the same layer.
            wait: return when the job has ended. Ctrl-C then cancels the job.
            progress: called from the job's thread with thousandths of the work; `Cancelled` raised in it cancels.

        Returns:
            the job's id, for `status`.

        Raises:
            InputError: everything that is wrong with the arguments; nothing was changed.
            ReadOnlyError: the store was opened for reading.
            JobError: with ``wait``, the job failed.
            Cancelled: with ``wait``, the job was cancelled.
        """
        self._refuse_if_read_only("train")
        given = check_labelled(queries, relevance, known_ids=self._known_ids)
        vectors = self._given_vectors(embeddings, len(given))
        embedder = self._embedder_for(embedding_function, vectors)
        labelled = given.merged()
        if vectors is not None:
            vectors = vectors[_first_rows(given.queries)]
        job, entry = self._new_job(given, seed)
        work = TrainingWork(
            backend=self._backend,
            archive=self._archive,
            labelled=labelled,
            vectors=vectors,
            embedder=embedder,
            fingerprint=self._fingerprint if embedder is self._embedder else _no_fingerprint,
            distance=self._distance,
            seed=seed,
            provenance={"history": entry},
        )
        self._started.append(job.id)
        jobs.start(self._jobs, job, work, progress=progress)
        if wait:
            self._wait_as_owner(job.id)
        return job.id

    def status(self, job_id: str, *, verbose: bool = True) -> Job:
        """A job as it stands, printed as the original's table.

        Args:
            job_id: as `train` returned it.
            verbose: whether to print.

        Returns:
            the job: ``state``, ``progress``, ``recall``, ``results``, ``error`` and more.

        Raises:
            JobError: there is no such job.
        """
        job = self._jobs.get(job_id)
        if verbose:
            print(status_table(job))
        return job

    def list_jobs(self, debug: bool = False, *, verbose: bool = True) -> list[Job]:
        """All jobs, oldest first, printed as a table.

        Args:
            debug: print more about each.
            verbose: whether to print.
        """
        found = list(self._jobs.list())
        if verbose:
            print(jobs_table(found, debug=debug))
        return found

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Wait for a job of any process to end.

        Args:
            job_id: as `train` returned it.
            timeout: at most this many seconds.

        Returns:
            the job, ended, in whatever state.

        Raises:
            JobError: there is no such job, or it has not ended in time (it goes on).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (job := self._jobs.get(job_id)).is_finished:
            if deadline is not None and time.monotonic() >= deadline:
                raise JobError(f"job {job_id} is still {job.state} after {timeout:g} seconds; it goes on")
            if not jobs.join(job_id, self._jobs.poll_seconds):
                time.sleep(self._jobs.poll_seconds)
        return job

    def cancel(self, job_id: str) -> bool:
        """Cancel a job, whichever process runs it.

        Returns:
            whether it is cancelled now; False where it had ended before.

        Raises:
            JobError: there is no such job.
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("cancel a job")
        return self._jobs.cancel(job_id)

    def delete(self, job_id: str) -> bool:
        """Delete a job that has ended; the layer that it saved stays.

        Raises:
            JobError: there is no such job, or it has not ended (cancel it first).
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("delete a job")
        if self._jobs.get(job_id).state == CANCELLED:
            # It is seen as cancelled at once, but may need until its next step to stop.
            jobs.join(job_id, None)
        return self._jobs.delete(job_id)

    def models(self) -> list[str]:
        """Names of the saved layers, oldest first; also of those that did not pass the gate."""
        return self._archive.names()

    def model_info(self, name: str) -> LayerInfo:
        """What is known of a saved layer, its training report among it.

        Raises:
            ArtifactError: there is none of that name, or it is damaged.
        """
        return self._archive.load(name).info

    def get_model(self) -> str | None:
        """Name of the active layer; None where searches go untransformed."""
        return self._archive.active()

    def set_model(self, name: str | None) -> None:
        """Choose the active layer; None makes searches go untransformed.

        Raises:
            ArtifactError: there is none of that name (the message lists those that are), it is damaged, or it was
                trained for other vectors.
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("change the active layer")
        if name is not None:
            self._check_fits(self._archive.load(name))
        self._archive.activate(name)

    def rollback(self) -> str | None:
        """Make active again what was active before; return its name (None: searches go untransformed).

        Raises:
            ArtifactError: nothing was active before.
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("change the active layer")
        return self._archive.rollback()

    def export_model(self, name: str, path: str | Path) -> None:
        """Write a saved layer to a file that `import_model` of any store with the same embedder can take in."""
        self._archive.export(name, path)

    def import_model(self, path: str | Path) -> str:
        """Save the layer of an exported file here; return its name, for `set_model`.

        Raises:
            ArtifactError: the file is missing, damaged or no saved layer.
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("import a layer")
        return self._archive.import_file(path).name

    @property
    def layer(self) -> Layer | None:
        """The active layer; None where searches go untransformed."""
        name = self._archive.active()
        return None if name is None else self._archive.load(name).layer

    @property
    def history(self) -> list[HistoryEntry]:
        """The queries that were trained on and evaluated, oldest first."""
        return list(self._history)

    def evaluate(  # noqa: PLR0917  the order is the original's
        self,
        relevance: Relevance,
        queries: Sequence[str],
        embedding_function: EmbedderSpec | None = None,
        embedding: ArrayLike | None = None,
        top_k: Sequence[int] = TOP_K,
        qvs_params: Mapping[str, Any] | None = None,
        *,
        embeddings: ArrayLike | None = None,
        model: str | None = None,
        seed: int = 0,
        verbose: bool = True,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Search the same queries without and with the layer, and compare.

        Args:
            relevance: for each query the ``(document id, grade)`` pairs that answer it.
            queries: texts that took no part in training; those that did are reported.
            embedding_function: embeds the queries instead of the store's embedder.
            embedding: ``(len(queries), dimensions)``, the queries' vectors, where they are known already.
            top_k: depths at which to measure recall.
            qvs_params: the original's; ``{"log_queries": False}`` keeps the queries out of the history.
            embeddings: the same as ``embedding``, by the name that `train` has for it.
            model: name of a saved layer; the active one by default.
            seed: of intervals and p-values.
            verbose: whether to print the original's lists, and what the difference is worth.
            progress: called with searches done and their number.

        Returns:
            the evaluation; as a mapping ``{"with model": {"recall@1": ...}, "without model": {...}}``, fractions.

        Raises:
            InputError: everything that is wrong with the arguments.
            ArtifactError: there is no such layer, or it is damaged.
        """
        depth = depth_for(top_k)
        labelled = check_labelled(queries, relevance, known_ids=self._known_ids)
        if embedding is not None and embeddings is not None:
            raise InputError("embedding and embeddings are two names for the same thing: give one of them")
        saved = self._saved_layer(model)
        vectors = self._given_vectors(embedding if embeddings is None else embeddings, len(labelled))
        embedder = self._embedder_for(embedding_function, vectors)
        seconds = None
        if vectors is None:
            assert embedder is not None
            begun = time.perf_counter()
            vectors = embed_checked(embedder, labelled, self._backend.dimensions)
            seconds = time.perf_counter() - begun
        baseline, trained = rank_both(
            self._backend,
            vectors,
            depth,
            layer=saved.layer if saved else None,
            distance=self._distance,
            progress=progress,
        )
        seen_ids, training_queries = self._trained_on(saved)
        evaluation = evaluate_rankings(
            labelled,
            baseline,
            trained,
            top_k=top_k,
            seen_ids=seen_ids,
            training_queries=training_queries,
            embedding_seconds=seconds,
            n_documents=self._backend.count(),
            document_text=self._texts,
            seed=seed,
        )
        self._log_evaluation(labelled, evaluation, saved, dict(qvs_params or {}))
        if verbose:
            evaluation.print()
        return evaluation

    def close(self) -> None:
        """Wait for the jobs that were started here."""
        for job_id in self._started:
            jobs.join(job_id, None)

    def _refuse_if_read_only(self, action: str) -> None:
        if self._read_only:
            raise ReadOnlyError(
                f"can't {action}: {self._state.location} was opened for reading; open it without read_only=True"
            )

    def _new_job(self, labelled: LabelledQueries, seed: int) -> tuple[Job, str]:
        """A pending job, and the name of the history's entry that has its queries."""
        entry = self._history.add("train", labelled, {"seed": seed})
        try:
            return self._jobs.create({"n_queries": len(labelled), "seed": seed, "history": entry}), entry
        except StorageError:
            self._history.remove(entry)
            raise

    def _known_ids(self, ids: Sequence[str]) -> set[str]:
        known: set[str] = set()
        for start in range(0, len(ids), _LOOKUP_BATCH):
            found = self._backend.get(ids[start : start + _LOOKUP_BATCH])
            known.update(document.id for document in found if document is not None)
        return known

    def _texts(self, ids: Sequence[str]) -> dict[str, str]:
        return {document.id: document.text for document in self._backend.get(ids) if document is not None}

    def _given_vectors(self, embeddings: ArrayLike | None, n: int) -> NDArray[np.float32] | None:
        return None if embeddings is None else check_vectors(embeddings, n, self._backend.dimensions, "embeddings")

    def _embedder_for(
        self, embedding_function: EmbedderSpec | None, vectors: NDArray[np.float32] | None
    ) -> Embedder | None:
        """What makes the queries' vectors; None where they were given."""
        if vectors is not None:
            if embedding_function is not None:
                raise InputError("give embeddings or embedding_function, not both: the one makes the other")
            return None
        if embedding_function is not None:
            return resolve_embedder(embedding_function)
        if self._embedder is None:
            raise InputError(
                "this store has no embedder: give the queries' vectors as embeddings, or an embedding_function"
            )
        return self._embedder

    def _taken_fingerprint(self) -> Fingerprint | None:
        return None if self._embedder is None else Fingerprint.of(self._embedder)

    def _check_fits(self, saved: SavedLayer) -> None:
        info, dimensions = saved.info, self._backend.dimensions
        if dimensions is not None and info.dimensions != dimensions:
            raise ArtifactError(
                f"layer {info.name} takes vectors of {info.dimensions} dimensions and the store has {dimensions}; "
                "train one here"
            )
        if info.distance != self._distance:
            raise ArtifactError(
                f"layer {info.name} was trained for the distance {info.distance} and the store has {self._distance}; "
                "train one here"
            )
        ours = self._fingerprint() if info.embedder else None
        if ours is not None and info.embedder and (said := Fingerprint.from_dict(info.embedder).difference(ours)):
            raise ArtifactError(f"layer {info.name} was trained with another embedder than the store's: {said}")

    def _wait_as_owner(self, job_id: str) -> None:
        try:
            job = self.wait(job_id)
        except KeyboardInterrupt:
            self._jobs.cancel(job_id)
            raise
        if job.state == FAILED:
            raise JobError(f"job {job_id} failed: {job.error}")
        if job.state == CANCELLED:
            raise Cancelled(f"job {job_id} was cancelled: {job.error}")

    def _saved_layer(self, name: str | None) -> SavedLayer | None:
        name = self._archive.active() if name is None else name
        return None if name is None else self._archive.load(name)

    def _trained_on(self, saved: SavedLayer | None) -> tuple[set[str] | None, tuple[str, ...]]:
        """Documents and queries that a layer was trained on; None where the documents are not known."""
        if saved is None:
            return None, ()
        entry = self._history.read(str(saved.info.report.get("history", "")))
        if entry is not None:
            return set(entry.labelled.labelled_ids), entry.labelled.queries
        return {str(id) for id in saved.layer.document_ids} or None, ()

    def _log_evaluation(
        self, labelled: LabelledQueries, evaluation: Evaluation, saved: SavedLayer | None, qvs_params: dict[str, Any]
    ) -> None:
        if self._read_only or qvs_params.get("log_queries") is False:
            return
        found = {"layer": saved and saved.info.name, "metrics": evaluation.overall.as_dict(), "qvs_params": qvs_params}
        self._history.add("evaluate", labelled, found)


def _no_fingerprint() -> None:
    return None


def _first_rows(queries: Sequence[str]) -> list[int]:
    """The row of the first appearance of each distinct query, in order."""
    first: dict[str, int] = {}
    for row, query in enumerate(queries):
        first.setdefault(query, row)
    return list(first.values())
