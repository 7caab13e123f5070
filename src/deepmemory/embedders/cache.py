"""Vectors of queries kept on disk, so that a query is embedded, waited for and paid for once."""

import hashlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.base import Embedder
from deepmemory.embedders.checks import check_texts, no_vectors
from deepmemory.progress import Progress

__all__ = ["CachedEmbedder", "QueryCache"]

_log = logging.getLogger(__name__)

_SLICE = 1024  # embedded and kept together: what a failure or Ctrl-C can lose
_ROWS_PER_STATEMENT = 500
_BUSY_SECONDS = 10.0
_NORM_TOLERANCE = 1e-3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS query_vectors (
    age INTEGER PRIMARY KEY,
    embedder TEXT NOT NULL,
    digest BLOB NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (embedder, digest)
)
"""


class QueryCache:
    """Query vectors on disk by embedder and text, in one SQLite file that threads and processes may share.

    It is a convenience and never an obstacle: where the file can't be read or written, or is damaged, the queries are
    embedded as if there were no cache, and `logging` has one warning that names the file. Texts are stored as digests.
    """

    def __init__(self, path: str | Path, *, max_entries: int = 50_000, at_once: int = _SLICE) -> None:
        """Name the file; it is made when the first vector is kept.

        Args:
            path: the file.
            max_entries: beyond it the oldest vectors are dropped (50,000 vectors of 1,536 dimensions take 300 MB).
            at_once: queries embedded, and then kept, together; with more of them several workers have something to do.
        """
        self._path = Path(path)
        self._max_entries = max_entries
        self._at_once = at_once
        self._readable = True
        self._writable = True

    def embed_queries(
        self,
        embedder: Embedder,
        fingerprint_key: str,
        texts: Sequence[str],
        *,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Embed queries, asking the embedder only for those that are not kept yet, each distinct text once.

        Args:
            embedder: makes the vectors that are missing.
            fingerprint_key: `Fingerprint.key` of the embedder, as kept with the store.
            texts: the queries; the same one may appear often.
            progress: called with ``(queries done, len(texts))``.

        Returns:
            ``(len(texts), dimensions)`` float32, unit norm.

        Raises:
            InputError: the texts are no list of strings.
            EmbedderError: the embedder failed; what it had embedded until then is kept.
        """
        checked = check_texts(texts)
        if not checked:
            return no_vectors(embedder.dimensions)
        distinct = list(dict.fromkeys(checked))
        vectors = self._get(fingerprint_key, distinct)
        missing = [text for text in distinct if text not in vectors]
        for start in range(0, len(missing), self._at_once):
            part = missing[start : start + self._at_once]
            already = len(checked) - len(missing) + start
            made = embedder.embed_queries(part, progress=_offset(progress, already, len(checked)))
            fresh = dict(zip(part, made, strict=True))
            self._put(fingerprint_key, fresh)
            vectors.update(fresh)
        if not missing and progress is not None:
            progress(len(checked), len(checked))
        return np.stack([vectors[text] for text in checked])

    def _get(self, fingerprint_key: str, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        if not self._readable:
            return {}
        by_digest = {_digest(text): text for text in texts}
        try:
            if not self._path.exists():
                return {}
            with self._connection() as connection:
                kept = {by_digest[d]: _vector(blob) for d, blob in _select(connection, fingerprint_key, by_digest)}
        except (sqlite3.Error, OSError) as error:
            self._readable = self._writable = False
            self._warn("read", error)
            return {}
        return {text: vector for text, vector in kept.items() if vector is not None}

    def _put(self, fingerprint_key: str, vectors: dict[str, NDArray[np.float32]]) -> None:
        if not self._writable:
            return
        rows = [(fingerprint_key, _digest(text), vector.astype("<f4").tobytes()) for text, vector in vectors.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                with connection:
                    connection.executemany(
                        "INSERT OR REPLACE INTO query_vectors (embedder, digest, vector) VALUES (?, ?, ?)", rows
                    )
                    connection.execute(
                        "DELETE FROM query_vectors WHERE age <= (SELECT max(age) FROM query_vectors) - ?",
                        (self._max_entries,),
                    )
                # Readers need not wait for writers then. Only now is it certain that the file is a cache, and so ours
                # to change; it is refused while others are in the file, and asked for again the next time.
                connection.execute("PRAGMA busy_timeout = 0")
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = WAL")
        except (sqlite3.Error, OSError) as error:
            self._writable = False
            self._warn("written", error)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        # One connection a use, which takes well under a millisecond: none has to be closed at the end, none is
        # carried into a forked process, and none holds on to a file that someone deleted.
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # a cache that a power cut damages is made anew
            connection.execute(_SCHEMA)
            yield connection

    def _warn(self, what: str, error: Exception) -> None:
        _log.warning(
            "the query cache %s can't be %s (%s); queries are embedded without it. "
            "Deleting the file starts a new cache",
            self._path,
            what,
            error,
        )


class CachedEmbedder(Embedder):
    """An embedder whose query vectors are kept in a `QueryCache`; documents pass through."""

    def __init__(self, embedder: Embedder, fingerprint_key: str, cache: QueryCache) -> None:
        """Put a cache before an embedder.

        Args:
            embedder: makes the vectors.
            fingerprint_key: `Fingerprint.key` of the embedder, as kept with the store.
            cache: where query vectors are kept.
        """
        self._embedder = embedder
        self._fingerprint_key = fingerprint_key
        self._cache = cache

    @property
    def name(self) -> str:
        """The name of the embedder within."""
        return self._embedder.name

    @property
    def dimensions(self) -> int | None:
        """The dimensions of the embedder within."""
        return self._embedder.dimensions

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents, without the cache."""
        return self._embedder.embed_documents(texts, progress=progress)

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed the queries that the cache does not have."""
        return self._cache.embed_queries(self._embedder, self._fingerprint_key, texts, progress=progress)


def _select(
    connection: sqlite3.Connection, fingerprint_key: str, digests: Iterable[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    wanted = list(digests)
    for start in range(0, len(wanted), _ROWS_PER_STATEMENT):
        part = wanted[start : start + _ROWS_PER_STATEMENT]
        marks = ", ".join("?" * len(part))
        yield from connection.execute(
            f"SELECT digest, vector FROM query_vectors WHERE embedder = ? AND digest IN ({marks})",
            (fingerprint_key, *part),
        )


def _vector(blob: object) -> NDArray[np.float32] | None:
    """The vector in a row; None, as if it were not kept, where the bytes are no unit vector any more."""
    if not isinstance(blob, bytes) or len(blob) % 4:
        return None
    vector = np.frombuffer(blob, dtype="<f4").astype(np.float32)
    return vector if abs(float(np.linalg.norm(vector)) - 1) < _NORM_TOLERANCE else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _offset(progress: Progress | None, already: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(already + done, total)
