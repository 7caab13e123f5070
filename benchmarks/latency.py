"""How much slower a search is with Deep Memory: 100,000 x 384 in LanceDB, embedding left out.

    python benchmarks/latency.py [--documents 100000] [--searches 400]

The layer has a linear part and a query memory over 2,000 keys. Searches without it, with it, and with one that trusts
words as well alternate, so that whatever else the machine does hits all alike; half of the queries resemble a key, as
tomorrow's log would. Texts are 60 words, and questions 6 words of one of them, drawn as often as words are (Zipf).
The product of one query of 1,536 dimensions with a layer's matrix is timed by itself.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepmemory.backends import open_backend
from deepmemory.data import Document
from deepmemory.retrieval import retrieve
from deepmemory.transform import Layer, QueryMemory, unit_rows
from deepmemory.words import WordsWeight

DIMENSIONS, KEYS, BATCH = 384, 2_000, 20_000
VOCABULARY, WORDS, ASKED = 50_000, 60, 6
LONG = 1_536


def written(rng: np.random.Generator, n: int) -> list[str]:
    """Texts of words as common as words are."""
    ranks = np.minimum(rng.zipf(1.3, (n, WORDS)), VOCABULARY)
    return [" ".join(f"w{rank}x" for rank in row) for row in ranks.tolist()]


def transform_milliseconds(rng: np.random.Generator) -> float:
    """Median time to transform one query of `LONG` dimensions."""
    matrix = (0.001 * rng.standard_normal((LONG, LONG))).astype(np.float32)
    layer = Layer(dimensions=LONG, matrix=matrix)
    seconds = []
    for query in rng.standard_normal((220, 1, LONG), dtype=np.float32):
        started = time.perf_counter()
        layer.transform(query)
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds[20:]))


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
    texts = written(rng, chosen.documents)
    arms = {"without": None, "with": layer, "with words": replace(layer, words=WordsWeight(0.02))}
    with tempfile.TemporaryDirectory() as folder:
        backend = open_backend(Path(folder) / "store", create=True)
        for start in range(0, chosen.documents, BATCH):
            rows = range(start, min(start + BATCH, chosen.documents))
            backend.upsert([Document(f"d{row}", texts[row]) for row in rows], vectors[rows.start : rows.stop])
        backend.optimize()
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for turn in range(chosen.searches + 50):
            near_a_key = keys[turn % KEYS] + 0.2 * noise[turn]
            query = unit_rows((near_a_key if turn % 2 else vectors[turn] + 0.5 * noise[turn + 1])[None])
            asked = [" ".join(rng.choice(texts[turn].split(), ASKED, replace=False))]
            for name, applied in arms.items():
                started = time.perf_counter()
                retrieve(backend, query, 10, layer=applied, texts=asked)
                seconds[name].append(time.perf_counter() - started)
        backend.close()
    median = {name: 1000 * float(np.median(times[50:])) for name, times in seconds.items()}
    tail = {name: 1000 * float(np.quantile(times[50:], 0.99)) for name, times in seconds.items()}
    ratio = {name: time / median["without"] for name, time in median.items()}
    found = {"n_documents": chosen.documents, "median_ms": median, "p99_ms": tail, "ratio": ratio}
    print(json.dumps({**found, f"transform_{LONG}_ms": transform_milliseconds(rng)}))


if __name__ == "__main__":
    main()
