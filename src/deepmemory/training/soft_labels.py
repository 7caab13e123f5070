"""Soft labels: documents that are like a right answer are given a share of its label.

A label says that one document answers a question. It says nothing of the others, and those most like it often answer as
well, or half. A softmax that takes them for wrong pushes away what it should draw near, and the layer spends itself on
telling apart what nobody needs told apart. So a right answer keeps most of its label and the rest goes to documents by
their likeness to it::

    y_ij = (1 - SHARE) t_ij + SHARE * sum_k t_ik softmax_j(v_k / |v_k| . v_j / LIKENESS)

with ``t`` the grades of a query, summing to 1. It is label smoothing (Szegedy et al., 2016), but towards what is near
in place of everything. Beyond the odds that such targets ask for nothing is gained by pulling further, so a softer
layer also leaves more of the search as it was.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepmemory.training.softmax import softmax_in_place
from deepmemory.transform import unit_rows

__all__ = ["softened"]

Matrix: TypeAlias = NDArray[np.float32]

SHARE = 0.3
"""Of a label, what goes to documents like the answer, itself among them."""

LIKENESS = 0.12
"""Temperature of the likeness of documents, a little above a typical spread of scores (`spread.TYPICAL`)."""

_BLOCK = 1 << 22
"""Likenesses held at once: 16 MiB of float32."""


def softened(documents: Matrix) -> Matrix:
    """What a label on each document asks for: the sum of the documents, each times its share of the label.

    Args:
        documents: ``(n, dim)`` float32, of a length at which scores have the spread `spread.TYPICAL`.

    Returns:
        ``(n, dim)`` float32.
    """
    unit = unit_rows(documents)
    asked = np.empty_like(documents)
    step = max(1, _BLOCK // len(documents))
    for start in range(0, len(documents), step):
        likeness = unit[start : start + step] @ documents.T
        likeness *= np.float32(1 / LIKENESS)
        softmax_in_place(likeness)
        asked[start : start + step] = likeness @ documents
    asked *= np.float32(SHARE)
    asked += np.float32(1 - SHARE) * documents
    return asked
