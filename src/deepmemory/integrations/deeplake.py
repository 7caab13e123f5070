"""`VectorStore` of Deep Lake 3, by its names and shapes, over any store of Deep Memory."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

import deepmemory
from deepmemory.embedders import resolve_embedder
from deepmemory.errors import CapabilityError, InputError
from deepmemory.integrations.arguments import (
    NO_QUERIES,
    check_exec_option,
    one_text,
    refuse_other_tensors,
    refuse_rows_and_queries,
    returned_tensors,
    without_gaps,
)
from deepmemory.integrations.dataset import TENSORS, Dataset, Tensor, TensorName
from deepmemory.integrations.filters import DeepLakeFilter, Selection, matching, read_deeplake_filter
from deepmemory.integrations.opening import open_store, translated_path, whole_embedder
from deepmemory.integrations.searching import check_metric, find, most_diverse, vectors_of
from deepmemory.memory import DeepMemory, EmbedderSpec
from deepmemory.store import RECORDED, Hit

__all__ = ["VectorStore"]

_BATCH = 512
_ONE_BRANCH = "a store has one state and no branches or commits: every change is kept as soon as its call returns"


class VectorStore:
    """Deep Lake 3's vector store: the tensors ``text``, ``metadata``, ``embedding`` and ``id``, and ``deep_memory``.

    Scores are similarities: higher is better. What Deep Lake had and a store of ours has not is refused with a
    `CapabilityError`; options that only tuned its engine are accepted and change nothing.

    Example:
        >>> store = VectorStore("./docs-store", embedding_function="local")
        >>> ids = store.add(text=["Ice is frozen water."], metadata=[{"page": 1}], return_ids=True)
        >>> store.search(embedding_data="what is ice?", k=1)["text"]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        embedding_function: EmbedderSpec | None = None,
        read_only: bool | None = None,
        *,
        ingestion_batch_size: int = 1000,  # noqa: ARG002  the engine's own sizes are used
        num_workers: int = 0,  # noqa: ARG002
        index_params: Mapping[str, Any] | None = None,  # noqa: ARG002  the engine decides when to index
        exec_option: str | None = "auto",
        token: str | None = None,
        overwrite: bool = False,
        verbose: bool = False,
        runtime: Mapping[str, Any] | None = None,
        creds: Mapping[str, str] | None = None,
        org_id: str | None = None,  # noqa: ARG002  the path of a hub names the organisation
        branch: str = "main",
        tensor_params: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Open the store at a path, or make one there.

        Args:
            path: a folder, ``hub://org/name``, ``s3://bucket/prefix`` or ``mem://``.
            embedding_function: turns texts into vectors: an object with ``embed_documents`` and ``embed_query``, a
                function from a list of texts to their vectors, ``"local"`` or ``"openai:MODEL"``. None is the one that
                an existing store has on record; in a new store vectors are then always given.
            read_only: refuse every change.
            ingestion_batch_size: accepted, and not needed.
            num_workers: accepted, and not needed.
            index_params: accepted, and not needed: the engine indexes by itself.
            exec_option: ``"auto"``, ``"python"``, ``"compute_engine"`` or ``"tensor_db"``; all are the same here.
            token: of a hub; other paths need none.
            overwrite: remove everything that the store holds, and begin anew.
            verbose: print what the store holds after each `add`.
            runtime: of a hub; other paths need none.
            creds: of a bucket, by the names that LanceDB takes.
            org_id: accepted, and not needed.
            branch: ``"main"``.
            tensor_params: refused: the four tensors are given.

        Raises:
            CapabilityError: another branch or other tensors are asked for.
            InputError: an argument is wrong.
            DeepMemoryError: the store can't be opened; see `deepmemory.VectorStore`.
        """
        if tensor_params is not None:
            raise CapabilityError(
                f"a store has the tensors {', '.join(TENSORS)} and no others: leave out tensor_params"
            )
        if branch != "main":
            raise CapabilityError(f"there is no branch {branch!r}: {_ONE_BRANCH}")
        check_exec_option(exec_option)
        self._verbose = verbose
        self._store = open_store(
            translated_path(path),
            None if embedding_function is None else whole_embedder(embedding_function),
            read_only=bool(read_only),
            overwrite=overwrite,
            storage_options=creds,
            hub={"token": token, "runtime": runtime},
        )

    @property
    def store(self) -> deepmemory.VectorStore:
        """The store behind it, for what Deep Lake had no name for."""
        return self._store

    @property
    def dataset(self) -> Dataset:
        """The documents by tensor: ``dataset.text.data(aslist=True)["value"]``."""
        return Dataset(self._store)

    @property
    def deep_memory(self) -> DeepMemory:
        """Train, watch and evaluate."""
        return self._store.deep_memory

    @property
    def path(self) -> str:
        """Where the store is."""
        return self._store.path

    def add(
        self,
        embedding_function: EmbedderSpec | None = None,
        embedding_data: Sequence[str] | None = None,
        embedding_tensor: str | Sequence[str] | None = None,
        return_ids: bool = False,
        rate_limiter: Mapping[str, Any] | None = None,  # noqa: ARG002  embedders pace themselves
        *,
        text: Sequence[str],
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        embedding: ArrayLike | None = None,
        id: Sequence[str | None] | None = None,
    ) -> list[str] | None:
        """Add documents, replacing those whose id exists.

        Args:
            embedding_function: makes the vectors instead of the store's own; they must be of the same kind.
            embedding_data: texts to embed instead of ``text``.
            embedding_tensor: ``"embedding"``, the only one.
            return_ids: whether to return the ids.
            rate_limiter: accepted, and not needed: embedders pace themselves.
            text: what is kept and found.
            metadata: for each text JSON values by key.
            embedding: ``(n, dimensions)``, the vectors, where they are known already.
            id: unique in the store; where one is None, or all are, a random one is made.

        Returns:
            the ids in order, where they were asked for.

        Raises:
            InputError: everything that is wrong with the arguments; nothing was changed.
            EmbedderError: the embedder failed.
            ReadOnlyError: the store was opened for reading.
        """
        refuse_other_tensors(embedding_tensor)
        if embedding is not None and (embedding_function is not None or embedding_data is not None):
            raise InputError("give embedding, or embedding_function and embedding_data that make it, not both")
        vectors = embedding
        if embedding_function is not None or (embedding_data is not None and embedding_data is not text):
            vectors = self._embedded(text if embedding_data is None else embedding_data, embedding_function)
        elif embedding is None and self._store.embedder is None:
            raise InputError(f"{self.path} has no embedder: give an embedding_function, here or to the store")
        metadatas = None if metadata is None else [None if entry is None else dict(entry) for entry in metadata]
        added = self._store.add(text, metadatas, without_gaps(id), vectors)
        if self._verbose:
            print(self.dataset.table())
        return added if return_ids else None

    def search(  # noqa: PLR0917  the order is the original's
        self,
        embedding_data: str | Sequence[str] | None = None,
        embedding_function: EmbedderSpec | None = None,
        embedding: ArrayLike | None = None,
        k: int = 4,
        distance_metric: str | None = None,
        query: str | None = None,
        filter: DeepLakeFilter | None = None,
        *,
        exec_option: str | None = None,
        embedding_tensor: str | None = None,
        return_tensors: Sequence[str] | str | None = None,
        return_view: bool = False,
        deep_memory: bool = False,
        return_tql: bool = False,
    ) -> dict[str, list[Any]]:
        """Find documents.

        Args:
            embedding_data: the query's text.
            embedding_function: makes the query's vector instead of the store's own.
            embedding: ``(dimensions,)``, the query's vector, instead of the text.
            k: at most this many.
            distance_metric: ``"cos"``, ``"dot"``, ``"L2"``, ``"L1"`` or ``"max"``; by default the store's own. The
                last three read the whole store, and their score is the distance with a minus before it.
            query: refused: there is no query language.
            filter: ``{"metadata": {"lang": "en"}}``, ``{"id": [...]}``, or a function of one sample. A function is
                called for document after document, best first, until k pass.
            exec_option: accepted; all are the same here.
            embedding_tensor: ``"embedding"``, the only one.
            return_tensors: which of the tensors to return, ``"*"`` for all; by default all but ``embedding``.
            return_view: refused: a store has no views.
            deep_memory: whether the active layer takes part.
            return_tql: refused: there is no query language.

        Returns:
            ``score`` and the tensors, each a list by hit, best first. With a filter and no query, documents that pass
            in the order of the store, and no ``score``.

        Raises:
            InputError: an argument is wrong.
            CapabilityError: the store can't do what was asked, or Deep Memory was asked for with another metric.
        """
        check_exec_option(exec_option)
        refuse_other_tensors(embedding_tensor)
        if query is not None or return_tql:
            raise CapabilityError(f"{NO_QUERIES}: search with embedding_data or embedding, and a filter")
        if return_view:
            raise CapabilityError("a search returns lists, and no views: leave out return_view")
        names = returned_tensors(return_tensors)
        if embedding_data is None and embedding is None:
            if filter is None:
                raise InputError("say what to search for: embedding_data, embedding or a filter")
            hits = [Hit(d.id, d.text, d.metadata, 0.0) for d in _first(self._selected(filter), k)]
            return self._columns(hits, names)
        hits = self.find(
            one_text(embedding_data) if embedding_data is not None else None,
            k,
            embedding=embedding,
            embedding_function=embedding_function,
            filter=filter,
            distance_metric=distance_metric,
            deep_memory=deep_memory,
        )
        columns = self._columns(hits, names)
        return {"score": [hit.score for hit in hits], **columns}

    def find(
        self,
        text: str | None = None,
        k: int = 4,
        *,
        embedding: ArrayLike | None = None,
        embedding_function: EmbedderSpec | None = None,
        filter: DeepLakeFilter | Selection | None = None,
        distance_metric: str | None = None,
        deep_memory: bool = False,
    ) -> list[Hit]:
        """What `search` finds, as hits; the arguments are those of `search`."""
        metric = check_metric(distance_metric)
        selection = filter if isinstance(filter, Selection) else read_deeplake_filter(filter, self._store)
        if embedding is None and embedding_function is not None and text is not None:
            embedding = resolve_embedder(whole_embedder(embedding_function)).embed_queries([text])[0]
        if embedding is None and self._store.embedder is None:
            raise InputError(f"{self.path} has no embedder: give an embedding_function, or the query's embedding")
        query = text if embedding is None else None
        return find(
            self._store,
            k,
            query=query,
            embedding=embedding,
            deep_memory=deep_memory,
            selection=selection,
            metric=metric,
        )

    def find_diverse(
        self, text: str | None = None, k: int = 4, *, fetch_k: int = 20, lambda_mult: float = 0.5, **search: Any
    ) -> list[Hit]:
        """Hits chosen by maximal marginal relevance; see `most_diverse`.

        Args:
            text: the query.
            k: how many to choose.
            fetch_k: how many to choose from.
            lambda_mult: 1 for relevance alone, 0 for diversity alone.
            search: the other arguments of `find`.
        """
        hits, vectors = vectors_of(self._store, self.find(text, max(k, fetch_k), **search))
        return [hits[row] for row in most_diverse([hit.score for hit in hits], vectors, k, lambda_mult)]

    def delete(  # noqa: PLR0917  the order is the original's
        self,
        row_ids: Sequence[int] | None = None,
        ids: Sequence[str] | None = None,
        filter: DeepLakeFilter | None = None,
        query: str | None = None,
        exec_option: str | None = None,
        delete_all: bool | None = None,
    ) -> bool:
        """Delete documents by ids, by filter (both: ids that pass the filter), or all of them.

        Args:
            row_ids: refused: rows move when documents are replaced; ids don't.
            ids: of documents; those that don't exist count for nothing.
            filter: as for `search`. A function is called for each document of the store.
            query: refused: there is no query language.
            exec_option: accepted; all are the same here.
            delete_all: everything. Layers and jobs stay.

        Returns:
            True.

        Raises:
            InputError: nothing says what to delete.
            CapabilityError: rows or a query were given.
            ReadOnlyError: the store was opened for reading.
        """
        check_exec_option(exec_option)
        refuse_rows_and_queries(row_ids, query)
        selection = read_deeplake_filter(filter, self._store)
        if selection.predicate is not None and not delete_all:
            wanted = None if ids is None else set(ids)
            chosen = [d.id for d in matching(self._store, selection) if wanted is None or d.id in wanted]
            if chosen:
                self._store.delete(chosen)
        else:
            self._store.delete(ids, selection.native, delete_all=bool(delete_all))
        return True

    def update_embedding(  # noqa: PLR0917  the order is the original's
        self,
        row_ids: Sequence[int] | None = None,
        ids: Sequence[str] | None = None,
        filter: DeepLakeFilter | None = None,
        query: str | None = None,
        exec_option: str | None = None,
        embedding_function: EmbedderSpec | None = None,
        embedding_source_tensor: str | Sequence[str] = "text",
        embedding_tensor: str | Sequence[str] | None = None,
    ) -> None:
        """Embed the texts of documents again, and replace their vectors.

        Args:
            row_ids: refused, as for `delete`.
            ids: of documents; those that don't exist count for nothing.
            filter: as for `search`; with neither ids nor a filter, all documents.
            query: refused.
            exec_option: accepted; all are the same here.
            embedding_function: makes the vectors instead of the store's own; of the same length. One layer fits one
                embedder: train again where the vectors are of another kind.
            embedding_source_tensor: ``"text"``, the only one that is embedded.
            embedding_tensor: ``"embedding"``, the only one.

        Raises:
            InputError: there is no embedder, or its vectors don't fit.
            CapabilityError: rows or a query were given.
            ReadOnlyError: the store was opened for reading.
        """
        check_exec_option(exec_option)
        refuse_rows_and_queries(row_ids, query)
        refuse_other_tensors(embedding_tensor, embedding_source_tensor)
        # All texts are held, since a store is not to be read and changed in one pass.
        documents = list(self._selected(filter, ids))
        for start in range(0, len(documents), _BATCH):
            batch = documents[start : start + _BATCH]
            texts = [document.text for document in batch]
            vectors = self._embedded(texts, embedding_function)
            metadatas, kept_ids = [document.metadata for document in batch], [document.id for document in batch]
            self._store.add(texts, metadatas, kept_ids, vectors)

    def commit(self, allow_empty: bool = True) -> None:  # noqa: ARG002  the original's
        """Refused: there are no commits.

        Raises:
            CapabilityError: always.
        """
        raise CapabilityError(f"nothing to commit: {_ONE_BRANCH}")

    def checkout(self, branch: str = "main", create: bool = False) -> None:
        """Stay on ``main``.

        Raises:
            CapabilityError: another branch is asked for.
        """
        if branch != "main" or create:
            raise CapabilityError(f"there is no branch {branch!r}: {_ONE_BRANCH}")

    @staticmethod
    def delete_by_path(
        path: str | os.PathLike[str],
        token: str | None = None,  # noqa: ARG004  only folders are deleted
        force: bool = False,
        creds: Mapping[str, str] | None = None,  # noqa: ARG004
    ) -> None:
        """Delete the store in a folder, with its documents, layers and jobs.

        Args:
            path: a folder.
            token: accepted, and not needed.
            force: it is no error that nothing is there.
            creds: accepted, and not needed.

        Raises:
            NotAStoreError: something else is there, or nothing.
            CapabilityError: the path is no folder.
        """
        text = translated_path(path)
        if "://" in text:
            raise CapabilityError(
                f"only folders are deleted by path; empty {text} with VectorStore(..., overwrite=True) instead"
            )
        if force and not Path(text).exists():
            return
        deepmemory.VectorStore(text, RECORDED, create=False, read_only=True).close()  # nothing else is deleted
        shutil.rmtree(text)

    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name."""
        return self.dataset.tensors

    def summary(self) -> None:
        """Print the tensors with their types and shapes."""
        print(self.dataset.table())

    def close(self) -> None:
        """Wait for the training jobs that were started here, and let go of the store."""
        self._store.close()

    def __len__(self) -> int:
        return self._store.count()

    def __bool__(self) -> bool:
        """A store is something, also while it is empty."""
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VectorStore(path={self.path!r})"

    def _embedded(self, texts: Sequence[str], embedding_function: EmbedderSpec | None) -> NDArray[np.float32]:
        embedder = self._store.embedder
        if embedding_function is not None:
            embedder = resolve_embedder(whole_embedder(embedding_function))
        if embedder is None:
            raise InputError(f"{self.path} has no embedder: give an embedding_function, here or to the store")
        return embedder.embed_documents(list(texts))

    def _selected(
        self, filter: DeepLakeFilter | None, ids: Sequence[str] | None = None
    ) -> Iterator[deepmemory.Document]:
        selection = read_deeplake_filter(filter, self._store)
        if ids is not None and selection.is_everything:
            return (document for document in self._store.get(ids) if document is not None)
        wanted = None if ids is None else set(ids)
        return (d for d in matching(self._store, selection) if wanted is None or d.id in wanted)

    def _columns(self, hits: list[Hit], names: Sequence[TensorName]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {
            name: [getattr(hit, name) for hit in hits] for name in names if name != "embedding"
        }
        if "embedding" in names:
            found = self._store.backend.get_vectors([hit.id for hit in hits]) if hits else {}
            columns["embedding"] = [found.get(hit.id) for hit in hits]
        return columns


def _first(documents: Iterator[deepmemory.Document], k: int) -> list[deepmemory.Document]:
    return [document for document, _ in zip(documents, range(k), strict=False)]
