"""How a hub holds many clients at once: 50 connections searching 100,000 x 384, vectors sent, embedding left out.

    python benchmarks/hub_load.py [--seconds 600] [--beside 600] [--clients 50] [--documents 100000] [--chroma CMD]

Each client waits for its answer before it asks again; every answer is checked for its ten hits. The hub is measured
without and with a layer (a linear part and a memory of 2,000 queries), and, where ``--chroma`` names the command of a
Chroma installed in an environment of its own, Chroma's server under the same load, with the same vectors and texts.
Clients and server share the cores of one machine, so the figures compare servers; neither is what it would be alone.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import numpy as np

from deepmemory.artifacts import LayerInfo, encode_layer
from deepmemory.testing import HubProcess
from deepmemory.transform import Layer, QueryMemory, unit_rows

DIMENSIONS, KEYS, BATCH, K = 384, 2_000, 2_000, 10


@dataclass(frozen=True)
class Data:
    """Documents around 500 centres, queries near them, half of them near one that the layer remembers."""

    vectors: np.ndarray
    queries: np.ndarray
    layer: Layer

    @classmethod
    def make(cls, n_documents: int) -> "Data":
        """The same data at every run."""
        rng = np.random.default_rng(0)
        centres = unit_rows(rng.standard_normal((500, DIMENSIONS), dtype=np.float32))
        noise = rng.standard_normal((n_documents, DIMENSIONS), dtype=np.float32) / np.float32(DIMENSIONS**0.5)
        vectors = unit_rows(centres[rng.integers(0, 500, n_documents)] + np.float32(0.7) * noise)
        answers = np.sort(rng.choice(n_documents, KEYS, replace=False))
        keys = unit_rows(vectors[answers] + np.float32(0.5) * noise[rng.permutation(n_documents)[:KEYS]])
        queries = np.concatenate([keys[:500] + np.float32(0.2) * noise[:500], vectors[:500] + noise[500:1000] / 2])
        memory = QueryMemory.build(
            keys, np.arange(KEYS), np.arange(KEYS), np.ones(KEYS, dtype=np.float32), threshold=0.6, gain=0.2
        )
        layer = Layer(
            dimensions=DIMENSIONS,
            matrix=(0.002 * rng.standard_normal((DIMENSIONS, DIMENSIONS))).astype(np.float32),
            document_ids=tuple(f"d{row}" for row in answers),
            document_vectors=vectors[answers],
            memory=memory,
        )
        return cls(vectors, unit_rows(queries.astype(np.float32)), layer)


def request(url: str, path: str, body: object, headers: dict[str, str]) -> bytes:
    """A whole HTTP request, made before the clock runs."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


