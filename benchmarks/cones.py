"""Lift under embedding models whose vectors lie in a narrow cone, so that all cosines are nearly alike.

    python -m benchmarks.cones DATA [--collections covidqa ...] [--models common2 first4 first2] [--seeds 0]
                                [--cache FOLDER]

``common2`` adds one and the same random direction, twice as long as a vector, to every vector of a collection: the
plain search hardly changes, and the scores of a query spread a fifth as far. ``first4`` and ``first2`` are really
others: the first layers of all-MiniLM-L6-v2 with their mean pooling. On vectors alone; nDCG@10 in points of the queries
that took no part.
"""

import argparse
from pathlib import Path

import numpy as np
from benchmarks.lift import SPLITS, collections
from benchmarks.migrate import Vectors, old_vectors

from deepmemory.benchmark import SplitKind, split_sides
from deepmemory.formats import Collection, read_beir
from deepmemory.metrics import compute, judge_rows
from deepmemory.training import fit
from deepmemory.transform import Layer, unit_rows

COMMON = 2.0


def vectors_of(collection: Collection, model: str, cache: Path | None) -> Vectors:
    """Of documents and queries."""
    if model != "common2":
        documents, queries = old_vectors(collection, model, cache)
        return unit_rows(documents), unit_rows(queries)
    documents, queries = collection.document_vectors, collection.query_vectors
    assert documents is not None
    assert queries is not None
    direction = unit_rows(np.random.default_rng(7).standard_normal((1, documents.shape[1])).astype(np.float32))
    return unit_rows(documents + COMMON * direction), unit_rows(queries + COMMON * direction)


def measured(collection: Collection, vectors: Vectors, split: SplitKind, seed: int) -> str:
    """The table's last cells: of one split."""
    documents, queries = vectors
    train, test = split_sides(collection, split, seed=seed)
    result = fit(queries[train], documents, collection.relevance_by_row(train.tolist()), seed=seed)
    qrels = [dict(pairs) for pairs in collection.relevance_by_row(test.tolist())]

    def ndcg(layer: Layer) -> float:
        rows, _ = layer.rank(queries[test], documents, k=10)
        return 100 * float(compute(judge_rows(rows, qrels), ["ndcg@10"])["ndcg@10"].mean())

    without, with_ = ndcg(Layer.identity(documents.shape[1])), ndcg(result.layer)
    return f"{result.report.spread:.3f} | {split} | {seed} | {without:.1f} | {with_:.1f} | **{with_ - without:+.1f}** |"


def main() -> None:
    """Run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--collections", nargs="+", help="names of folders; all by default")
    parser.add_argument("--models", nargs="+", default=["common2", "first4", "first2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cache", type=Path, help="keep the models' vectors here")
    chosen = parser.parse_args()
    print("| model | collection | spread | split | seed | nDCG@10 without | with | lift |", "|---" * 8 + "|", sep="\n")
    for model in chosen.models:
        for folder in collections(chosen.data):
            if chosen.collections and folder.name not in chosen.collections:
                continue
            collection = read_beir(folder)
            vectors = vectors_of(collection, model, chosen.cache)
            for split in SPLITS:
                for seed in chosen.seeds:
                    print(f"| {model} | {collection.name} | {measured(collection, vectors, split, seed)}", flush=True)


if __name__ == "__main__":
    main()
