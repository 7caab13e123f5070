"""The same documents, queries and seed through every engine: the same layer, and the same recall?

    python benchmarks/engines.py FOLDER [--engines exact,lance,pgvector,chroma,chroma-server,qdrant,milvus] [--seed 0]

FOLDER is a collection in BEIR's form with its `embeddings.npz`. Each engine is filled with it in a temporary folder or
on a server that is started for the purpose, and trained on 60% of the queries by vectors alone; recall@10 and nDCG@10
are of the rest, searched through the engine without and with what it learned. Where an engine searches by words, it is
trained a second time with them. Qdrant is measured in its client's local mode and Milvus through milvus-lite: the
seconds say nothing of their servers. TMPDIR chooses the disk; Qdrant's local mode flushes it for each document.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepmemory import VectorStore
from deepmemory.artifacts import LayerInfo, encode_layer
from deepmemory.benchmark import split_sides
from deepmemory.formats import Collection, embedded_text, read_beir
from deepmemory.metrics import compute, judge
from deepmemory.retrieval import retrieve
from deepmemory.transform import Layer

ENGINES = ("exact", "lance", "pgvector", "chroma", "chroma-server", "qdrant", "milvus")
METRICS = ("recall@10", "ndcg@10")
ADDED_AT_ONCE = 512
QUERIES_AT_ONCE = 64
DEPTH = 10
MOST_APART = 0.005


@contextmanager
def place(engine: str, folder: Path) -> Iterator[str]:
    """The address of a new store of an engine; servers are stopped afterwards."""
    embedded = {
        "exact": "memory://",
        "lance": f"{folder}/store",
        "chroma": f"chroma://{folder}/chroma/docs",
        "qdrant": f"qdrant://{folder}/qdrant/docs",
        "milvus": f"milvus://{folder}/milvus.db/docs",
    }
    if engine in embedded:
        yield embedded[engine]
    elif engine == "chroma-server":
        with chroma_server(folder) as address:
            yield f"{address}/docs"
    else:
        from deepmemory.testing import PostgresServer

        with PostgresServer.running() as server:
            yield f"{server.database()}&table=docs"


@contextmanager
def chroma_server(folder: Path, port: int = 18_990) -> Iterator[str]:
    """`chroma run`, until the block ends."""
    program = Path(sys.executable).parent / "chroma"
    arguments = ["run", "--path", str(folder / "server"), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/heartbeat", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"chroma://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def figures(
    store: VectorStore, collection: Collection, rows: Sequence[int], layer: Layer | None
) -> tuple[dict[str, float], float]:
    """The metrics of some queries through the store, and milliseconds a query."""
    assert collection.query_vectors is not None
    texts = [collection.queries[row] for row in rows]
    vectors = collection.query_vectors[list(rows)]
    started, rankings = time.perf_counter(), []
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        rankings += retrieve(store.backend, vectors[part], DEPTH, layer=layer, texts=texts[part])
    each = (time.perf_counter() - started) / len(rows) * 1e3
    judged = judge([list(ranking.ids) for ranking in rankings], [collection.qrels[row] for row in rows])
    return {name: float(values.mean()) for name, values in compute(judged, METRICS).items()}, each


def measure(engine: str, collection: Collection, seed: int) -> dict[str, Any]:
    """Fill, train and search one engine."""
    train, test = (rows.tolist() for rows in split_sides(collection, "query", seed=seed))
    assert collection.query_vectors is not None
    assert collection.document_vectors is not None
    documents = [replace(each, text=embedded_text(each), metadata={}) for each in collection.documents]
    with tempfile.TemporaryDirectory(prefix="deepmemory-engines-") as folder, place(engine, Path(folder)) as path:
        os.environ["DEEPMEMORY_STATE"] = f"{folder}/state"
        with VectorStore(path, embedder=None) as store:
            started = time.perf_counter()
            for start in range(0, len(documents), ADDED_AT_ONCE):
                part = slice(start, start + ADDED_AT_ONCE)
                store.backend.upsert(documents[part], collection.document_vectors[part])
            store.backend.optimize()
            found: dict[str, Any] = {"engine": engine, "seconds to fill": time.perf_counter() - started}
            found["without"], found["ms without"] = figures(store, collection, test, None)
            for words in (False, True) if store.backend.capabilities.full_text else (False,):
                started = time.perf_counter()
                store.deep_memory.train(
                    [collection.queries[row] for row in train],
                    [[(id, grade) for id, grade in collection.qrels[row].items() if grade > 0] for row in train],
                    embeddings=collection.query_vectors[train],
                    words=words,
                    seed=seed,
                    wait=True,
                )
                name = "with words" if words else "with"
                found[f"seconds to train {name}"] = time.perf_counter() - started
                found[name], found[f"ms {name}"] = figures(store, collection, test, store.layer)
                if not words:
                    found["layer"] = _digest(store.layer)
    return found


def _digest(layer: Layer | None) -> str:
    if layer is None:
        return "off"
    info = LayerInfo("v1", layer.dimensions, layer.distance, None, "", {}, created="")
    return hashlib.sha256(encode_layer(layer, info)).hexdigest()[:12]


def main() -> None:
    """Print a line for each engine, and whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    arguments = parser.parse_args()
    collection = read_beir(arguments.folder)
    if collection.query_vectors is None or collection.document_vectors is None:
        parser.error(f"{arguments.folder} has no embeddings.npz")
    print(f"{collection.name}: {len(collection.documents):,} documents, {len(collection.queries):,} queries")
    results = []
    for engine in arguments.engines.split(","):
        result = measure(engine, collection, arguments.seed)
        results.append(result)
        for name in ("without", "with", "with words"):
            if name in result:
                shown = ", ".join(f"{metric} {100 * value:.2f}" for metric, value in result[name].items())
                print(f"{engine:14} {name:11} {shown}, {result[f'ms {name}']:.2f} ms a query", flush=True)
        print(f"{engine:14} layer {result['layer']}, filled in {result['seconds to fill']:.1f} s", flush=True)
    layers = {result["layer"] for result in results}
    recalls = np.array([[result[name]["recall@10"] for name in ("without", "with")] for result in results])
    apart = float(np.ptp(recalls, axis=0).max())
    print(f"{'one layer' if len(layers) == 1 else f'{len(layers)} different layers'}; ", end="")
    print(
        f"recall@10 at most {100 * apart:.2f} points apart{'' if apart <= MOST_APART else ', more than half a point'}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
