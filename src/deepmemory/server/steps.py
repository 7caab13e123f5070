"""The three steps of a training on a hub, each of which finds in the dataset's state what the one before has made."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.artifacts import LayerArchive, LayerInfo, decode_layer, encode_layer
from deepmemory.embedders import Fingerprint
from deepmemory.errors import StorageError
from deepmemory.jobs import DurableJobStore, DurableRun
from deepmemory.memory.history import History
from deepmemory.memory.training_work import Learned, TrainingWork
from deepmemory.server.datasets import Dataset
from deepmemory.server.registry import Registry

__all__ = ["Steps", "layer_blob", "npy", "queries_blob"]


class Steps:
    """The steps of one training. Each finds in the dataset's state what the one before it has made."""

    def __init__(self, dataset: Dataset, run: DurableRun, registry: Registry) -> None:
        """Read what the training is to do."""
        self._run = run
        self._registry = registry
        self._state = dataset.store.state
        self._archive = LayerArchive(self._state)
        self._work = self._described(dataset)

    def _described(self, dataset: Dataset) -> TrainingWork:
        job = DurableJobStore(self._state).get(self._run.job_id)
        entry = History(self._state).read(str(job.details["history"]))
        if entry is None:
            raise StorageError("the queries of this training can't be read any more; train again")
        given = self._state.read(queries_blob(self._run.job_id))
        ours = given is None or bool(job.details.get("own_embedder"))

        def fingerprint() -> Fingerprint | None:
            # Asked for when the layer is saved: the hub's own embedding may have pinned it in the first step.
            return dataset.fingerprint() if ours else None

        return TrainingWork(
            backend=dataset.store.backend,
            archive=self._archive,
            labelled=entry.labelled.merged(),
            vectors=None if given is None else _from_npy(given),
            embedder=dataset.store.embedder,
            fingerprint=fingerprint,
            distance=dataset.store.distance,
            seed=int(job.details["seed"]),
            words=bool(job.details.get("words", True)),
            provenance={"history": str(job.details["history"])},
        )

    def embed(self) -> None:
        """Embed the queries, where their vectors did not come with them."""
        if self._work.vectors is None:
            self._state.write(queries_blob(self._run.job_id), npy(self._work.query_vectors(self._run)))

    def fit(self) -> None:
        """Gather the documents and fit."""
        blob = self._state.read(queries_blob(self._run.job_id))
        if blob is None:
            raise StorageError("the vectors of this training's queries are gone; train again")
        learned = self._work.learn(self._run, _from_npy(blob))
        info = LayerInfo("", learned.layer.dimensions, learned.layer.distance, None, "", learned.report)
        self._state.write(layer_blob(self._run.job_id), encode_layer(learned.layer, info))

    def save(self) -> str:
        """Save the layer and activate it where it passed the gate; return its name."""
        blob = self._state.read(layer_blob(self._run.job_id))
        if blob is None:
            raise StorageError("what this training has learned is gone; train again")
        saved = decode_layer(blob, "the layer that was learned")
        # A worker that was taken for dead may still be at it: then what it saves is found, and not saved again.
        with self._registry.alone(f"save {self._run.job_id}"):
            return str(self._work.save(self._run, Learned(saved.layer, saved.info.report))["layer"])

    def results(self, layer: str) -> dict[str, Any]:
        """What the job's record says of a layer that was saved."""
        return {**self._archive.load(layer).info.report, "layer": layer}


def queries_blob(job_id: str) -> str:
    """Where the vectors of a training's queries are until it has ended."""
    return f"work/{job_id}-queries.npy"


def layer_blob(job_id: str) -> str:
    """Where the layer is that it has learned and not yet saved."""
    return f"work/{job_id}-layer.safetensors"


def npy(vectors: NDArray[np.float32]) -> bytes:
    """An array as bytes."""
    file = io.BytesIO()
    np.save(file, vectors, allow_pickle=False)
    return file.getvalue()


def _from_npy(data: bytes) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
    return vectors
