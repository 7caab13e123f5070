"""One size, measured in a process of its own, so that its peak memory is its alone.

Through `arrays` all documents are one float32 array, as `deepmemory.training.fit` takes it; the array itself is part of
the peak. Through `store` they are in a LanceDB table that another process filled, and what is trained is the store.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from benchmarks.scale.planted import Asked, Planted, Vectors
from numpy.typing import NDArray

from deepmemory import Document, VectorStore
from deepmemory.backends.lance import LanceBackend
from deepmemory.training import fit
from deepmemory.transform import Layer

__all__ = ["Cell", "Step", "Through", "measure"]

Through: TypeAlias = Literal["arrays", "store"]
Step: TypeAlias = Literal["fill", "train"]

N_TEST = 1_000
_ALONE = 1_000
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured.

    Attributes:
        documents: how many.
        queries: to learn from.
        dimensions: of the vectors.
        through: how the documents reach the training.
        seed: of the data and of the folds.
    """

    documents: int
    queries: int
    dimensions: int
    through: Through
    seed: int = 0

    @property
    def planted(self) -> Planted:
        """The data."""
        return Planted(self.documents, self.dimensions, self.seed)


def measure(cell: Cell, step: Step, folder: Path) -> dict[str, Any]:
    """Do one step of a cell; ``folder`` holds the store."""
    if step == "fill":
        return _fill(cell, folder)
    return _train_on_store(cell, folder) if cell.through == "store" else _train_on_arrays(cell)


def _fill(cell: Cell, folder: Path) -> dict[str, Any]:
    """Make the store, without a graph: to build one for a million vectors takes longer than all the rest."""
    started, done = time.perf_counter(), 0
    VectorStore(folder, embedder=None).close()
    with closing(LanceBackend(str(folder), index_threshold=cell.documents + 1)) as backend:
        for vectors in cell.planted.blocks():
            ids = [_id(done + row) for row in range(len(vectors))]
            backend.upsert([Document(id, f"document {id}") for id in ids], vectors)
            done += len(vectors)
    return {"fill_seconds": time.perf_counter() - started}


def _train_on_store(cell: Cell, folder: Path) -> dict[str, Any]:
    asked, test = cell.planted.train(cell.queries), cell.planted.test(N_TEST)
    started = time.perf_counter()
    with VectorStore(folder, embedder=None) as store:
        opened, cpu = time.perf_counter(), time.process_time()
        job = store.deep_memory.train(
            [f"query {row}" for row in range(cell.queries)],
            [[(_id(answer), 1.0)] for answer in asked.answers.tolist()],
            embeddings=asked.vectors,
            words=False,
            seed=cell.seed,
            wait=True,
        )
        seconds, cpu, peak = time.perf_counter() - opened, time.process_time() - cpu, _peak_gib()
        found = store.deep_memory.status(job, verbose=False).results
        evaluation = store.deep_memory.evaluate(
            [[(_id(answer), 1.0)] for answer in test.answers.tolist()],
            [f"test {row}" for row in range(N_TEST)],
            embeddings=test.vectors,
            top_k=[_DEPTH],
            qvs_params={"log_queries": False},
            model=found["layer"],
            verbose=False,
        )
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    recalls = {arm: evaluation[f"{arm} model"][f"recall@{_DEPTH}"] for arm in ("without", "with")}
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "fit_seconds": found["seconds"],
        "peak_gib": peak,
        "layer_mib": size / 2**20,
        "open_seconds": opened - started,
        **_what_was_chosen(found),
        "recall": recalls,
    }


def _train_on_arrays(cell: Cell) -> dict[str, Any]:
    asked, test = cell.planted.train(cell.queries), cell.planted.test(N_TEST)
    documents = np.empty((cell.documents, cell.dimensions), dtype=np.float32)
    done = 0
    for vectors in cell.planted.blocks():
        documents[done : done + len(vectors)] = vectors
        done += len(vectors)
    before, started, cpu = _peak_gib(), time.perf_counter(), time.process_time()
    result = fit(asked.vectors, documents, asked.relevance, seed=cell.seed)
    seconds, cpu, peak = time.perf_counter() - started, time.process_time() - cpu, _peak_gib()
    layer = result.layer
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "fit_seconds": result.report.seconds,
        "peak_gib": peak,
        "given_gib": before,
        "layer_mib": sum(array.nbytes for array in layer.to_arrays().values()) / 2**20,
        "transform_ms": 1000 * _one_by_one(layer.transform, test.vectors),
        "apply_ms": 1000 * _one_by_one(layer.apply, test.vectors),
        **_what_was_chosen(result.report.as_dict()),
        "recall": _recalls(cell.planted, layer, test, documents),
    }


def _recalls(planted: Planted, layer: Layer, test: Asked, documents: Vectors) -> dict[str, float]:
    plain = Layer.identity(layer.dimensions)
    ranked = {
        "without": plain.rank(test.vectors, documents, k=_DEPTH)[0],
        "with": layer.rank(test.vectors, documents, k=_DEPTH)[0],
        "ceiling": plain.rank(planted.turned_back(test.vectors), documents, k=_DEPTH)[0],
    }
    return {arm: _recall(rows, test) for arm, rows in ranked.items()}


def _recall(rows: NDArray[np.int64], test: Asked) -> float:
    return float((rows == test.answers[:, None]).any(axis=1).mean())


def _one_by_one(work: Any, vectors: Vectors) -> float:
    """Median seconds for one vector."""
    seconds = []
    for vector in vectors[:_ALONE, None]:
        started = time.perf_counter()
        work(vector)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def _what_was_chosen(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: report[name] for name in ("active", "reason", "settings", "lift", "n_documents", "n_labelled")}


def _id(number: int) -> str:
    return f"d{number:07d}"


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure one step of one cell, given as JSON, and print its figures as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell")
    parser.add_argument("step", choices=["fill", "train"])
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    cell = Cell(**json.loads(chosen.cell))
    print(f"{chosen.step} {json.dumps(asdict(cell))}", file=sys.stderr)
    print(json.dumps(measure(cell, chosen.step, chosen.folder)))


if __name__ == "__main__":
    main()
