"""Train on a store of a million vectors, and measure memory and time.

    python benchmarks/million.py [--documents 1000000] [--queries 5000] [--keep FOLDER]

Documents are drawn around 2,000 centres; queries are noisy copies of documents, turned by one planted rotation, so
that there is something to learn. The store is filled by one process, without a graph over the vectors (building one
for a million takes longer than all the rest), and trained by another, whose peak resident memory (all of it: engine,
vectors, training) is what is reported.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from deepmemory import Document, VectorStore
from deepmemory.backends.lance import LanceBackend

DIMENSIONS = 384
BATCH = 20_000


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to unit norm."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def documents(rng: np.random.Generator, centres: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """``(n, dim)`` unit vectors around the centres."""
    noise = rng.standard_normal((n, DIMENSIONS), dtype=np.float32) / np.sqrt(DIMENSIONS)
    return unit(centres[rng.integers(0, len(centres), n)] + np.float32(0.8) * noise)


def fill(folder: Path, n_documents: int, n_queries: int) -> dict[str, float]:
    """Make the store, and the queries beside it."""
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((2_000, DIMENSIONS), dtype=np.float32))
    skew = rng.standard_normal((DIMENSIONS, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    rotation = expm(0.9 * (skew - skew.T)).astype(np.float32)
    asked = np.sort(rng.choice(n_documents, n_queries, replace=False))
    queries, started = [], time.perf_counter()
    VectorStore(folder / "store", embedder=None).close()
    with closing(LanceBackend(str(folder / "store"), index_threshold=n_documents + 1)) as backend:
        for start in range(0, n_documents, BATCH):
            vectors = documents(rng, centres, min(BATCH, n_documents - start))
            ids = [f"d{start + row:07d}" for row in range(len(vectors))]
            backend.upsert([Document(id, f"document {id}") for id in ids], vectors)
            here = asked[(asked >= start) & (asked < start + len(vectors))] - start
            noise = rng.standard_normal((len(here), DIMENSIONS), dtype=np.float32) / np.sqrt(DIMENSIONS)
            queries.append(unit((vectors[here] + np.float32(0.4) * noise) @ rotation))
            print(
                f"{start + len(vectors):,} of {n_documents:,} added, {time.perf_counter() - started:.0f} s",
                file=sys.stderr,
            )
    np.savez(folder / "queries.npz", vectors=np.concatenate(queries), answers=asked)
    return {"fill_seconds": time.perf_counter() - started}


def train(folder: Path) -> dict[str, object]:
    """Train on the store, in a process of its own."""
    saved = np.load(folder / "queries.npz")
    started = time.perf_counter()
    with VectorStore(folder / "store", embedder=None) as store:
        job = store.deep_memory.train(
            [f"query {row}" for row in range(len(saved["vectors"]))],
            [[(f"d{row:07d}", 1.0)] for row in saved["answers"].tolist()],
            embeddings=saved["vectors"],
            wait=True,
        )
        report = store.deep_memory.status(job, verbose=False).results
    return {
        "train_seconds": time.perf_counter() - started,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "active": report["active"],
        "lift": report["lift"],
        "baseline": report["baseline"],
        "trained": report["trained"],
    }


def main() -> None:
    """Fill in one process, train in another, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--keep", type=Path, help="folder to keep the store in, or to take it from")
    parser.add_argument("--step", choices=["all", "fill", "train"], default="all")
    chosen = parser.parse_args()
    if chosen.step == "fill":
        print(json.dumps(fill(chosen.keep, chosen.documents, chosen.queries)))
    elif chosen.step == "train":
        print(json.dumps(train(chosen.keep)))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = chosen.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            result: dict[str, object] = {"n_documents": chosen.documents, "n_queries": chosen.queries}
            for step in ("fill", "train"):
                command = [sys.executable, __file__, "--step", step, "--keep", str(folder)]
                command += ["--documents", str(chosen.documents), "--queries", str(chosen.queries)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                result |= json.loads(done.stdout.splitlines()[-1])
            print(json.dumps(result))


if __name__ == "__main__":
    main()
