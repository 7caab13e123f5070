"""Have one peer fit one problem with some settings, in a process of its own, and take its rankings back."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .environments import interpreter
from .peers import Peer, Settings
from .problem import Problem
from .words import Hits, fuse, hits

__all__ = ["CACHE", "Outcome", "PeerError", "work"]

HERE = Path(__file__).parent
CACHE = HERE / ".cache"

_LAST_LINES = 15


class PeerError(RuntimeError):
    """A peer's script failed."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one peer made of one problem with one choice of settings.

    Attributes:
        rows: ``(n_test, depth)`` rows of documents, best first; -1 where there are no more.
        fit_seconds: 0 where nothing is trained.
        peak_mib: largest resident memory of the process, its libraries included; NaN where nothing is trained.
        milliseconds: a query, median.
        notes: the peer's own.
    """

    rows: NDArray[np.int64]
    fit_seconds: float = 0.0
    peak_mib: float = float("nan")
    milliseconds: float = float("nan")
    notes: dict[str, Any] = field(default_factory=dict)


def work(peer: Peer, problem: Problem, settings: Sequence[Settings]) -> list[Outcome]:
    """An outcome for each of the settings; the test queries' relevance is never handed over.

    Raises:
        PeerError: the script failed; with its last words.
    """
    if not peer.script:
        return [_by_words(peer, problem, one) for one in settings]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _hand_over(peer, problem, settings, folder)
        done = subprocess.run(
            [str(interpreter(peer.environment)), str(HERE / "scripts" / peer.script), str(folder)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode:
            last = "\n".join(done.stderr.splitlines()[-_LAST_LINES:])
            raise PeerError(f"{peer.script} failed with exit code {done.returncode}:\n{last}")
        answer = json.loads((folder / "answer.json").read_text())
        arrays = np.load(folder / "rows.npz")
        return [
            Outcome(
                rows=arrays[f"rows_{place}"].astype(np.int64),
                fit_seconds=run["fit_seconds"],
                peak_mib=answer["peak_mib"],
                milliseconds=run["milliseconds"],
                notes=run["notes"],
            )
            for place, run in enumerate(answer["runs"])
        ]


def _hand_over(peer: Peer, problem: Problem, settings: Sequence[Settings], folder: Path) -> None:
    triples = [
        (query, document, grade) for query, pairs in enumerate(problem.train.relevance) for document, grade in pairs
    ]
    arrays: dict[str, NDArray[Any]] = {
        "train_queries": problem.train.vectors,
        "test_queries": problem.test.vectors,
        "documents": problem.documents,
        "query": np.array([query for query, _, _ in triples]),
        "document": np.array([document for _, document, _ in triples]),
        "grade": np.array([grade for _, _, grade in triples]),
    }
    if peer.needs == "words":
        found = hits(problem, CACHE)
        for side, queries in (("train", problem.train), ("test", problem.test)):
            matrix = found.of(queries).matrix(len(problem.documents))
            arrays |= {f"{side}_words_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
    told: dict[str, Any] = {"seed": problem.seed, "settings": [dict(one) for one in settings]}
    if peer.needs == "texts":
        told |= {
            "document_texts": problem.texts,
            "train_texts": problem.queries(problem.train),
            "test_texts": problem.queries(problem.test),
        }
    np.savez(folder / "problem.npz", **arrays)
    (folder / "problem.json").write_text(json.dumps(told))


def _by_words(peer: Peer, problem: Problem, settings: Settings) -> Outcome:
    found: Hits = hits(problem, CACHE).of(problem.test)
    rows = found.rows[:, :100]
    if peer.key == "bm25":
        return Outcome(rows, milliseconds=found.milliseconds)
    times = []
    fused = []
    for query, by_words in zip(problem.test.vectors, rows, strict=True):
        started = time.perf_counter()
        nearest = np.argsort(-(problem.documents @ query), kind="stable")[:100]
        fused.append(fuse(nearest[None], by_words[None], len(problem.documents), **settings)[0])
        times.append(time.perf_counter() - started)
    return Outcome(np.array(fused), milliseconds=1000 * float(np.median(times)) + found.milliseconds)
