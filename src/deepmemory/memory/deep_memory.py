"""`DeepMemory`: what a store learns from queries with known answers, wherever the work is done."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory.artifacts import LayerInfo, SavedLayer
from deepmemory.data import LabelledQueries, Relevance, check_labelled, check_vectors
from deepmemory.data.text import checked_texts
from deepmemory.diagnosis import Diagnosis, HeldOutQueries
from deepmemory.embedders import Embedder, resolve_embedder
from deepmemory.embedders.adapters import EmbeddingFunction, LangChainEmbeddings
from deepmemory.errors import ArtifactError, Cancelled, InputError, JobError, ReadOnlyError
from deepmemory.evaluation import TOP_K, Evaluation, depth_for
from deepmemory.exporting import Exported, Format, QueryMap, SqlTarget, export_saved
from deepmemory.jobs import CANCELLED, FAILED, Job
from deepmemory.memory.history import HistoryEntry
from deepmemory.memory.tables import jobs_table, status_table
from deepmemory.progress import Progress
from deepmemory.transform import Layer

__all__ = ["DeepMemory", "EmbedderSpec", "EvaluationRequest", "GivenQueries"]

EmbedderSpec: TypeAlias = str | Embedder | LangChainEmbeddings | EmbeddingFunction
"""What `resolve_embedder` makes an embedder of: a name such as ``"local"``, an object, or a function."""


@dataclass(frozen=True, eq=False)
class GivenQueries:
    """Queries with their right answers, checked, and where their vectors come from.

    Attributes:
        labelled: the queries, as they were given.
        vectors: ``(len(labelled), dimensions)`` float32 where they were given.
        embedder: makes them where they were not.
        by_own_embedder: whether the vectors are those of the store's embedder, or of none that is known.
    """

    labelled: LabelledQueries
    vectors: NDArray[np.float32] | None
    embedder: Embedder | None
    by_own_embedder: bool


@dataclass(frozen=True, eq=False)
class EvaluationRequest:
    """What an evaluation was asked to be; see `DeepMemory.evaluate`."""

    top_k: Sequence[int]
    model: str | None
    seed: int
    qvs_params: Mapping[str, Any]
    exact: bool = False

    @property
    def is_logged(self) -> bool:
        """Whether the queries go into the history."""
        return self.qvs_params.get("log_queries") is not False


class DeepMemory(ABC):
    """Trains layers for one store, keeps them with their jobs, and says what they are worth.

    `VectorStore.deep_memory` is one. Arguments are checked and tables printed here; the work is done by this process
    for a store of its own, and by the hub for a store on a hub. Everything is kept with the store and survives the
    process. Several processes may use one store at once.
    """

    def __init__(self, embedder: Embedder | None, *, location: str, read_only: bool) -> None:
        """Take what all kinds need.

        Args:
            embedder: turns queries into vectors; None where vectors are always given.
            location: the store, for messages.
            read_only: refuse everything that changes the store.
        """
        self._embedder = embedder
        self._location = location
        self._read_only = read_only

    def train(
        self,
        queries: Sequence[str],
        relevance: Relevance,
        embedding_function: EmbedderSpec | None = None,
        token: str | None = None,  # noqa: ARG002  the original's; the store has its own
        *,
        embeddings: ArrayLike | None = None,
        made: Sequence[bool] | None = None,
        words: bool = True,
        seed: int = 0,
        wait: bool = False,
        progress: Progress | None = None,
    ) -> str:
        """Start a training job. The layer is saved, and made active only where held-out queries gain from it.

        All arguments are checked before the job is made. On a store of this machine the job runs in a thread of this
        process, after those started before it; a program that comes to its end waits for its jobs; Ctrl-C cancels
        them. On a hub the hub runs it, whatever becomes of this program.

        Args:
            queries: texts; at least some dozens, better hundreds.
            relevance: for each query the ``(document id, grade)`` pairs that answer it, grades above 0.
            embedding_function: embeds the queries instead of the store's embedder; it must make the same vectors.
            token: accepted as the original's, and not used.
            embeddings: ``(len(queries), dimensions)``, the queries' vectors, where they are known already.
            made: for each query whether it was made out of its document, by a model or by extraction, and not asked by
                anybody. Made queries train the linear layer and, where there are enough asked ones, judge nothing.
            words: learn as well how far to trust the store's full-text search beside the vectors, where it has one;
                False learns on vectors alone, and searches then cost no full-text search.
            seed: of the folds; the same seed and data give the same layer.
            wait: return when the job has ended. Ctrl-C then cancels the job.
            progress: called, mostly from another thread, with thousandths of the work; `Cancelled` raised in it
                cancels.

        Returns:
            the job's id, for `status`.

        Raises:
            InputError: everything that is wrong with the arguments; nothing was changed.
            ReadOnlyError: the store was opened for reading.
            JobError: with ``wait``, the job failed.
            Cancelled: with ``wait``, the job was cancelled.
        """
        self._refuse_if_read_only("train")
        given = self._given(queries, relevance, embeddings, embedding_function, made)
        job_id = self._start(given, seed, progress, words=words, wait=wait)
        if wait:
            self._wait_as_owner(job_id, progress)
        return job_id

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
        job = self._job(job_id)
        if verbose:
            print(status_table(job))
        return job

    def list_jobs(self, debug: bool = False, *, verbose: bool = True) -> list[Job]:
        """All jobs, oldest first, printed as a table.

        Args:
            debug: print more about each.
            verbose: whether to print.
        """
        found = self._all_jobs()
        if verbose:
            print(jobs_table(found, debug=debug))
        return found

    @abstractmethod
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

    def cancel(self, job_id: str) -> bool:
        """Cancel a job, whichever process runs it.

        Returns:
            whether it is cancelled now; False where it had ended before.

        Raises:
            JobError: there is no such job.
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("cancel a job")
        return self._cancel(job_id)

    def delete(self, job_id: str) -> bool:
        """Delete a job that has ended; the layer that it saved stays.

        Raises:
            JobError: there is no such job, or it has not ended (cancel it first).
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("delete a job")
        return self._delete(job_id)

    @abstractmethod
    def models(self) -> list[str]:
        """Names of the saved layers, oldest first; also of those that did not pass the gate."""

    @abstractmethod
    def model_info(self, name: str) -> LayerInfo:
        """What is known of a saved layer, its training report among it.

        Raises:
            ArtifactError: there is none of that name, or it is damaged.
        """

    @abstractmethod
    def get_model(self) -> str | None:
        """Name of the active layer; None where searches go untransformed."""

    def set_model(self, name: str | None) -> None:
        """Choose the active layer; None makes searches go untransformed.

        Raises:
            ArtifactError: there is none of that name (the message lists those that are), it is damaged, or it was
                trained for other vectors.
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("change the active layer")
        self._set_model(name)

    def rollback(self) -> str | None:
        """Make active again what was active before; return its name (None: searches go untransformed).

        Raises:
            ArtifactError: nothing was active before.
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("change the active layer")
        return self._rollback()

    @abstractmethod
    def export_model(self, name: str, path: str | Path) -> None:
        """Write a saved layer to a file that `import_model` of any store with the same embedder can take in."""

    def export(
        self,
        path: str | Path,
        format: Format,
        *,
        model: str | None = None,
        overwrite: bool = False,
        sql: SqlTarget | None = None,
    ) -> Exported:
        """Write a layer as files that other programs apply; a note in what is returned says what they can't hold.

        Args:
            path: where to; endings are added: ``layer`` gives ``layer.py`` and ``layer.npz``.
            format: ``"numpy"``, ``"onnx"``, ``"sql"`` (PostgreSQL with pgvector) or ``"typescript"``.
            model: name of a saved layer; the active one by default.
            overwrite: replace files that are there.
            sql: names in the database; for ``"sql"`` alone.

        Raises:
            ArtifactError: there is no such layer, it is damaged, or none is active.
            InputError: the path or the names can't be used, or files are there already; nothing was written.
        """
        name = self.get_model() if model is None else model
        if name is None:
            known = ", ".join(self.models()) or "none yet: train one"
            raise ArtifactError(f"no layer of {self._location} is active; name the one to export, of: {known}")
        saved, query_map = self._exportable(name)
        return export_saved(saved, path, format, overwrite=overwrite, sql=sql, query_map=query_map)

    def import_model(self, path: str | Path) -> str:
        """Save the layer of an exported file here; return its name, for `set_model`.

        Raises:
            ArtifactError: the file is missing, damaged or no saved layer.
            ReadOnlyError: the store was opened for reading.
        """
        self._refuse_if_read_only("import a layer")
        return self._import_model(path)

    @property
    @abstractmethod
    def layer(self) -> Layer | None:
        """The active layer; None where searches go untransformed."""

    @property
    @abstractmethod
    def history(self) -> list[HistoryEntry]:
        """The queries that were trained on and evaluated, oldest first."""

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
        exact: bool = False,
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
            exact: rank all documents instead of asking the store's index, which may miss some.
            verbose: whether to print the original's lists, and what the difference is worth.
            progress: called with searches done and their number.

        Returns:
            the evaluation; as a mapping ``{"with model": {"recall@1": ...}, "without model": {...}}``, fractions.

        Raises:
            InputError: everything that is wrong with the arguments.
            ArtifactError: there is no such layer, or it is damaged.
        """
        depth_for(top_k)
        if embedding is not None and embeddings is not None:
            raise InputError("embedding and embeddings are two names for the same thing: give one of them")
        vectors = embedding if embeddings is None else embeddings
        given = self._given(queries, relevance, vectors, embedding_function)
        asked = EvaluationRequest(top_k, model, seed, dict(qvs_params or {}), exact)
        evaluation = self._evaluate(given, asked, progress)
        if verbose:
            evaluation.print()
        return evaluation

    def diagnose(
        self,
        queries: Sequence[str],
        relevance: Relevance,
        *,
        test_queries: Sequence[str] | None = None,
        embedding_function: EmbedderSpec | None = None,
        embeddings: ArrayLike | None = None,
        test_embeddings: ArrayLike | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Diagnosis:
        """Look at queries before they train, or after: what is wrong with them, why it matters, and what to do.

        Nothing is changed, and nothing goes into the history.

        Args:
            queries: texts.
            relevance: for each query the ``(document id, grade)`` pairs that answer it.
            test_queries: texts that are to measure the training, to see that none of them trains.
            embedding_function: embeds all of them instead of the store's embedder.
            embeddings: ``(len(queries), dimensions)``, the queries' vectors, where they are known already.
            test_embeddings: ``(len(test_queries), dimensions)``; where ``embeddings`` are given and these are not, test
                queries are compared by their texts alone.
            seed: draws the sample that is looked at where there are thousands of queries.
            progress: called with searches done and their number.

        Returns:
            the findings, the gravest first; prints as text, and has ``as_dict()``.

        Raises:
            InputError: everything that is wrong with the arguments.
            ArtifactError: the active layer is damaged.
        """
        held_out = None if test_queries is None else checked_texts(test_queries, "test_queries", "query")
        given = self._given(queries, relevance, embeddings, embedding_function)
        vectors = None
        if test_embeddings is not None:
            vectors = check_vectors(test_embeddings, len(held_out or ()), self._dimensions(), "test_embeddings")
        test = None if held_out is None else HeldOutQueries(held_out, vectors)
        return self._diagnose(given, test, seed, progress)

    def close(self) -> None:  # noqa: B027  jobs of a hub need no waiting for
        """Wait for the jobs that were started here and run in this process."""

    # What the kinds of stores do each in their own way, once everything was checked

    @abstractmethod
    def _known_ids(self, ids: Sequence[str]) -> set[str]:
        """Those of the distinct document ids that exist."""

    @abstractmethod
    def _dimensions(self) -> int | None:
        """Length that vectors must have; None where any will do, or who takes them will check."""

    @abstractmethod
    def _start(self, given: GivenQueries, seed: int, progress: Progress | None, *, words: bool, wait: bool) -> str:
        """Make a job and see that it runs; return its id."""

    @abstractmethod
    def _finished(self, job_id: str, progress: Progress | None) -> Job:
        """Wait for a job that was started here to end."""

    @abstractmethod
    def _evaluate(self, given: GivenQueries, asked: EvaluationRequest, progress: Progress | None) -> Evaluation:
        """Search twice and compare; log it where that is asked and allowed."""

    @abstractmethod
    def _diagnose(
        self, given: GivenQueries, test: HeldOutQueries | None, seed: int, progress: Progress | None
    ) -> Diagnosis:
        """Look at the queries; the test queries' vectors are still to be made where an embedder was given."""

    @abstractmethod
    def _exportable(self, name: str) -> tuple[SavedLayer, QueryMap | None]:
        """A saved layer, verified, and what the queries' model's vectors go through before it."""

    @abstractmethod
    def _job(self, job_id: str) -> Job: ...

    @abstractmethod
    def _all_jobs(self) -> list[Job]: ...

    @abstractmethod
    def _cancel(self, job_id: str) -> bool: ...

    @abstractmethod
    def _delete(self, job_id: str) -> bool: ...

    @abstractmethod
    def _set_model(self, name: str | None) -> None: ...

    @abstractmethod
    def _rollback(self) -> str | None: ...

    @abstractmethod
    def _import_model(self, path: str | Path) -> str: ...

    # What they share

    def _refuse_if_read_only(self, action: str) -> None:
        if self._read_only:
            raise ReadOnlyError(
                f"can't {action}: {self._location} was opened for reading; open it without read_only=True"
            )

    def _given(
        self,
        queries: Sequence[str],
        relevance: Relevance,
        embeddings: ArrayLike | None,
        embedding_function: EmbedderSpec | None,
        made: Sequence[bool] | None = None,
    ) -> GivenQueries:
        labelled = check_labelled(queries, relevance, made=made, known_ids=self._known_ids)
        if embeddings is None:
            embedder = self._embedder_for(embedding_function)
            return GivenQueries(labelled, None, embedder, by_own_embedder=embedder is self._embedder)
        vectors = check_vectors(embeddings, len(labelled), self._dimensions(), "embeddings")
        if embedding_function is not None:
            raise InputError("give embeddings or embedding_function, not both: the one makes the other")
        return GivenQueries(labelled, vectors, None, by_own_embedder=self._embedder is None)

    def _embedder_for(self, embedding_function: EmbedderSpec | None) -> Embedder:
        """What makes the queries' vectors where they are not given."""
        if embedding_function is not None:
            return resolve_embedder(embedding_function)
        if self._embedder is None:
            raise InputError(
                "this store has no embedder: give the queries' vectors as embeddings, or an embedding_function"
            )
        return self._embedder

    def _wait_as_owner(self, job_id: str, progress: Progress | None) -> None:
        try:
            job = self._finished(job_id, progress)
        except KeyboardInterrupt:
            self._cancel(job_id)
            raise
        if job.state == FAILED:
            raise JobError(f"job {job_id} failed: {job.error}")
        if job.state == CANCELLED:
            raise Cancelled(f"job {job_id} was cancelled: {job.error}")
