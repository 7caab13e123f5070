"""The learned layer: what a query embedding goes through before the search, in plain NumPy.

The score of document ``d`` for query ``x`` is a sum that can be read part by part::

    score(x, d) = x' . d  +  [d is labelled] * (prior + gain * max(0, nearest(x, d) - threshold))  +  words(x, d)

    x'            = (x + x A) / |x + x A|        the residual linear layer; A = 0 is the identity
    labelled      = relevant to some training query
    nearest(x, d) = the largest cosine, about their mean, of x' with a transformed training query that d answers
    words(x, d)   = what d gets for the words that it shares with the query, where full-text search is to be had

Layers saved before keys were transformed compare the queries as they come; `QueryMemory.is_transformed` tells.

The first part is an ordinary vector search. The second touches labelled documents only, whose vectors the layer
carries, and the third the hits of an ordinary full-text search (`deepmemory.words`), so that a search through an index
stays a search through an index (`deepmemory.retrieval`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory.errors import ArtifactError, InputError
from deepmemory.words import LexicalScores, WordsWeight, check_lexical_scores

__all__ = ["Layer", "QueryMemory", "as_matrix", "unit_rows"]

Vectors: TypeAlias = NDArray[np.float32]

_SCORE_BLOCK = 1 << 24
"""Scores held at once while ranking: 64 MiB of float32."""


@dataclass(frozen=True, eq=False)
class QueryMemory:
    """What earlier queries wanted: the training queries as keys, their relevant documents as values.

    Attributes:
        centre: ``(dim,)`` float32, the mean of the keys' vectors; subtracted so that cosines spread out.
        keys: ``(n_keys, dim)`` float32, unit norm: the training queries, centred.
        pair_key: ``(n_pairs,)`` int32, the key of each (key, document) pair; pairs are sorted by document.
        pair_document: ``(n_pairs,)`` int32, its labelled document, by position; each position occurs.
        pair_weight: ``(n_pairs,)`` float32 in (0, 1], the grade relative to the key's highest.
        threshold: cosine at and below which a key says nothing, 0 or more.
        gain: score added for each unit of cosine above the threshold.
        is_transformed: whether keys are training queries after the linear layer, to be compared with queries after it.
    """

    centre: Vectors
    keys: Vectors
    pair_key: NDArray[np.int32]
    pair_document: NDArray[np.int32]
    pair_weight: Vectors
    threshold: float
    gain: float
    is_transformed: bool = False

    @classmethod
    def build(
        cls,
        query_vectors: Vectors,
        pair_query: NDArray[np.int64],
        pair_document: NDArray[np.int64],
        pair_grade: Vectors,
        *,
        threshold: float = 0.0,
        gain: float = 1.0,
        is_transformed: bool = False,
    ) -> "QueryMemory":
        """Make a memory of training queries.

        Args:
            query_vectors: ``(n_queries, dim)`` float32, unit norm; after the linear layer if ``is_transformed``.
            pair_query: ``(n_pairs,)`` rows of ``query_vectors``.
            pair_document: ``(n_pairs,)`` positions ``0..n_labelled - 1``, each of which must occur.
            pair_grade: ``(n_pairs,)`` grades > 0.
            threshold: as in the class.
            gain: as in the class.
            is_transformed: as in the class.
        """
        centre = query_vectors.mean(axis=0)
        highest = np.zeros(len(query_vectors), dtype=np.float32)
        np.maximum.at(highest, pair_query, pair_grade)
        order = np.argsort(pair_document, kind="stable")
        return cls(
            centre=centre,
            keys=_directions(query_vectors - centre),
            pair_key=pair_query[order].astype(np.int32),
            pair_document=pair_document[order].astype(np.int32),
            pair_weight=(pair_grade / highest[pair_query])[order].astype(np.float32),
            threshold=threshold,
            gain=gain,
            is_transformed=is_transformed,
        )

    def check(self, n_labelled: int) -> None:
        """Check that each pair names a key and a labelled document, and that each labelled document has a pair.

        Raises:
            ArtifactError: if not.
        """
        keys_exist = bool(np.all((self.pair_key >= 0) & (self.pair_key < len(self.keys))))
        covered = np.array_equal(np.unique(self.pair_document), np.arange(n_labelled))
        if not (keys_exist and covered and np.all(np.diff(self.pair_document) >= 0)):
            raise ArtifactError(
                f"the saved layer's memory should pair its {len(self.keys)} keys with {n_labelled} labelled documents "
                "and names others; train again or restore the file"
            )
        if not self.threshold >= 0:
            raise ArtifactError(
                f"the saved layer's memory should have a threshold of 0 or more and has {self.threshold}; "
                "train again or restore the file"
            )

    def nearest(self, query_vectors: Vectors) -> Vectors:
        """Weighted cosine of each query with the nearest key of each labelled document.

        Args:
            query_vectors: ``(n, dim)`` float32, unit norm; after the linear layer if `is_transformed`.

        Returns:
            ``(n, n_labelled)`` float32.
        """
        starts = np.flatnonzero(np.diff(self.pair_document, prepend=-1))
        by_pair = self.cosines(query_vectors)[:, self.pair_key]
        by_pair *= self.pair_weight
        return np.maximum.reduceat(by_pair, starts, axis=1)

    def bonus(self, query_vectors: Vectors) -> Vectors:
        """Score to add for each labelled document: ``gain * max(0, nearest - threshold)``, ``(n, n_labelled)``.

        A weight is 1 at most, so only the pairs of keys above the threshold can add anything, and those are few.
        """
        cosines = self.cosines(query_vectors)
        bonus = np.zeros((len(cosines), int(self.pair_document[-1]) + 1), dtype=np.float32)
        row, key = np.nonzero(cosines > self.threshold)
        if len(row):
            order, first = self._pairs_by_key
            count = first[key + 1] - first[key]
            within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            pair = order[np.repeat(first[key], count) + within]
            row = np.repeat(row, count)
            above = cosines[row, self.pair_key[pair]] * self.pair_weight[pair] - np.float32(self.threshold)
            np.maximum.at(bonus, (row, self.pair_document[pair]), above)
            bonus *= np.float32(self.gain)
        return bonus

    def cosines(self, query_vectors: Vectors) -> Vectors:
        """Cosine of each query with each key, about the keys' mean, ``(n, n_keys)``."""
        return _products(_directions(query_vectors - self.centre), self.keys)

    @cached_property
    def _pairs_by_key(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs in the order of their keys, and where each key's begin, ``(n_keys + 1,)``."""
        order = np.argsort(self.pair_key, kind="stable")
        return order, np.searchsorted(self.pair_key[order], np.arange(len(self.keys) + 1))


@dataclass(frozen=True, eq=False)
class Layer:
    """What was learned; immutable, and applied without any other library than NumPy.

    Attributes:
        dimensions: length of the vectors that it takes and gives.
        matrix: ``(dim, dim)`` float32, ``A`` of the residual; None is the identity.
        document_ids: the labelled documents: ids in a store, rows of the document vectors for bare arrays.
            Empty where neither prior nor memory is in use.
        document_vectors: ``(n_labelled, dim)`` float32, the vectors of the labelled documents at training time.
        prior: score added for being labelled at all.
        memory: the training queries and what they wanted, or None.
        distance: how documents are compared, ``"cosine"`` or ``"dot"``.
        words: how far full-text search is trusted beside the vectors; None is not at all.
    """

    dimensions: int
    matrix: Vectors | None = None
    document_ids: tuple[str, ...] | tuple[int, ...] = ()
    document_vectors: Vectors | None = None
    prior: float = 0.0
    memory: QueryMemory | None = None
    distance: Literal["cosine", "dot"] = "cosine"
    words: WordsWeight | None = None

    @classmethod
    def identity(cls, dimensions: int, *, distance: Literal["cosine", "dot"] = "cosine") -> "Layer":
        """The layer that changes nothing."""
        return cls(dimensions=dimensions, distance=distance)

    @property
    def is_identity(self) -> bool:
        """Whether searching with the layer is the same as searching without."""
        return self.matrix is None and not self.has_bonus and self.words is None

    @property
    def has_bonus(self) -> bool:
        """Whether labelled documents get anything beside their similarity."""
        return self.memory is not None or self.prior != 0

    @cached_property
    def place_of(self) -> Mapping[str, int]:
        """The position of each labelled document by its id."""
        return {str(i): place for place, i in enumerate(self.document_ids)}

    @cached_property
    def _columns(self) -> Vectors:
        """The matrix by columns, each in one piece."""
        assert self.matrix is not None
        return np.ascontiguousarray(self.matrix.T)

    def with_document_ids(self, ids: Sequence[str]) -> "Layer":
        """The same layer with other names for its labelled documents, in the same order.

        Raises:
            InputError: there are more or fewer names than labelled documents.
        """
        if len(ids) != len(self.document_ids):
            raise InputError(f"the layer has {len(self.document_ids)} labelled documents; {len(ids)} ids were given")
        return replace(self, document_ids=tuple(ids))

    def transform(self, query_vectors: ArrayLike) -> Vectors:
        """Apply the residual linear layer.

        Args:
            query_vectors: ``(n, dim)`` or ``(dim,)``, any float type.

        Returns:
            The same shape, float32, unit norm.

        Raises:
            InputError: wrong number of dimensions, or values that are not finite.
        """
        vectors = as_matrix(query_vectors, self.dimensions, "query_vectors")
        return self._moved(vectors).reshape(np.shape(query_vectors))

    def bonus(self, query_vectors: ArrayLike) -> Vectors:
        """What each labelled document's score gets beside its similarity.

        Args:
            query_vectors: ``(n, dim)``, not transformed.

        Returns:
            ``(n, n_labelled)`` float32, in the order of `document_ids`.
        """
        return self.apply(query_vectors)[1]

    def apply(self, query_vectors: ArrayLike) -> tuple[Vectors, Vectors]:
        """`transform` and `bonus` at once, for vectors ``(n, dim)`` that are then looked through but once."""
        vectors = as_matrix(query_vectors, self.dimensions, "query_vectors")
        moved = self._moved(vectors)
        return moved, self._bonus(vectors, moved)

    def _moved(self, vectors: Vectors) -> Vectors:
        return unit_rows(vectors if self.matrix is None else vectors + _products(vectors, self._columns))

    def _bonus(self, vectors: Vectors, moved: Vectors) -> Vectors:
        if self.memory is None:
            return np.full((len(vectors), len(self.document_ids)), self.prior, dtype=np.float32)
        bonus = self.memory.bonus(moved if self.memory.is_transformed else unit_rows(vectors))
        if self.prior:
            bonus += np.float32(self.prior)
        return bonus

    def rank(
        self,
        query_vectors: ArrayLike,
        document_vectors: ArrayLike,
        k: int = 100,
        *,
        lexical_scores: LexicalScores | None = None,
    ) -> tuple[NDArray[np.int64], Vectors]:
        """Rank all documents exactly, label memory included.

        Args:
            query_vectors: ``(n, dim)``.
            document_vectors: ``(n_documents, dim)``: the documents that the layer was trained on, in the same rows.
            k: hits a query; fewer where there are fewer documents.
            lexical_scores: ``(n, n_documents)``, full-text scores as in `deepmemory.training.fit`; without them words
                add nothing.

        Returns:
            rows ``(n, k)`` int64, best first, ties by ascending row, and their scores ``(n, k)`` float32.

        Raises:
            InputError: shapes do not fit, or the layer's labelled documents have ids of a store instead of rows.
        """
        documents = as_matrix(document_vectors, self.dimensions, "document_vectors")
        if self.distance == "cosine":
            documents = unit_rows(documents)
        queries = as_matrix(query_vectors, self.dimensions, "query_vectors")
        labelled = self._labelled_rows(len(documents)) if self.has_bonus else None
        words = None
        if self.words is not None and lexical_scores is not None:
            words = self.words.of_scores(check_lexical_scores(lexical_scores, len(queries), len(documents)))
        k = min(k, len(documents))
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        step = max(1, _SCORE_BLOCK // max(1, len(documents)))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            moved = self._moved(queries[block])
            all_scores = moved @ documents.T
            if labelled is not None:
                all_scores[:, labelled] += self._bonus(queries[block], moved)
            if words is not None:
                all_scores += words[start : start + step].toarray()
            rows[block], scores[block] = _top(all_scores, k)
        return rows, scores

    def _labelled_rows(self, n_documents: int) -> NDArray[np.int64]:
        if any(isinstance(i, str) for i in self.document_ids):
            raise InputError(
                "this layer's labelled documents are ids of a store; rank by rows needs a layer from fit()"
            )
        rows = np.array(self.document_ids, dtype=np.int64)
        if len(rows) and rows.max() >= n_documents:
            raise InputError(
                f"the layer was trained on at least {rows.max() + 1} documents; document_vectors has {n_documents} rows"
            )
        return rows

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that the layer is, as numeric arrays; `from_arrays` gives the same layer back, bit for bit."""
        numbers = {"dimensions": self.dimensions, "prior": self.prior, "is_dot": self.distance == "dot"}
        arrays: dict[str, NDArray[np.generic]] = {k: np.array([v], dtype=np.float64) for k, v in numbers.items()}
        if self.matrix is not None:
            arrays["matrix"] = self.matrix
        if self.document_vectors is not None:
            arrays["document_vectors"] = self.document_vectors
            arrays |= _ids_to_arrays(self.document_ids)
        if self.words is not None:
            arrays["words"] = np.array([self.words.weight, self.words.depth], dtype=np.float64)
        if self.memory is not None:
            m = self.memory
            arrays |= {f"memory.{name}": getattr(m, name) for name in _MEMORY_ARRAYS}
            arrays["memory.numbers"] = np.array([m.threshold, m.gain, m.is_transformed], dtype=np.float64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> "Layer":
        """The layer that `to_arrays` took apart.

        Raises:
            ArtifactError: an array is missing, or has another shape or type than the others imply.
        """
        try:
            memory = None
            if "memory.keys" in arrays:
                # files from before keys were transformed hold two numbers
                threshold, gain, *is_transformed = arrays["memory.numbers"].astype(np.float64).tolist()
                parts = {name: arrays[f"memory.{name}"] for name in _MEMORY_ARRAYS}
                memory = QueryMemory(
                    **parts,  # type: ignore[arg-type]
                    threshold=threshold,
                    gain=gain,
                    is_transformed=is_transformed == [1.0],
                )
            vectors = arrays.get("document_vectors")
            layer = cls(
                dimensions=int(arrays["dimensions"][0]),
                matrix=arrays.get("matrix"),  # type: ignore[arg-type]
                document_ids=() if vectors is None else _ids_from_arrays(arrays),
                document_vectors=vectors,  # type: ignore[arg-type]
                prior=float(arrays["prior"][0]),
                memory=memory,
                distance="dot" if arrays["is_dot"][0] else "cosine",
                words=_words_from(arrays.get("words")),
            )
        except KeyError as missing:
            raise ArtifactError(f"the saved layer lacks the array {missing}; train again or restore the file") from None
        layer._check_shapes()
        return layer

    def _check_shapes(self) -> None:
        n, dim = len(self.document_ids), self.dimensions
        expected: list[tuple[str, NDArray[np.generic] | None, tuple[int, ...], type[np.generic]]] = [
            ("matrix", self.matrix, (dim, dim), np.float32),
            ("document_vectors", self.document_vectors, (n, dim), np.float32),
        ]
        if self.memory is not None:
            n_keys, n_pairs = len(self.memory.keys), len(self.memory.pair_key)
            expected += [
                ("memory.centre", self.memory.centre, (dim,), np.float32),
                ("memory.keys", self.memory.keys, (n_keys, dim), np.float32),
                ("memory.pair_key", self.memory.pair_key, (n_pairs,), np.int32),
                ("memory.pair_document", self.memory.pair_document, (n_pairs,), np.int32),
                ("memory.pair_weight", self.memory.pair_weight, (n_pairs,), np.float32),
            ]
        for name, array, shape, dtype in expected:
            if array is not None and (array.shape != shape or array.dtype != dtype):
                raise ArtifactError(
                    f"the saved layer's {name} should be {shape} {np.dtype(dtype).name} "
                    f"and is {array.shape} {array.dtype.name}; train again or restore the file"
                )
        if self.memory is not None:
            self.memory.check(len(self.document_ids))


def _words_from(numbers: NDArray[np.generic] | None) -> WordsWeight | None:
    if numbers is None:
        return None
    weight, depth = numbers.astype(np.float64).tolist() if numbers.shape == (2,) else (-1.0, 0.0)
    if not (math.isfinite(weight) and weight > 0 and depth >= 1 and depth == int(depth)):
        raise ArtifactError(
            "the saved layer's words should be a weight above 0 and a depth of 1 or more, and are "
            f"{numbers.tolist()}; train again or restore the file"
        )
    return WordsWeight(weight, int(depth))


_MEMORY_ARRAYS = ("centre", "keys", "pair_key", "pair_document", "pair_weight")


def as_matrix(vectors: ArrayLike, dimensions: int | None, what: str) -> Vectors:
    """Check vectors and give them as ``(n, dim)`` float32, without a copy where they are that already.

    Args:
        vectors: ``(n, dim)`` or ``(dim,)``.
        dimensions: what ``dim`` must be; None for any.
        what: the argument's name, for the message.

    Raises:
        InputError: another shape, not numbers, or values that are not finite, by row.
    """
    try:
        matrix = np.ascontiguousarray(np.atleast_2d(np.asarray(vectors)), dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{what} should be an array of numbers of shape (n, dim); it holds something else") from None
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise InputError(f"{what} should have the shape (n, dim); it has {matrix.shape}")
    if dimensions is not None and matrix.shape[1] != dimensions:
        raise InputError(f"{what} should have {dimensions} dimensions; it has {matrix.shape[1]}")
    # a sum is finite unless some value is not: one cheap pass, and the rows are looked up only when needed
    if not np.isfinite(matrix.sum(dtype=np.float64)):
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        raise InputError([f"{what}[{row}] holds NaN or infinity" for row in bad.tolist()])
    return matrix


def unit_rows(vectors: Vectors) -> Vectors:
    """Rows scaled to unit norm; the same array, not a copy, where they are already; zero rows stay zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if np.all(np.abs(norms - 1) < 1e-6):
        return vectors
    norms[norms == 0] = 1
    scaled: Vectors = vectors / norms[:, None]
    return scaled


def _products(vectors: Vectors, rows: Vectors) -> Vectors:
    """Dot products of vectors ``(n, dim)`` with rows ``(m, dim)``, ``(n, m)``.

    For the one vector of an ordinary search without the threads of BLAS: they take longer to wake than to multiply,
    and beside a busy engine, which uses every core, they hold each other up for milliseconds.
    """
    products: Vectors = np.vecdot(rows, vectors) if len(vectors) == 1 else vectors @ rows.T
    return products.reshape(len(vectors), len(rows))


def _directions(vectors: Vectors) -> Vectors:
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    # a query that is the mean itself has no direction: it is near nothing
    norms[norms < 1e-12] = np.inf
    directions: Vectors = vectors / norms[:, None]
    return directions


def _top(scores: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    n_documents = scores.shape[1]
    if k < n_documents:
        rows = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        rows = np.broadcast_to(np.arange(n_documents), scores.shape)
    found = np.take_along_axis(scores, rows, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(found, order, axis=1)


def _ids_to_arrays(ids: tuple[str, ...] | tuple[int, ...]) -> dict[str, NDArray[np.generic]]:
    if all(isinstance(i, int) for i in ids):
        return {"document_rows": np.array(ids, dtype=np.int64)}
    encoded = [str(i).encode() for i in ids]
    ends = np.cumsum([len(e) for e in encoded], dtype=np.int64)
    return {"document_id_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), "document_id_ends": ends}


def _ids_from_arrays(arrays: dict[str, NDArray[np.generic]]) -> tuple[str, ...] | tuple[int, ...]:
    if "document_rows" in arrays:
        return tuple(int(row) for row in arrays["document_rows"].tolist())
    text = arrays["document_id_bytes"].tobytes()
    ends = arrays["document_id_ends"].tolist()
    return tuple(text[start:end].decode() for start, end in zip([0, *ends[:-1]], ends, strict=True))
