"""Deep Memory: `deepmemory.training.fit`, on vectors alone or with the full-text scores of the queries."""

from typing import Any

import numpy as np
from exchange import Fitted, Given, main
from scipy.sparse import csr_array

from deepmemory.training import fit as train


def fit(given: Given, settings: dict[str, Any]) -> Fitted:
    """Train; the one setting, ``words``, hands over the full-text scores."""
    if settings.get("words"):
        return _with_words(given)
    result = train(given.train, given.documents, given.relevance, seed=given.seed)

    def rank(queries: np.ndarray, _: np.ndarray) -> np.ndarray:
        return result.layer.rank(queries, given.documents, k=100)[0]

    return Fitted(rank=rank, notes={"active": result.report.active, "reason": result.report.reason})


def _with_words(given: Given) -> Fitted:
    result = train(
        given.train, given.documents, given.relevance, lexical_scores=_scores(given, "train"), seed=given.seed
    )
    words = _scores(given, "test")

    def rank(queries: np.ndarray, places: np.ndarray) -> np.ndarray:
        return result.layer.rank(queries, given.documents, k=100, lexical_scores=words[places])[0]

    return Fitted(rank=rank, notes={"active": result.report.active, "reason": result.report.reason})


def _scores(given: Given, side: str) -> csr_array:
    data, indices, indptr = (given.arrays[f"{side}_words_{part}"] for part in ("data", "indices", "indptr"))
    return csr_array((data, indices, indptr), shape=(len(indptr) - 1, len(given.documents)))


if __name__ == "__main__":
    main(fit)
