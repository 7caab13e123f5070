"""Measure the method on a collection of one's own: a BEIR folder in, lift on held-out queries out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from deepmemory.backends import Backend, open_backend
from deepmemory.data import leaks, seen_documents, split_by_document, split_by_query
from deepmemory.embedders import Embedder, SpreadEmbedder, resolve_embedder
from deepmemory.embedders.adapters import EmbeddingFunction, LangChainEmbeddings
from deepmemory.errors import InputError
from deepmemory.executors import Executor, open_executor
from deepmemory.formats import Collection, embedded_text, read_beir
from deepmemory.metrics import compute, judge_rows
from deepmemory.progress import Progress
from deepmemory.retrieval import lexical_scores
from deepmemory.significance import PairedLift, paired_lift
from deepmemory.training import FitReport, fit
from deepmemory.transform import Layer
from deepmemory.words import DEPTH

__all__ = [
    "METRICS",
    "BenchmarkResult",
    "SplitKind",
    "default_backend",
    "mean_lift",
    "run_benchmark",
    "split_sides",
]

SplitKind: TypeAlias = Literal["query", "document", "standard"]
"""How test queries are held out: at random, with all the documents that they want, or as ``split.tsv`` says."""

EmbedderSpec: TypeAlias = str | Embedder | LangChainEmbeddings | EmbeddingFunction | None

METRICS = ("ndcg@10", "recall@1", "recall@5", "recall@10", "recall@100", "mrr@10")

_DEPTH = 100
_ADD_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One collection, one split, one seed.

    Attributes:
        name: of the collection.
        split: how the test queries were held out.
        seed: of the split and of the fit.
        n_documents: documents ranked.
        n_train: training queries.
        n_dropped: queries on neither side, because they have no relevant document or want documents of both sides.
        n_leaked: test queries whose text is also a training query's.
        overall: `METRICS` on all test queries, without and with the layer.
        seen: the same on test queries of which some relevant document was relevant in training; empty if none.
        unseen: the same on the others; empty if none.
        report: of the fit.
    """

    name: str
    split: SplitKind
    seed: int
    n_documents: int
    n_train: int
    n_dropped: int
    n_leaked: int
    overall: Mapping[str, PairedLift]
    seen: Mapping[str, PairedLift]
    unseen: Mapping[str, PairedLift]
    report: FitReport

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values; ``lift`` is nDCG@10's, and fractions are fractions."""
        headline = self.overall["ndcg@10"]
        return {
            "name": self.name,
            "split": self.split,
            "seed": self.seed,
            "n_documents": self.n_documents,
            "n_train": self.n_train,
            "n_test": headline.n_queries,
            "n_dropped": self.n_dropped,
            "n_leaked": self.n_leaked,
            "baseline": {name: lift.baseline for name, lift in self.overall.items()},
            "trained": {name: lift.trained for name, lift in self.overall.items()},
            "lift": headline.lift,
            "interval": list(headline.interval),
            "p_value": headline.p_value,
            "seen": {name: lift.as_dict() for name, lift in self.seen.items()},
            "unseen": {name: lift.as_dict() for name, lift in self.unseen.items()},
            "fit_seconds": self.report.seconds,
            "active": self.report.active,
            "reason": self.report.reason,
            "settings": self.report.settings.as_dict(),
        }


@dataclass(frozen=True, eq=False)
class _Part:
    """One side of a split: queries with their vectors and their relevant documents by row."""

    queries: list[str]
    vectors: NDArray[np.float32]
    lexical_scores: csr_array | None
    relevance: list[list[tuple[int, float]]]

    @classmethod
    def of(
        cls,
        collection: Collection,
        vectors: NDArray[np.float32],
        lexical_scores: csr_array | None,
        positions: NDArray[np.int64],
    ) -> "_Part":
        return cls(
            queries=[collection.queries[p] for p in positions.tolist()],
            vectors=vectors[positions],
            lexical_scores=None if lexical_scores is None else lexical_scores[positions],
            relevance=collection.relevance_by_row(positions.tolist()),
        )

    @property
    def qrels(self) -> list[dict[int, float]]:
        return [dict(pairs) for pairs in self.relevance]


