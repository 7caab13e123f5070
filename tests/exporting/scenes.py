"""Random layers of every kind, with queries and documents to apply them to."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from scipy.sparse import csr_array

from deepmemory.transform import Layer, QueryMemory, unit_rows
from deepmemory.words import WordsWeight

IDS = (
    "plain",
    "über/ß",
    'it\'s \\ "quoted"; DROP TABLE x; --',
    "",
    "日本",
    "\N{CLINKING BEER MUGS}",
    "$$ %s {x}",
    "\t\n",
)


def unit(rng, n, dim):
    return unit_rows(rng.standard_normal((n, dim)).astype(np.float32))


@dataclass(frozen=True)
class Scene:
    """A layer with ids of a store, and the same layer by rows.

    Attributes:
        ids: of the documents, in the order of their rows.
        text_scores: ``(n_queries, n_documents)``, what a full-text search found.
    """

    layer: Layer
    by_row: Layer
    ids: list[str]
    queries: np.ndarray
    documents: np.ndarray
    text_scores: np.ndarray

    def plain(self, query, depth):
        """What an exact engine finds with a vector."""
        compared = unit_rows(self.documents) if self.layer.distance == "cosine" else self.documents
        scores = compared @ np.asarray(query, np.float32)
        return [(self.ids[row], float(scores[row])) for row in np.argsort(-scores, kind="stable")[:depth]]

    def vectors(self, ids):
        """The vectors of documents, by id."""
        return {id: self.documents[self.ids.index(id)] for id in ids}

    def texts(self, row):
        """What the full-text search found for a query: its best hits, one more than count."""
        depth = self.layer.words.depth + 1 if self.layer.words else 1
        scores = self.text_scores[row]
        best = [place for place in np.argsort(-scores, kind="stable")[:depth] if scores[place] > 0]
        return {self.ids[place]: float(scores[place]) for place in best}

    def ranked(self, k):
        """The exact ranking with all that the layer has: ids and scores for each query."""
        rows, scores = self.by_row.rank(
            self.queries, self.documents, k, lexical_scores=csr_array(self.text_scores.astype(np.float32))
        )
        return [[self.ids[row] for row in each] for each in rows], scores


def make(
    seed, *, dim=12, n=60, matrix=True, prior=0.03, memory="transformed", words=0.0, distance="cosine", dtype=np.float32
):
    """A scene; ``memory`` is None, ``"plain"`` or ``"transformed"``."""
    rng = np.random.default_rng(seed)
    n_keys, n_labelled = 9, len(IDS)
    documents = unit(rng, n, dim) * (1 if distance == "cosine" else rng.uniform(0.5, 1.5, (n, 1)).astype(np.float32))
    labelled = np.sort(rng.choice(n, n_labelled, replace=False))
    ids = [f"d{row:03d}" for row in range(n)]
    for place, row in enumerate(labelled.tolist()):
        ids[row] = IDS[place]
    keys = unit(rng, n_keys, dim)
    square = (rng.standard_normal((dim, dim)) * 0.5 / np.sqrt(dim)).astype(dtype) if matrix else None
    mover = Layer(dimensions=dim, matrix=None if square is None else square.astype(np.float32))
    pairs = np.concatenate([rng.permutation(n_labelled), rng.integers(0, n_labelled, 5)])
    built = memory and QueryMemory.build(
        mover.transform(keys) if memory == "transformed" else keys,
        rng.integers(0, n_keys, len(pairs)),
        pairs,
        rng.uniform(0.2, 1, len(pairs)).astype(np.float32),
        threshold=float(rng.choice([0.0, 0.3, 0.6])),
        gain=0.6,
        is_transformed=memory == "transformed",
    )
    has_bonus = bool(built or prior)
    layer = Layer(
        dimensions=dim,
        matrix=square,
        document_ids=tuple(labelled.tolist()) if has_bonus else (),
        document_vectors=documents[labelled].astype(dtype) if has_bonus else None,
        prior=prior,
        memory=built or None,
        distance=distance,
        words=WordsWeight(words, depth=4) if words else None,
    )
    queries = np.concatenate([keys[:3], unit_rows(keys[3:5] + 0.3 * unit(rng, 2, dim)), 2.5 * unit(rng, 2, dim)])
    found = rng.uniform(0.5, 12, (len(queries), n)) * (rng.uniform(size=(len(queries), n)) < 0.2)
    named = layer.with_document_ids([ids[row] for row in labelled]) if has_bonus else layer
    return Scene(named, layer, ids, queries, documents, found)


scenes = st.builds(
    make,
    st.integers(0, 2**32 - 1),
    dim=st.integers(2, 24),
    matrix=st.booleans(),
    prior=st.sampled_from([-0.05, -0.4, 0.0, 0.05]),
    memory=st.sampled_from([None, "plain", "transformed"]),
    words=st.sampled_from([0.0, 0.02]),
    distance=st.sampled_from(["cosine", "dot"]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
