"""Who takes part: where each comes from, its defaults, and the settings that it may choose from on training queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, TypeAlias

__all__ = ["BASELINE", "PEERS", "Needs", "Peer", "Settings", "by_key"]

Settings: TypeAlias = Mapping[str, Any]

Needs: TypeAlias = Literal["vectors", "words", "texts"]


@dataclass(frozen=True)
class Peer:
    """One method.

    Attributes:
        key: in the results.
        name: in the tables.
        source: where it comes from, for the reader.
        changes: what it changes at search time.
        script: in ``scripts/``, run by the interpreter of `environment`; "" where nothing is trained, see ``words``.
        environment: a name in ``environments``; None runs where Deep Memory is installed.
        defaults: of the package or of its documentation.
        grid: for each setting the values tried; the others stay as in the defaults. Empty where there is no choice.
        needs: what it is given beside the vectors.
        slow: whether it runs only when asked for.
    """

    key: str
    name: str
    source: str
    changes: Literal["queries", "documents", "ranking", "embedder"]
    script: str
    environment: str | None = None
    defaults: Settings = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    needs: Needs = "vectors"
    slow: bool = False

    def candidates(self) -> list[Settings]:
        """The defaults and all that the grid spans, each once."""
        spanned = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        found = [dict(self.defaults)]
        for one in spanned:
            if (candidate := {**self.defaults, **one}) not in found:
                found.append(candidate)
        return found


BASELINE = Peer("baseline", "No training", "exact search, cosine", "queries", "untouched.py")

PEERS = [
    Peer("ours", "Deep Memory", "`deepmemory.training.fit`, vectors alone", "queries", "ours.py"),
    Peer(
        "ours-words",
        "Deep Memory with words",
        "`fit` with `lexical_scores`, of the same full-text search",
        "ranking",
        "ours.py",
        defaults={"words": True},
        needs="words",
    ),
    Peer(
        "nudge-m",
        "NUDGE-M",
        "`nudge-ft` 0.1.2",
        "documents",
        "nudge_documents.py",
        "torch",
        {"variant": "M", "validation": 0.2},
        {"validation": [0.1, 0.2, 0.3]},
    ),
    Peer(
        "nudge-n",
        "NUDGE-N",
        "`nudge-ft` 0.1.2",
        "documents",
        "nudge_documents.py",
        "torch",
        {"variant": "N", "validation": 0.2, "val_k": 1},
        {"validation": [0.1, 0.2, 0.3], "val_k": [1, 10]},
    ),
    Peer(
        "llamaindex-linear",
        "LlamaIndex, linear",
        "`llama-index-finetuning` 0.4.2; epochs as in its guide",
        "queries",
        "llamaindex_adapter.py",
        "torch",
        {"layers": 1, "epochs": 4, "rate": 2e-5, "batch_size": 10},
        {"epochs": [4, 25], "rate": [1e-3, 1e-2], "batch_size": [64]},
    ),
    Peer(
        "llamaindex-two-layer",
        "LlamaIndex, two layers",
        "`llama-index-finetuning` 0.4.2; 1,024 hidden, residual and epochs as in its guide",
        "queries",
        "llamaindex_adapter.py",
        "torch",
        {"layers": 2, "epochs": 25, "rate": 2e-5, "batch_size": 10},
        {"rate": [3e-4, 1e-3, 3e-3], "batch_size": [64]},
    ),
    Peer(
        "raglite",
        "RAGLite, closed form",
        "written from the formulas that `raglite` 1.1.1 documents",
        "queries",
        "raglite_adapter.py",
        None,
        {"top_k": 40, "gap": 0.05},
        {"top_k": [20, 40], "gap": [0.01, 0.05, 0.2]},
    ),
    Peer(
        "triplet",
        "Triplet loss, linear",
        "written in the manner of `linear-adapter-trainer`, with its defaults",
        "queries",
        "triplet_adapter.py",
        "torch",
        {"negatives": "opposite", "margin": 0.2, "rate": 1e-3, "epochs": 20, "batch_size": 64},
        {"negatives": ["opposite", "hard"], "margin": [0.1, 0.2, 0.5], "rate": [1e-4, 1e-3]},
    ),
    Peer("bm25", "BM25", "LanceDB's full-text search through Deep Memory's backend", "ranking", "", needs="words"),
    Peer(
        "rrf",
        "Rank fusion, vectors and BM25",
        "reciprocal ranks of the first 100 hits of both",
        "ranking",
        "",
        defaults={"k": 60, "weight": 0.5},
        grid={"k": [5, 20, 60], "weight": [0.1, 0.3, 0.5, 0.7, 0.9]},
        needs="words",
    ),
    Peer(
        "finetuned",
        "Embedder fully fine-tuned",
        "`sentence-transformers` 6.2.0, all-MiniLM-L6-v2, multiple-negatives loss",
        "embedder",
        "finetuned_embedder.py",
        "torch",
        {"epochs": 3, "batch_size": 32, "rate": 5e-5, "most_pairs": 2000, "bfloat16": True},
        needs="texts",
        slow=True,
    ),
]


def by_key(keys: Sequence[str]) -> list[Peer]:
    """The peers of these names, in the order of the tables.

    Raises:
        ValueError: a name is none of theirs.
    """
    known = {peer.key for peer in PEERS}
    if unknown := sorted(set(keys) - known):
        raise ValueError(f"no such peer: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [peer for peer in PEERS if peer.key in keys]