def run_benchmark(
    folder: str | Path,
    *,
    split: SplitKind | None = None,
    fraction: float = 0.6,
    seed: int = 0,
    embedder: EmbedderSpec = "local",
    words: bool = True,
    engine: str | Executor | None = None,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Train on one part of a collection's queries and measure on the other.

    The baseline is the plain search by vectors. What is trained is the layer, and with ``words`` how far to trust the
    full-text search of the default store beside it.

    Args:
        folder: a BEIR folder; its ``embeddings.npz`` is used where there is one.
        split: None is ``"standard"`` where the folder defines a train and a test split, else ``"query"``.
        fraction: of queries, or of documents, to train on.
        seed: of the split and of the fit.
        embedder: for a folder without ``embeddings.npz``.
        words: False for vectors alone.
        engine: where a folder without ``embeddings.npz`` is embedded, as for `VectorStore`.
        progress: of the embedding, then of the fit.

    Raises:
        InputError: no such folder, no such split, or a side without queries.
    """
    collection = read_beir(folder)
    split = split or ("standard" if {"train", "test"} <= set(collection.splits) else "query")
    train_rows, test_rows = split_sides(collection, split, fraction=fraction, seed=seed)
    query_vectors, document_vectors = _vectors(collection, embedder, engine, progress)
    lexical = _search_words(collection, document_vectors) if words else None
    train, test = (_Part.of(collection, query_vectors, lexical, rows) for rows in (train_rows, test_rows))
    result = fit(
        train.vectors,
        document_vectors,
        train.relevance,
        lexical_scores=train.lexical_scores,
        seed=seed,
        progress=progress,
    )
    without = _measure(Layer.identity(result.layer.dimensions), test, document_vectors)
    trained = _measure(result.layer, test, document_vectors)
    labelled = {row for pairs in train.relevance for row, _ in pairs}
    is_seen = seen_documents(labelled, test.qrels) > 0
    return BenchmarkResult(
        name=collection.name,
        split=split,
        seed=seed,
        n_documents=len(collection.documents),
        n_train=len(train_rows),
        n_dropped=len(collection.queries) - len(train_rows) - len(test_rows),
        n_leaked=len(leaks(train.queries, test.queries)),
        overall=_compare(without, trained, np.ones(len(test_rows), dtype=bool), seed),
        seen=_compare(without, trained, is_seen, seed),
        unseen=_compare(without, trained, ~is_seen, seed),
        report=result.report,
    )


def split_sides(
    collection: Collection, split: SplitKind, *, fraction: float = 0.6, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the training and of the test queries in a collection.

    Raises:
        InputError: no such split, or a side without queries.
    """
    if split not in get_args(SplitKind):
        raise InputError(f"split should be one of {', '.join(get_args(SplitKind))}; it is {split!r}")
    labelled = collection.labelled_positions
    if split == "standard":
        if not {"train", "test"} <= set(collection.splits):
            raise InputError(
                f"{collection.name} defines no train and test split; use --split query or --split document"
            )
        sides = [np.intersect1d(collection.splits[side], labelled) for side in ("train", "test")]
    else:
        qrels = [collection.qrels[p] for p in labelled.tolist()]
        by_query = split == "query"
        parts = (
            split_by_query(len(qrels), fraction, seed=seed)
            if by_query
            else split_by_document(qrels, fraction, seed=seed)
        )
        sides = [labelled[parts.train], labelled[parts.test]]
    for side, rows in zip(("train", "test"), sides, strict=True):
        if not len(rows):
            raise InputError(f"the {side} side of {collection.name} split by {split} has no queries")
    return sides[0], sides[1]


def _vectors(
    collection: Collection, embedder: EmbedderSpec, engine: str | Executor | None, progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if collection.query_vectors is not None and collection.document_vectors is not None:
        return collection.query_vectors, collection.document_vectors
    executor = open_executor(engine)
    with nullcontext() if executor is engine else executor:
        model = SpreadEmbedder(resolve_embedder(embedder), executor)
        texts = [embedded_text(document) for document in collection.documents]
        return model.embed_queries(list(collection.queries)), model.embed_documents(texts, progress=progress)


@contextmanager
def default_backend(collection: Collection, document_vectors: NDArray[np.float32]) -> Iterator[Backend]:
    """A collection in the default engine, its documents' texts as they are embedded; it ends with the context."""
    with (
        TemporaryDirectory(prefix="deepmemory-benchmark-") as folder,
        closing(open_backend(folder, create=True)) as backend,
    ):
        documents = [replace(each, text=embedded_text(each), metadata={}) for each in collection.documents]
        for start in range(0, len(documents), _ADD_BATCH):
            backend.upsert(documents[start : start + _ADD_BATCH], document_vectors[start : start + _ADD_BATCH])
        backend.optimize()
        yield backend


def _search_words(collection: Collection, document_vectors: NDArray[np.float32]) -> csr_array:
    """What each query finds by words: ``(n_queries, n_documents)``."""
    with default_backend(collection, document_vectors) as backend:
        rankings = backend.search_text(collection.queries, DEPTH + 1)
    return lexical_scores(rankings, {each.id: row for row, each in enumerate(collection.documents)})


def _measure(layer: Layer, test: _Part, document_vectors: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    rows, _ = layer.rank(test.vectors, document_vectors, k=_DEPTH, lexical_scores=test.lexical_scores)
    return dict(compute(judge_rows(rows, test.qrels), METRICS))


def _compare(
    without: Mapping[str, NDArray[np.float64]],
    trained: Mapping[str, NDArray[np.float64]],
    chosen: NDArray[np.bool_],
    seed: int,
) -> dict[str, PairedLift]:
    if not chosen.any():
        return {}
    return {name: paired_lift(without[name][chosen], trained[name][chosen], seed=seed) for name in METRICS}


def mean_lift(results: Sequence[BenchmarkResult]) -> float:
    """Mean nDCG@10 lift over collections, each counting once."""
    return float(np.mean([result.overall["ndcg@10"].lift for result in results]))
