"""How much slower a search is with Deep Memory: 100,000 x 384 in LanceDB, embedding left out.

    python benchmarks/latency.py [--documents 100000] [--searches 400]

The layer has a linear part and a query memory over 2,000 keys. Searches without and with it alternate, so that
whatever else the machine does hits both alike; half of the queries resemble a key, as tomorrow's log would.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.retrieval import retrieve
from deepmemory.transform import Layer, QueryMemory, unit_rows

DIMENSIONS, KEYS, BATCH = 384, 2_000, 20_000


def main() -> None:
    """Fill a table, search it, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--searches", type=int, default=400)
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = unit_rows(rng.standard_normal((500, DIMENSIONS), dtype=np.float32))
    noise = rng.standard_normal((chosen.documents, DIMENSIONS), dtype=np.float32) / np.float32(DIMENSIONS**0.5)
    vectors = unit_rows(centres[rng.integers(0, 500, chosen.documents)] + np.float32(0.7) * noise)
    answers = np.sort(rng.choice(chosen.documents, KEYS, replace=False))
    keys = unit_rows(vectors[answers] + 0.5 * noise[rng.permutation(chosen.documents)[:KEYS]])
    layer = Layer(
        dimensions=DIMENSIONS,
        matrix=(0.002 * rng.standard_normal((DIMENSIONS, DIMENSIONS))).astype(np.float32),
        document_ids=tuple(f"d{row}" for row in answers),
        document_vectors=vectors[answers],
        memory=QueryMemory.build(
            keys, np.arange(KEYS), np.arange(KEYS), np.ones(KEYS, dtype=np.float32), threshold=0.6, gain=0.2
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        backend = open_backend(Path(folder) / "store", create=True)
        for start in range(0, chosen.documents, BATCH):
            rows = range(start, min(start + BATCH, chosen.documents))
            backend.upsert([Document(f"d{row}", f"document {row}") for row in rows], vectors[rows.start : rows.stop])
        backend.optimize()
        seconds: dict[str, list[float]] = {"without": [], "with": []}
        for turn in range(chosen.searches + 50):
            near_a_key = keys[turn % KEYS] + 0.2 * noise[turn]
            query = unit_rows((near_a_key if turn % 2 else vectors[turn] + 0.5 * noise[turn + 1])[None])
            for name, applied in (("without", None), ("with", layer)):
                started = time.perf_counter()
                retrieve(backend, query, 10, layer=applied)
                seconds[name].append(time.perf_counter() - started)
        backend.close()
    median = {name: 1000 * float(np.median(times[50:])) for name, times in seconds.items()}
    tail = {name: 1000 * float(np.quantile(times[50:], 0.99)) for name, times in seconds.items()}
    ratio = median["with"] / median["without"]
    print(json.dumps({"n_documents": chosen.documents, "median_ms": median, "p99_ms": tail, "ratio": ratio}))


if __name__ == "__main__":
    main()
