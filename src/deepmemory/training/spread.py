"""How far the scores of documents lie apart, which differs between embedding models and sets the unit of all the rest.

With some models the cosines of one query with the documents fill the range from -.1 to .7, with others, whose vectors
share a large common part, that from .8 to .9, and the search is as good. A temperature, a prior or a trust in words
that is right for the one would drown the scores of the other. So they are chosen in units of the spread.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["TYPICAL", "score_spread"]

Matrix: TypeAlias = NDArray[np.float32]

TYPICAL = 0.1
"""The spread for which `deepmemory.training.settings` and the temperature are written: that of six collections under
all-MiniLM-L6-v2 lies between 0.09 and 0.12."""

_MOST_QUERIES = 1_000
_MOST_DOCUMENTS = 2_000
_NEXT_TO_NOTHING = 1e-6


def score_spread(queries: Matrix, documents: Matrix) -> float:
    """Standard deviation of a query's scores over the documents, root mean square over the queries.

    Args:
        queries: ``(n, dim)`` unit norm; of many, some are taken.
        documents: ``(n_documents, dim)``, likewise.

    Returns:
        the spread, above 0; `TYPICAL` where all documents score alike.
    """
    some = queries[:: -(-len(queries) // _MOST_QUERIES)]
    scores = some @ documents[:: -(-len(documents) // _MOST_DOCUMENTS)].T
    spread = float(np.sqrt(scores.var(axis=1, dtype=np.float64).mean()))
    return spread if spread > _NEXT_TO_NOTHING else TYPICAL
