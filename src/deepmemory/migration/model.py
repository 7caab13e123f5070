"""The map from a new model's vectors into the space of an old one's, in plain NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory.errors import ArtifactError
from deepmemory.transform import as_matrix, unit_rows

__all__ = ["Affine", "MigrationMap"]

Matrix: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Affine:
    """``x W + b``.

    Attributes:
        matrix: ``(new_dim, old_dim)`` float32.
        offset: ``(old_dim,)`` float32.
    """

    matrix: Matrix
    offset: Matrix

    def __call__(self, vectors: Matrix) -> Matrix:
        """Map ``(n, new_dim)`` to ``(n, old_dim)``, unit norm; what would be zero stays zero."""
        return unit_rows(vectors @ self.matrix + self.offset)


@dataclass(frozen=True, eq=False)
class MigrationMap:
    """Two maps, because queries and documents want different things.

    A query must *score* the old documents as the new model would, which is not the same as being where the old model
    would have put it. A document that is added later must be just there, beside the others.

    Attributes:
        queries: for the new model's vectors of queries.
        documents: for the new model's vectors of documents that are added later.
    """

    queries: Affine
    documents: Affine

    @property
    def new_dimensions(self) -> int:
        """Length of the vectors that it takes."""
        return int(self.queries.matrix.shape[0])

    @property
    def old_dimensions(self) -> int:
        """Length of the vectors that it gives."""
        return int(self.queries.matrix.shape[1])

    def transform(self, new_vectors: ArrayLike) -> Matrix:
        """Map vectors of queries.

        Args:
            new_vectors: ``(n, new_dim)`` or ``(new_dim,)``, of the new model.

        Returns:
            ``(n, old_dim)`` or ``(old_dim,)`` float32, unit norm: what the old model's documents are searched with.

        Raises:
            InputError: wrong number of dimensions, or values that are not finite.
        """
        return self._mapped(self.queries, new_vectors)

    def transform_documents(self, new_vectors: ArrayLike) -> Matrix:
        """Map vectors of documents to about where the old model would have put them; as `transform`."""
        return self._mapped(self.documents, new_vectors)

    def to_arrays(self) -> dict[str, Matrix]:
        """All that it is; `from_arrays` gives the same map back, bit for bit."""
        return {
            f"{name}.{part}": getattr(affine, part)
            for name, affine in (("queries", self.queries), ("documents", self.documents))
            for part in ("matrix", "offset")
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "MigrationMap":
        """The map that `to_arrays` took apart.

        Raises:
            ArtifactError: an array is missing, or has another shape or type than the others imply.
        """
        try:
            parts = [Affine(arrays[f"{name}.matrix"], arrays[f"{name}.offset"]) for name in ("queries", "documents")]  # type: ignore[arg-type]
        except KeyError as missing:
            raise ArtifactError(f"the saved map lacks the array {missing}; migrate again or restore the file") from None
        shape = parts[0].matrix.shape
        for part in parts:
            fits = part.matrix.ndim == 2 and part.matrix.shape == shape and part.offset.shape == shape[1:]
            if not fits or part.matrix.dtype != np.float32 or part.offset.dtype != np.float32:
                raise ArtifactError(
                    f"the saved map should hold float32 matrices of one shape with offsets of their width; found "
                    f"{part.matrix.shape} {part.matrix.dtype} and {part.offset.shape} {part.offset.dtype}; "
                    "migrate again or restore the file"
                )
        return cls(*parts)

    def _mapped(self, affine: Affine, new_vectors: ArrayLike) -> Matrix:
        vectors = as_matrix(new_vectors, self.new_dimensions, "new_vectors")
        return affine(vectors).reshape(*np.shape(new_vectors)[:-1], self.old_dimensions)
