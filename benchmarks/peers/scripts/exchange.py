"""What every peer's script shares: the problem comes as files, the answers go back as files.

Runs in the peers' own environments, so it knows NumPy and nothing of Deep Memory. A folder holds ``problem.npz``
(``train_queries (n, dim)``, ``test_queries (m, dim)``, ``documents (N, dim)``, all float32, and the relevance as three
arrays ``query``, ``document``, ``grade``; with words also ``train_words_*`` and ``test_words_*``, the parts of two CSR
matrices), ``problem.json`` (seed, the settings to try, and texts where the peer asked for them), and afterwards
``rows.npz`` (``rows_I (m, 100) int64`` for each of the settings) and ``answer.json``.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DEPTH = 100
TIMED = 50


@dataclass
class Given:
    """The problem as a script sees it: no relevance of the test queries."""

    train: np.ndarray
    test: np.ndarray
    documents: np.ndarray
    relevance: list[list[tuple[int, float]]]
    seed: int
    settings: list[dict[str, Any]]
    more: dict[str, Any]
    arrays: Any

    def kept_and_validation(self, share: float) -> tuple[list[int], list[int]]:
        """Training queries drawn apart for a method that wants a validation set: these come from training queries."""
        order = np.random.default_rng(self.seed).permutation(len(self.train)).tolist()
        n = min(max(1, round(share * len(order))), len(order) - 1)
        return order[n:], order[:n]


@dataclass
class Fitted:
    """What a peer learned: how a query is changed, the documents to search in, or a ranking of its own.

    ``documents`` None stands for those given; ``transform`` takes and gives ``(n, dim)``; ``rank`` takes ``(n, dim)``
    and the places of the queries among the test's, and stands in for both.
    """

    transform: Callable[[np.ndarray], np.ndarray] = lambda queries: queries
    documents: np.ndarray | None = None
    rank: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    notes: dict[str, Any] | None = None


def best(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Rows of the best documents by dot product, ties by row: exact."""
    scores = queries @ documents.T
    k = min(DEPTH, scores.shape[1])
    found = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    found.sort(axis=1)
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)


def main(fit: Callable[[Given, dict[str, Any]], Fitted]) -> None:
    """Read the folder named on the command line, fit with each of the settings, write what came of it."""
    folder = Path(sys.argv[1])
    given = _read(folder)
    rows, runs = {}, []
    for place, settings in enumerate(given.settings):
        started = time.perf_counter()
        fitted = fit(given, settings)
        seconds = time.perf_counter() - started
        documents = given.documents if fitted.documents is None else fitted.documents
        rank = fitted.rank or (lambda queries, _, f=fitted, d=documents: best(f.transform(queries), d))
        rows[f"rows_{place}"] = rank(given.test, np.arange(len(given.test)))
        runs.append(
            {"fit_seconds": seconds, "milliseconds": _milliseconds(rank, given.test), "notes": fitted.notes or {}}
        )
    np.savez(folder / "rows.npz", **rows)
    (folder / "answer.json").write_text(json.dumps({"peak_mib": _peak_mib(), "runs": runs}))


def _peak_mib() -> float:
    """Largest resident memory of this process; `getrusage` gives the starting process's where that is larger."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def _milliseconds(rank: Callable[[np.ndarray, np.ndarray], np.ndarray], queries: np.ndarray) -> float:
    """The median of single queries: their transformation and the exact search over all documents."""
    times = []
    for place in range(min(TIMED, len(queries))):
        started = time.perf_counter()
        rank(queries[place : place + 1], np.array([place]))
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def _read(folder: Path) -> Given:
    arrays = np.load(folder / "problem.npz")
    told = json.loads((folder / "problem.json").read_text())
    relevance: list[list[tuple[int, float]]] = [[] for _ in arrays["train_queries"]]
    for query, document, grade in zip(
        arrays["query"].tolist(), arrays["document"].tolist(), arrays["grade"].tolist(), strict=True
    ):
        relevance[query].append((document, grade))
    return Given(
        train=arrays["train_queries"],
        test=arrays["test_queries"],
        documents=arrays["documents"],
        relevance=relevance,
        seed=told.pop("seed"),
        settings=told.pop("settings"),
        more=told,
        arrays=arrays,
    )
