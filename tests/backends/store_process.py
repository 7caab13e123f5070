"""One process that uses a store, as the tests of several processes start it: ``store_process.py PATH ROLE ARGUMENTS``.

It prints a line for each write that was acknowledged, and waits for a line on stdin before it begins.
"""

import sys
import time

import numpy as np

from deepmemory.backends import Backend, open_backend
from deepmemory.backends.lance import LanceBackend
from deepmemory.data import Document
from deepmemory.testing.backend_twins import DIMENSIONS

BATCH = 5


def write(backend: Backend, name: str, n_batches: int) -> None:
    """Add batches of documents of one's own, together with documents that the other writers write too."""
    for batch in range(n_batches):
        own = [Document(f"{name}-{batch}-{i}", "own", {"writer": name}) for i in range(BATCH)]
        shared = [Document(f"shared-{batch}-{i}", f"by {name}", {"writer": name}) for i in range(BATCH)]
        vectors = np.random.default_rng(batch).normal(size=(2 * BATCH, DIMENSIONS)).astype(np.float32)
        backend.upsert([*own, *shared], vectors)
        print(batch, flush=True)


def delete(backend: Backend, name: str, n_batches: int) -> None:
    """Delete, one by one, documents that are there from the start."""
    for i in range(n_batches):
        print(backend.delete(ids=[f"{name}-{i}"]), flush=True)


def optimize(backend: Backend, name: str, n_batches: int) -> None:
    for i in range(n_batches):
        backend.optimize()
        print(i, flush=True)


def read(backend: Backend, name: str, n_batches: int) -> None:
    """Check, for as long as it takes to see the given number of documents, that every look is a whole one."""
    seen = 0
    deadline = time.monotonic() + 120
    while seen < n_batches and time.monotonic() < deadline:
        ids = [i for batch in backend.batches() for i in batch.column("id").to_pylist()]
        assert len(ids) == len(set(ids)), "an id was seen twice"
        assert len(ids) >= seen, "documents were lost"
        seen = len(ids)
        query = np.ones((1, DIMENSIONS), dtype=np.float32)
        assert len(backend.search(query, 10)[0]) == 10 or seen < 10
        time.sleep(0.02)
    print(seen, flush=True)


def main() -> None:
    path, role, name, n_batches, *threshold = sys.argv[1:]
    backend = LanceBackend(path, index_threshold=int(threshold[0])) if threshold else open_backend(path, create=True)
    sys.stdin.readline()
    {"write": write, "delete": delete, "optimize": optimize, "read": read}[role](backend, name, int(n_batches))


if __name__ == "__main__":
    main()
