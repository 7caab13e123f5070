"""Attach to a table of PostgreSQL with a million vectors, train on it, and measure time, memory and searches.

    python benchmarks/pgvector.py [--rows 1000000] [--queries 2000] [--type halfvec] [--searches 400]

The table is somebody else's: it is filled by COPY and indexed by HNSW with plain SQL, in a server that is started for
the purpose. One more process attaches to it, read-only, trains, and searches with Deep Memory and without by turns.
Documents are drawn around one centre for 500 of them; queries are noisy copies of documents, turned by one planted
rotation, so that there is something to learn. Memory is the proportional set size of client and server together, its
peak while training; the server's buffers are part of it, the system's file cache is not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from scipy.linalg import expm

import deepmemory
from deepmemory.backends.pgvector_values import VectorTypes, encode_vectors
from deepmemory.testing import PostgresServer
from deepmemory.transform import unit_rows

DIMENSIONS = 384
BATCH = 20_000
WARMED_UP = 50
SERVER = {
    "shared_buffers": "2GB",
    "maintenance_work_mem": "3GB",
    "max_parallel_maintenance_workers": "2",
    "max_wal_size": "8GB",
    "dynamic_shared_memory_type": "mmap",  # a container's /dev/shm may be too small for building in parallel
}


def documents(rng: np.random.Generator, centres: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """``(n, DIMENSIONS)`` unit vectors around the centres."""
    noise = rng.standard_normal((n, DIMENSIONS), dtype=np.float32) / np.sqrt(DIMENSIONS)
    return unit_rows(centres[rng.integers(0, len(centres), n)] + np.float32(0.8) * noise)


def fill(url: str, rows: int, kind: str, n_queries: int) -> tuple[dict[str, float], NDArray[np.float32], NDArray[Any]]:
    """Make the table and its index; return the seconds, and queries with the rows that answer them."""
    rng = np.random.default_rng(0)
    centres = unit_rows(rng.standard_normal((max(2, rows // 500), DIMENSIONS), dtype=np.float32))
    skew = rng.standard_normal((DIMENSIONS, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    rotation = expm(skew - skew.T).astype(np.float32)
    asked = np.sort(rng.choice(rows, n_queries, replace=False))
    queries, started = [], time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection:
        types = VectorTypes.of(connection)
        assert types is not None
        types.register(connection)
        connection.execute(f"CREATE TABLE chunks (id text PRIMARY KEY, body text, embedding {kind}({DIMENSIONS}))")
        copying = "COPY chunks (id, body, embedding) FROM STDIN (FORMAT binary)"
        for start in range(0, rows, BATCH):
            vectors = documents(rng, centres, min(BATCH, rows - start))
            with connection.cursor().copy(copying) as copy:
                copy.set_types(["text", "text", kind])
                for row, vector in enumerate(encode_vectors(vectors, half=kind == "halfvec"), start):
                    copy.write_row((f"d{row:07d}", f"document {row}", vector))
            here = asked[(asked >= start) & (asked < start + len(vectors))] - start
            noise = rng.standard_normal((len(here), DIMENSIONS), dtype=np.float32) / np.sqrt(DIMENSIONS)
            queries.append(unit_rows((vectors[here] + np.float32(0.4) * noise) @ rotation))
            print(f"{start + len(vectors):,} of {rows:,} copied", file=sys.stderr)
        copied = time.perf_counter() - started
        connection.execute("ANALYZE chunks")
        connection.execute(f"CREATE INDEX chunks_hnsw ON chunks USING hnsw (embedding {kind}_cosine_ops)")
    indexed = time.perf_counter() - started - copied
    print(f"indexed in {indexed:.0f} s", file=sys.stderr)
    return {"copy_seconds": copied, "index_seconds": indexed}, np.concatenate(queries), asked


def attach_and_train(url: str, folder: Path) -> dict[str, object]:
    """Attach, train and tell, in a process of its own."""
    saved = np.load(folder / "queries.npz")
    started = time.perf_counter()
    with deepmemory.attach(url, table="chunks", path=folder / "store") as store:
        attached = time.perf_counter() - started
        job = store.deep_memory.train(
            [f"query {row}" for row in range(len(saved["vectors"]))],
            [[(f"d{row:07d}", 1.0)] for row in saved["answers"].tolist()],
            embeddings=saved["vectors"],
            wait=True,
        )
        report = store.deep_memory.status(job, verbose=False).results
    kept = ("active", "lift", "baseline", "trained", "reason")
    trained = time.perf_counter() - started - attached
    return {"attach_seconds": attached, "train_seconds": trained, **{key: report.get(key) for key in kept}}


def search(url: str, folder: Path, searches: int) -> dict[str, object]:
    """Search with Deep Memory and without, by turns: half of the queries resemble one that was trained on."""
    saved = np.load(folder / "queries.npz")
    rng = np.random.default_rng(1)
    vectors: NDArray[np.float32] = saved["vectors"]
    noise = rng.standard_normal((searches + WARMED_UP, 2, DIMENSIONS), dtype=np.float32) / np.sqrt(DIMENSIONS)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    before = index_scans(url)
    with deepmemory.VectorStore(folder / "store", create=False) as store:
        for turn, (far, near) in enumerate(noise):
            key = vectors[turn % len(vectors)]
            query = unit_rows((key + (0.2 * near if turn % 2 else 1.5 * far))[None])
            for with_layer in (False, True) if turn % 4 < 2 else (True, False):
                started = time.perf_counter()
                store.search(embedding=query[0], k=10, deep_memory=with_layer)
                seconds[with_layer].append(time.perf_counter() - started)
    time.sleep(2)
    median = {name: 1000 * float(np.median(seconds[name][WARMED_UP:])) for name in seconds}
    return {
        "median_ms": {"without": median[False], "with": median[True]},
        "ratio": median[True] / median[False],
        "p99_ms": {
            "without": 1000 * float(np.quantile(seconds[False][WARMED_UP:], 0.99)),
            "with": 1000 * float(np.quantile(seconds[True][WARMED_UP:], 0.99)),
        },
        "searches": 2 * len(noise),
        "index_scans": index_scans(url) - before,
    }


def index_scans(url: str) -> int:
    """How often the index of the vectors has been used."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'chunks_hnsw'")
        return int(found.fetchall()[0][0])