async def client(
    address: tuple[str, int], requests: list[bytes], first: int, until: float, is_right: Callable[[bytes], bool]
) -> tuple[list[float], int]:
    """Ask again and again over one connection; seconds of each answer, and how many were wrong."""
    reader, writer = await asyncio.open_connection(*address)
    seconds, errors, turn = [], 0, first
    while time.perf_counter() < until:
        begun = time.perf_counter()
        writer.write(requests[turn % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        body = await read_body(reader, head)
        seconds.append(time.perf_counter() - begun)
        errors += not (head.startswith(b"HTTP/1.1 200") and is_right(body))
        turn += 1
    writer.close()
    return seconds, errors


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The body that a head announces, by length or in chunks."""
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if length := headers.get(b"content-length"):
        return await reader.readexactly(int(length))
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


def load(
    url: str, requests: list[bytes], clients: int, seconds: float, is_right: Callable[[bytes], bool]
) -> dict[str, float]:
    """Run the load in a process of its own kind of loop, and sum it up."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)

    async def everyone() -> list[tuple[list[float], int]]:
        until = time.perf_counter() + seconds
        tasks = [client(address, requests, 17 * number, until, is_right) for number in range(clients)]
        return await asyncio.gather(*tasks)

    begun = time.perf_counter()
    answered = asyncio.run(everyone())
    took = time.perf_counter() - begun
    times = np.concatenate([times for times, _ in answered])
    return {
        "requests": len(times),
        "errors": sum(errors for _, errors in answered),
        "per_second": len(times) / took,
        "median_ms": 1000 * float(np.median(times)),
        "p99_ms": 1000 * float(np.quantile(times, 0.99)),
        "max_ms": 1000 * float(times.max()),
    }


def measure_hub(data: Data, clients: int, seconds: float, beside: float) -> Iterator[tuple[str, dict[str, float]]]:
    """The hub without and with Deep Memory."""
    with HubProcess(options=("--rate", "0")) as hub:
        token = hub.token(org="load", scope="write")
        location, headers = "/v1/orgs/load/datasets/docs", {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=hub.url, headers=headers, timeout=600) as http:
            http.put(location, json={"embedder": None}).raise_for_status()
            for start in range(0, len(data.vectors), 1_000):
                rows = range(start, min(start + 1_000, len(data.vectors)))
                body = {
                    "documents": [{"id": f"d{row}", "text": f"document {row}"} for row in rows],
                    "vectors": packed(data.vectors[rows.start : rows.stop]),
                }
                http.post(f"{location}/documents", json=body).raise_for_status()
            http.post(f"{location}/optimize").raise_for_status()
            info = LayerInfo("v1", DIMENSIONS, "cosine", None, "", {"active": True})
            octets = {"Content-Type": "application/octet-stream"}
            saved = http.post(f"{location}/layers", content=encode_layer(data.layer, info), headers=octets)
            saved.raise_for_status()
            http.put(f"{location}/layers/active", json={"layer": saved.json()["name"]}).raise_for_status()
        for name, deep_memory, long in (("without Deep Memory", False, beside), ("with Deep Memory", True, seconds)):
            requests = [
                request(
                    hub.url,
                    f"{location}/search",
                    {"vectors": packed(query[None]), "k": K, "deep_memory": deep_memory},
                    headers,
                )
                for query in data.queries
            ]
            load(hub.url, requests, clients, 5, right_by_hub)
            yield f"hub, {name}", load(hub.url, requests, clients, long, right_by_hub)


def packed(vectors: np.ndarray) -> dict[str, object]:
    """Vectors as the hub takes them fastest."""
    return {"shape": list(vectors.shape), "base64": base64.b64encode(vectors.astype("<f4").tobytes()).decode()}


def right_by_hub(body: bytes) -> bool:
    """Whether ten hits came with their texts."""
    hits = json.loads(body)["results"][0]["hits"]
    return len(hits) == K and all(hit["text"] for hit in hits)


def right_by_chroma(body: bytes) -> bool:
    """Whether ten hits came with their texts."""
    found = json.loads(body)
    return len(found["ids"][0]) == K and all(found["documents"][0])


@contextlib.contextmanager
def chroma_server(command: str, port: int) -> Iterator[str]:
    """Chroma's own server, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [command, "run", "--path", folder, "--port", str(port), "--host", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(120):
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(f"{url}/api/v2/heartbeat").raise_for_status()
                    break
                time.sleep(0.5)
            yield url
        finally:
            process.terminate()
            process.wait()


def measure_chroma(data: Data, command: str, clients: int, seconds: float) -> dict[str, float]:
    """Chroma under the same load."""
    collections = "/api/v2/tenants/default_tenant/databases/default_database/collections"
    with chroma_server(command, 8123) as url, httpx.Client(base_url=url, timeout=600) as http:
        made = http.post(collections, json={"name": "docs", "configuration": {"hnsw": {"space": "cosine"}}})
        made.raise_for_status()
        location = f"{collections}/{made.json()['id']}"
        for start in range(0, len(data.vectors), BATCH):
            rows = range(start, min(start + BATCH, len(data.vectors)))
            body = {
                "ids": [f"d{row}" for row in rows],
                "documents": [f"document {row}" for row in rows],
                "embeddings": data.vectors[rows.start : rows.stop].tolist(),
            }
            http.post(f"{location}/add", json=body).raise_for_status()
        include = ["documents", "metadatas", "distances"]
        requests = [
            request(
                url,
                f"{location}/query",
                {"query_embeddings": [query.tolist()], "n_results": K, "include": include},
                {},
            )
            for query in data.queries
        ]
        load(url, requests, clients, 5, right_by_chroma)
        return load(url, requests, clients, seconds, right_by_chroma)


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="of the load on the hub with Deep Memory")
    parser.add_argument("--beside", type=float, default=600, help="seconds of the loads that it is compared with")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--chroma", metavar="COMMAND", help="the command `chroma` of an environment of its own")
    chosen = parser.parse_args()
    data = Data.make(chosen.documents)
    for name, figures in measure_hub(data, chosen.clients, chosen.seconds, chosen.beside):
        print(json.dumps({"server": name, "clients": chosen.clients, **figures}), flush=True)
    if chosen.chroma:
        figures = measure_chroma(data, chosen.chroma, chosen.clients, chosen.beside)
        print(json.dumps({"server": "Chroma", "clients": chosen.clients, **figures}), flush=True)
    else:
        print("Chroma was not measured: name its command with --chroma", file=sys.stderr)


if __name__ == "__main__":
    main()
