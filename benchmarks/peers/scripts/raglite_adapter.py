"""RAGLite's closed-form query adapter, written from the formulas that its package (1.1.1) documents.

The package itself wants DuckDB, LiteLLM and documents that it cut and embedded itself. In its words of the maths: for
each query whose first hits hold both relevant documents P and others N, the target t is the nearest vector to q with
``(p - (1 + gap) n) . t >= 0`` for all pairs, found by non-negative least squares in the dual. With rows Q of unit
queries and T of unit targets, ``M = T' Q / n`` is completed by the identity on what Q does not span, and the adapter
is the orthogonal factor ``U V'`` of its singular value decomposition (cosine; orthogonal Procrustes).
"""

from typing import Any

import numpy as np
from exchange import Fitted, Given, best, main
from scipy.optimize import lsq_linear


def fit(given: Given, settings: dict[str, Any]) -> Fitted:
    """Compute the adapter.

    Settings: ``top_k`` hits looked at, ``gap``.
    """
    hits = best(given.train, given.documents)[:, : settings["top_k"]]
    sources, targets = [], []
    for query, rows, pairs in zip(given.train.astype(np.float64), hits, given.relevance, strict=True):
        is_relevant = np.isin(rows, [document for document, _ in pairs])
        if is_relevant.any() and not is_relevant.all():
            vectors = given.documents[rows].astype(np.float64)
            sources.append(query)
            targets.append(_target(query, vectors[is_relevant], vectors[~is_relevant], settings["gap"]))
    if not sources:
        return Fitted(notes={"evals": 0})
    adapter = _procrustes(np.array(sources), np.array(targets)).astype(np.float32)
    return Fitted(transform=lambda queries: queries @ adapter.T, notes={"evals": len(sources)})


def _target(query: np.ndarray, relevant: np.ndarray, others: np.ndarray, gap: float) -> np.ndarray:
    constraints = (relevant[:, None, :] - (1 + gap) * others[None, :, :]).reshape(-1, len(query))
    dual = lsq_linear(constraints.T, -query, bounds=(0.0, np.inf), tol=np.finfo(np.float64).eps).x
    return query + constraints.T @ dual


def _procrustes(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    sources = sources / np.linalg.norm(sources, axis=1, keepdims=True)
    targets = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    n, dim = sources.shape
    matrix = targets.T @ sources / n
    if n < dim or np.linalg.matrix_rank(sources) < dim:
        matrix += np.eye(dim) - sources.T @ np.linalg.pinv(sources @ sources.T) @ sources
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


if __name__ == "__main__":
    main(fit)
