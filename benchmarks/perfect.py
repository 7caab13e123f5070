"""Whether training steps aside where the plain search is nearly perfect: blurred copies of documents as queries.

    python -m benchmarks.perfect DATA [--seeds 0 1 2] [--blur 2.0]

Of every collection of the folder, 300 documents are asked for by their own vectors with noise ``--blur`` times as long
as they are, which hardly any search gets wrong and from which there is nothing to learn.
"""

import argparse
from pathlib import Path

import numpy as np
from benchmarks.lift import collections

from deepmemory.formats import read_beir
from deepmemory.metrics import judge_rows, ndcg
from deepmemory.training import fit
from deepmemory.transform import Layer, unit_rows

ASKED = 300


def main() -> None:
    """Train on every collection, print a row each and how many layers are on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--blur", type=float, default=2.0)
    chosen = parser.parse_args()
    opened = []
    for folder in collections(chosen.data):
        vectors = read_beir(folder).document_vectors
        if vectors is None:
            continue
        documents = unit_rows(np.unique(vectors, axis=0))  # of equal vectors none can be told from the other
        plain = Layer.identity(documents.shape[1])
        for seed in chosen.seeds:
            rng = np.random.default_rng(seed)
            answers = rng.choice(len(documents), min(ASKED, len(documents)), replace=False)
            noise = unit_rows(rng.standard_normal((len(answers), documents.shape[1])).astype(np.float32))
            queries = unit_rows(documents[answers] + np.float32(chosen.blur) * noise)
            relevance = [[(row, 1.0)] for row in answers.tolist()]
            hits, _ = plain.rank(queries, documents, k=10)
            baseline = float(ndcg(judge_rows(hits, [dict(pairs) for pairs in relevance]), 10).mean())
            opened.append(fit(queries, documents, relevance, seed=seed).report.active)
            state = "on" if opened[-1] else "off"
            print(f"{folder.name:16} seed {seed}  nDCG@10 {100 * baseline:.2f}  layer {state}", flush=True)
    print(f"{sum(opened)} of {len(opened)} layers are on")


if __name__ == "__main__":
    main()
