"""Deep Memory of a store on a hub: the hub trains, searches and measures; here it is asked, watched and printed."""

import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.artifacts import LayerInfo, SavedLayer, decode_layer
from deepmemory.data import LabelledQueries
from deepmemory.diagnosis import Diagnosis, HeldOutQueries, decode_diagnosis
from deepmemory.embedders import Embedder
from deepmemory.errors import ArtifactError, Cancelled, DeepMemoryError, JobError
from deepmemory.evaluation import Evaluation, decode_evaluation
from deepmemory.exporting import QueryMap
from deepmemory.hub.address import HubAddress
from deepmemory.hub.backend import HubBackend
from deepmemory.hub.connection import Effect, HubConnection
from deepmemory.hub.embedder import HubEmbedder
from deepmemory.hub.jobs import HubJobs
from deepmemory.hub.vectors import pack
from deepmemory.jobs import Job
from deepmemory.memory import DeepMemory, EvaluationRequest, GivenQueries, HistoryEntry, embed_checked, embed_held_out
from deepmemory.progress import Progress
from deepmemory.state import replace_file
from deepmemory.transform import Layer

__all__ = ["HubDeepMemory"]

_LAYER_NAME_CHARACTERS = 80
_log = logging.getLogger(__name__)


class HubDeepMemory(DeepMemory):
    """Deep Memory of a dataset on a hub; `DeepMemory` says what the methods do."""

    def __init__(
        self, connection: HubConnection, backend: HubBackend, embedder: Embedder | None, *, read_only: bool
    ) -> None:
        """Take what the hub learns for a dataset.

        Args:
            connection: to the dataset.
            backend: its documents.
            embedder: turns queries into vectors; a `HubEmbedder` where the hub does it on the way.
            read_only: refuse every change before anything is sent.
        """
        super().__init__(embedder, location=connection.path, read_only=read_only)
        self._connection = connection
        self._backend = backend
        self._jobs = HubJobs(connection)
        self._loaded: tuple[LayerInfo, Layer] | None = None

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Wait for a job of any process to end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        job = _last(self._jobs.follow(job_id, deadline))
        if not job.is_finished:
            raise JobError(f"job {job_id} is still {job.state} after {timeout:g} seconds; it goes on")
        return job

    def models(self) -> list[str]:
        """Names of the saved layers, oldest first; also of those that did not pass the gate."""
        return [info.name for info in self._layers()[0]]

    def model_info(self, name: str) -> LayerInfo:
        """What is known of a saved layer, its training report among it."""
        return self._info(self._connection.call("GET", f"/layers/{_checked_name(name)}", effect=Effect.NONE))

    def get_model(self) -> str | None:
        """Name of the active layer; None where searches go untransformed."""
        return self._layers()[1]

    def export_model(self, name: str, path: str | Path) -> None:
        """Write a saved layer to a file, once its checksum was verified."""
        data, _ = self._downloaded(name)
        replace_file(Path(path), data)

    @property
    def layer(self) -> Layer | None:
        """The active layer, downloaded and verified once; None where searches go untransformed."""
        infos, active = self._layers()
        info = next((info for info in infos if info.name == active), None)
        if info is None:
            return None
        if self._loaded is None or self._loaded[0] != info:
            self._loaded = info, self._downloaded(info.name)[1].layer
        return self._loaded[1]

    @property
    def history(self) -> list[HistoryEntry]:
        """The queries that were trained on and evaluated, oldest first."""
        reply = self._connection.call("GET", "/history", effect=Effect.NONE)
        with self._connection.understood("the history"):
            return [_history_entry(values) for values in reply["entries"]]

    def _known_ids(self, ids: Sequence[str]) -> set[str]:
        return self._backend.known_ids(ids)

    def _dimensions(self) -> int | None:
        return None

    def _start(self, given: GivenQueries, seed: int, progress: Progress | None, *, words: bool, wait: bool) -> str:
        vectors, _ = self._query_vectors(given)
        own_embedder = given.by_own_embedder and vectors is not None
        body = {**_asked(given, vectors), "seed": int(seed), "words": bool(words), "own_embedder": own_embedder}
        if given.labelled.made:
            body["made"] = list(given.labelled.made)
        # The key makes the hub start one job however often this is sent.
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        reply = self._connection.call("POST", "/jobs", body, effect=Effect.SAME, slow=True, headers=headers)
        with self._connection.understood("a job"):
            job_id = str(reply["id"])
        if progress is not None and not wait:
            name, follow = f"deepmemory-follow-{job_id}", (self._connection.address, job_id, progress)
            threading.Thread(target=_report_alone, args=follow, name=name, daemon=True).start()
        return job_id

    def _finished(self, job_id: str, progress: Progress | None) -> Job:
        if progress is None:
            return self.wait(job_id)
        return _report(self._jobs, job_id, progress)

    def _evaluate(self, given: GivenQueries, asked: EvaluationRequest, progress: Progress | None) -> Evaluation:
        vectors, seconds = self._query_vectors(given)
        total = 2 * len(given.labelled)
        if progress is not None:
            progress(0, total)
        logged = self._log_wish(asked)
        body = {
            **_asked(given, vectors),
            "top_k": [int(k) for k in asked.top_k],
            "model": asked.model,
            "seed": int(asked.seed),
            "log_queries": logged,
            "qvs_params": dict(asked.qvs_params),
            "own_embedder": given.by_own_embedder and vectors is not None,
        }
        effect = Effect.NONE if logged is False else Effect.ONCE
        reply = self._connection.call("POST", "/evaluate", body, effect=effect, slow=True)
        with self._connection.understood("an evaluation"):
            evaluation = decode_evaluation(reply)
        if progress is not None:
            progress(total, total)
        return evaluation if seconds is None else replace(evaluation, embedding_seconds=seconds)

    def _diagnose(
        self, given: GivenQueries, test: HeldOutQueries | None, seed: int, progress: Progress | None
    ) -> Diagnosis:
        vectors, _ = self._query_vectors(given)
        if given.embedder is not None and not isinstance(given.embedder, HubEmbedder):
            test = embed_held_out(given.embedder, test, None)
        total = len(given.labelled)
        if progress is not None:
            progress(0, total)
        body = {**_asked(given, vectors), **_asked_of(test), "seed": int(seed)}
        reply = self._connection.call("POST", "/diagnosis", body, effect=Effect.NONE, slow=True)
        with self._connection.understood("a diagnosis"):
            diagnosis = decode_diagnosis(reply)
        if progress is not None:
            progress(total, total)
        return diagnosis

    def _exportable(self, name: str) -> tuple[SavedLayer, QueryMap | None]:
        return self._downloaded(name)[1], None

    def _job(self, job_id: str) -> Job:
        return self._jobs.get(job_id)

    def _all_jobs(self) -> list[Job]:
        return self._jobs.all()

    def _cancel(self, job_id: str) -> bool:
        return self._jobs.cancel(job_id)

    def _delete(self, job_id: str) -> bool:
        return self._jobs.delete(job_id)

    def _set_model(self, name: str | None) -> None:
        self._connection.call("PUT", "/layers/active", {"layer": name}, effect=Effect.SAME)

    def _rollback(self) -> str | None:
        reply = self._connection.call("POST", "/layers/rollback", effect=Effect.ONCE)
        with self._connection.understood("the active layer"):
            return None if reply["active"] is None else str(reply["active"])

    def _import_model(self, path: str | Path) -> str:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ArtifactError(f"can't read the layer file {path}: {error.strerror or error}") from error
        decode_layer(data, str(path))
        headers = {"Content-Type": "application/octet-stream"}
        return self._info(self._connection.call("POST", "/layers", data, effect=Effect.ONCE, headers=headers)).name

    def _log_wish(self, asked: EvaluationRequest) -> bool | None:
        """Whether the hub is to log the queries; None where it is to if the token may write."""
        if self._read_only or not asked.is_logged:
            return False
        return True if asked.qvs_params.get("log_queries") else None

    def _query_vectors(self, given: GivenQueries) -> tuple[NDArray[np.float32] | None, float | None]:
        """The queries' vectors and, where they are made here, the seconds that took; none where the hub makes them."""
        if given.vectors is not None or isinstance(given.embedder, HubEmbedder):
            return given.vectors, None
        assert given.embedder is not None
        begun = time.perf_counter()
        vectors = embed_checked(given.embedder, given.labelled, None)
        return vectors, time.perf_counter() - begun

    def _layers(self) -> tuple[list[LayerInfo], str | None]:
        reply = self._connection.call("GET", "/layers", effect=Effect.NONE)
        with self._connection.understood("layers"):
            values, active = list(reply["layers"]), reply["active"]
        return [self._info(each) for each in values], active

    def _downloaded(self, name: str) -> tuple[bytes, SavedLayer]:
        data = self._connection.send("GET", f"/layers/{_checked_name(name)}/file", effect=Effect.NONE).content
        return data, decode_layer(data, f"layer {name} of {self._location}")

    def _info(self, values: Mapping[str, Any]) -> LayerInfo:
        with self._connection.understood("a layer"):
            return LayerInfo(**{key: values[key] for key in LayerInfo.__dataclass_fields__})


