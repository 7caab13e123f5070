"""What Ray costs, and that it changes nothing: in-process and Ray side by side, byte for byte.

    python benchmarks/ray_overhead.py [--documents 100000] [--queries 1000] [--workers 2]

Texts of 60 words are embedded by a cheap function (hashed words and one matrix product, 256 dimensions), so what is
compared is mostly the way there and back. Then the queries are ranked exactly against all documents, which are
streamed from the store, and queries are extracted from a tenth of the documents. Each is done in-process first, by Ray
with its workers freshly started, and by Ray again. On a machine of two cores the workers share them with this process,
the store and Ray's own daemons; more machines are what Ray is for.
"""

import argparse
import contextlib
import hashlib
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deepmemory import VectorStore
from deepmemory.backends.bulk import ExactSearch
from deepmemory.data import Document
from deepmemory.embedders import CallableEmbedder, embed_batches
from deepmemory.executors import Executor, InProcessExecutor, open_executor
from deepmemory.synthesis import synthesize

DIMENSIONS, BUCKETS, WORDS, VOCABULARY, BATCH = 256, 4_096, 60, 20_000, 512


def hashed_words(texts: list[str]) -> np.ndarray:
    """Hashed counts of words through one random projection."""
    counts = np.zeros((len(texts), BUCKETS), dtype=np.float32)
    for row, text in enumerate(texts):
        np.add.at(counts[row], [zlib.crc32(word.encode()) % BUCKETS for word in text.split()], 1)
    return counts @ np.random.default_rng(0).standard_normal((BUCKETS, DIMENSIONS), dtype=np.float32)


def written(n: int) -> list[str]:
    """Texts of words as common as words are."""
    ranks = np.minimum(np.random.default_rng(1).zipf(1.3, (n, WORDS)), VOCABULARY)
    return [" ".join(f"w{rank}x" for rank in row) for row in ranks.tolist()]


def timed(work: Callable[[], str]) -> tuple[float, str]:
    """Seconds, and what came out as a digest."""
    begun = time.perf_counter()
    digest = work()
    return time.perf_counter() - begun, digest


def embedding(texts: list[str], executor: Executor) -> str:
    """Embed all texts; the vectors are digested batch by batch and not kept."""
    seen = hashlib.sha256()
    batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
    embedder = CallableEmbedder(hashed_words)
    with contextlib.closing(embed_batches(executor, embedder, batches, "documents")) as made:
        for vectors in made:
            seen.update(vectors.tobytes())
    return seen.hexdigest()


def ranking(store: VectorStore, queries: np.ndarray, executor: Executor) -> str:
    """Rank all documents for each query."""
    seen = hashlib.sha256()
    for found in ExactSearch(store.backend, executor).search(queries, 100):
        seen.update("\0".join(found.ids).encode() + found.scores.tobytes())
    return seen.hexdigest()


def extraction(documents: list[Document], executor: Executor) -> str:
    """Extract queries."""
    made = synthesize(documents, engine=executor)
    return hashlib.sha256(repr([(one.query, one.source_id) for one in made.queries]).encode()).hexdigest()


def main() -> None:
    """Do everything three times, compare, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    texts = written(chosen.documents)
    ids = [f"d{row}" for row in range(len(texts))]
    in_process = InProcessExecutor()
    with (
        tempfile.TemporaryDirectory() as folder,
        VectorStore(Path(folder) / "store", embedder=hashed_words) as store,
        open_executor(f"ray:{chosen.workers}") as ray,
    ):
        store.add(texts, ids=ids)
        queries = np.random.default_rng(2).standard_normal((chosen.queries, DIMENSIONS), dtype=np.float32)
        some = [Document(id, text) for id, text in zip(ids, texts, strict=True)][: max(1, len(texts) // 10)]
        works: dict[str, Callable[[Executor], str]] = {
            f"embedding {len(texts):,} texts": lambda executor: embedding(texts, executor),
            f"ranking {len(texts):,} for {chosen.queries:,} queries": lambda executor: ranking(
                store, queries, executor
            ),
            f"extracting from {len(some):,}": lambda executor: extraction(some, executor),
        }
        started, _ = timed(lambda: embedding(texts[:1], ray))
        print(f"{os.cpu_count()} cores, {chosen.workers} workers; cluster and workers started in {started:.1f} s\n")
        print("| work | in-process | Ray, first | Ray, again | again / in-process | same bytes |")
        print("|---|---|---|---|---|---|")
        for name, work in works.items():
            runs = [timed(lambda e=executor, w=work: w(e)) for executor in (in_process, ray, ray)]
            assert len({digest for _, digest in runs}) == 1, f"{name}: Ray gives other bytes"
            here, first, again = (seconds for seconds, _ in runs)
            print(f"| {name} | {here:.2f} s | {first:.2f} s | {again:.2f} s | {again / here:.2f} | yes |", flush=True)


if __name__ == "__main__":
    main()