class Memory:
    """The most memory that some processes and their children have had together, looked at ten times a second."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_gib = 0.0
        self.largest_gib = dict.fromkeys(pids, 0.0)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            now = {pid: sum(map(proportional_gib, (pid, *children(pid)))) for pid in self._pids}
            self.peak_gib = max(self.peak_gib, sum(now.values()))
            self.largest_gib = {pid: max(self.largest_gib[pid], gib) for pid, gib in now.items()}


def children(pid: int) -> list[int]:
    """The children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def proportional_gib(pid: int) -> float:
    """A process's own memory, and its part of what it shares."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 2**20


def measure(chosen: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Do all of it on a server of its own."""
    with PostgresServer.running(SERVER) as server:
        url = server.database()
        seconds, queries, answers = fill(url, chosen.rows, chosen.type, chosen.queries)
        np.savez(folder / "queries.npz", vectors=queries, answers=answers)
        server.restart()  # so that its memory is what searching takes, and not what filling left
        command = [sys.executable, __file__, "--folder", str(folder), "--url", url, "--searches", str(chosen.searches)]
        worker = subprocess.Popen([*command, "--step", "train"], stdout=subprocess.PIPE, text=True)
        with Memory(server.pid, worker.pid) as memory:
            printed, _ = worker.communicate()
        if worker.returncode:
            raise SystemExit(worker.returncode)
        largest = {"server": memory.largest_gib[server.pid], "client": memory.largest_gib[worker.pid]}
        trained = {**json.loads(printed.splitlines()[-1]), "peak_gib": memory.peak_gib, "largest_gib": largest}
        done = subprocess.run([*command, "--step", "search"], stdout=subprocess.PIPE, text=True, check=True)
        return {**seconds, **trained, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    """Fill, train, search, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--type", choices=["vector", "halfvec"], default="halfvec")
    parser.add_argument("--searches", type=int, default=400)
    parser.add_argument("--step", choices=["all", "train", "search"], default="all", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step == "train":
        print(json.dumps(attach_and_train(chosen.url, chosen.folder)))
    elif chosen.step == "search":
        print(json.dumps(search(chosen.url, chosen.folder, chosen.searches)))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            result = measure(chosen, Path(temporary))
        print(json.dumps({"rows": chosen.rows, "queries": chosen.queries, "type": chosen.type, **result}))


if __name__ == "__main__":
    main()
