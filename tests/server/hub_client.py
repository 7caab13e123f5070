"""Plain HTTP to a hub, and a small world with something to learn."""

import base64
from typing import Any, Self

import httpx
import numpy as np

DIMENSIONS = 32
DOCS = "orgs/acme/datasets/docs"


class Client:
    """What curl would send: JSON bodies and a bearer token; it repeats nothing and raises nothing."""

    def __init__(self, url: str, secret: str | None = None) -> None:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        self.http = httpx.Client(base_url=f"{url}/v1/", headers=headers, timeout=90)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.http.get(path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.http.post(path, **({} if body is None else {"json": body}), **more)

    def put(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.http.put(path, **({} if body is None else {"json": body}), **more)

    def patch(self, path: str, body: Any) -> httpx.Response:
        return self.http.patch(path, json=body)

    def delete(self, path: str) -> httpx.Response:
        return self.http.delete(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


def code_of(reply: httpx.Response) -> tuple[int, str]:
    """The status and the error's code; checks the form that every error has."""
    error = reply.json()["error"]
    assert set(error) <= {"code", "message", "problems", "type"}
    assert error["message"].strip()
    assert "/datasets/" not in error["message"], "a folder of the hub's machine"
    return reply.status_code, error["code"]


def state_of(client: Client, job_id: str) -> dict[str, Any]:
    """A job of `DOCS`, as the hub tells of it."""
    job: dict[str, Any] = client.get(f"{DOCS}/jobs/{job_id}").json()
    return job


def packed(vectors: Any) -> dict[str, Any]:
    """Vectors as clients send them."""
    array = np.ascontiguousarray(vectors, dtype="<f4")
    return {"shape": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode()}


def unpacked(values: dict[str, Any]) -> np.ndarray:
    """Vectors as replies have them."""
    return np.frombuffer(base64.b64decode(values["base64"]), dtype="<f4").reshape(values["shape"])


def world(n_documents: int, n_queries: int, dimensions: int = DIMENSIONS, seed: int = 0) -> dict[str, Any]:
    """Documents, and queries that are turned away from them by one rotation, which can be learned."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((n_documents, dimensions)).astype(np.float32)
    turn = np.linalg.qr(random.standard_normal((dimensions, dimensions)))[0]
    rows = random.choice(n_documents, n_queries)
    queries = vectors[rows] @ turn + 0.3 * random.standard_normal((n_queries, dimensions))
    return {
        "ids": [f"doc-{row}" for row in range(n_documents)],
        "texts": [f"text number {row}" for row in range(n_documents)],
        "vectors": vectors,
        "queries": [f"query {number}" for number in range(n_queries)],
        "relevance": [[[f"doc-{row}", 1.0]] for row in rows.tolist()],
        "query_vectors": queries.astype(np.float32),
    }


def fill(client: Client, dataset: str, made: dict[str, Any]) -> None:
    """Store the documents of a world."""
    for start in range(0, len(made["ids"]), 1_000):
        rows = range(start, min(start + 1_000, len(made["ids"])))
        documents = [{"id": made["ids"][row], "text": made["texts"][row]} for row in rows]
        body = {"documents": documents, "vectors": packed(made["vectors"][rows.start : rows.stop])}
        assert client.post(f"{dataset}/documents", body).status_code == 200


def training(made: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The body that trains on a world."""
    vectors = packed(made["query_vectors"])
    return {"queries": made["queries"], "relevance": made["relevance"], "vectors": vectors, **more}