def _report(jobs: HubJobs, job_id: str, progress: Progress) -> Job:
    """Follow a job and report on it; `Cancelled` raised by whom it is reported to cancels it."""
    for job in jobs.follow(job_id):
        if not job.is_finished or job.progress == 1:
            try:
                progress(round(job.progress * 1000), 1000)
            except Cancelled:
                jobs.cancel(job_id)
    return job


def _report_alone(address: HubAddress, job_id: str, progress: Progress) -> None:
    """Report on a job from a thread of its own, over a connection of its own: the store may be closed meanwhile."""
    connection = HubConnection(address)
    try:
        _report(HubJobs(connection), job_id, progress)
    except DeepMemoryError as error:
        _log.warning("the progress of job %s is no longer followed: %s", job_id, error)
    finally:
        connection.close()


def _asked(given: GivenQueries, vectors: NDArray[np.float32] | None) -> dict[str, Any]:
    labelled = given.labelled
    asked: dict[str, Any] = {
        "queries": list(labelled.queries),
        "relevance": [list(map(list, pairs)) for pairs in labelled.relevance],
    }
    return asked if vectors is None else {**asked, "vectors": pack(vectors)}


def _asked_of(test: HeldOutQueries | None) -> dict[str, Any]:
    if test is None:
        return {}
    vectors = {} if test.vectors is None else {"test_vectors": pack(test.vectors)}
    return {"test_queries": list(test.texts), **vectors}


def _history_entry(values: Mapping[str, Any]) -> HistoryEntry:
    qrels = tuple({str(id): float(grade) for id, grade in pairs} for pairs in values["relevance"])
    labelled = LabelledQueries(tuple(values["queries"]), qrels, tuple(map(bool, values.get("made", ()))))
    return HistoryEntry(values["kind"], values["at"], labelled, values["details"])


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.isascii() or not name.isalnum():
        raise ArtifactError(f"there is no layer {str(name)[:_LAYER_NAME_CHARACTERS]!r}; models() lists those that are")
    return name


def _last(changes: Iterator[Job]) -> Job:
    job = next(changes)
    for change in changes:
        job = change
    return job
