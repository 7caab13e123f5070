"""`VectorStore`: what most people touch."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from deepmemory.backends import Backend, Filter
from deepmemory.backends.base import Distance
from deepmemory.data import Document, Hit, Metadata, check_documents, check_vectors
from deepmemory.data.text import checked_texts, shown, text_problem
from deepmemory.embedders import Embedder
from deepmemory.errors import CapabilityError, InputError, ReadOnlyError
from deepmemory.executors import Executor
from deepmemory.explanation import Explanation
from deepmemory.memory import DeepMemory, EmbedderSpec
from deepmemory.progress import Progress
from deepmemory.state import State
from deepmemory.store.asynchronous import in_a_thread
from deepmemory.store.attachment import Attachment
from deepmemory.store.opening import RECORDED, Recorded
from deepmemory.store.parts import StoreParts
from deepmemory.transform import Layer

__all__ = ["Mode", "VectorStore"]

Mode: TypeAlias = Literal["vectors", "words"]
"""How a search ranks: by the similarity of vectors, or by the words that query and document share."""

_HUB = "hub:"


class VectorStore:
    """Documents with their vectors, found by text, and Deep Memory beside them.

    Several threads and processes may use one store at once. The methods whose names begin with ``a`` are for programs
    with an event loop, which goes on while one of the loop's threads works and waits for the engine; what is cancelled
    ends there nevertheless.

    Example:
        >>> store = VectorStore("./docs-store")
        >>> ids = store.add(["Ice is frozen water.", "Steam is hot water."])
        >>> store.search("what does water become when it freezes?", k=1)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        embedder: EmbedderSpec | Recorded | None = RECORDED,
        *,
        create: bool = True,
        read_only: bool = False,
        distance: Distance | None = None,
        overwrite: bool = False,
        storage_options: Mapping[str, str] | None = None,
        token: str | None = None,
        runtime: Mapping[str, Any] | None = None,
        engine: str | Executor | None = None,
    ) -> None:
        """Open the store at a path, or make one there.

        Args:
            path: a folder, also one that `deepmemory.attach` made beside somebody else's collection;
                ``s3://bucket/prefix`` (also ``gs://`` and ``az://``);
                ``postgresql://user@host:port/database?table=docs`` for a table of PostgreSQL with pgvector, which is
                made where it is missing; ``chroma://host:port/collection``, ``qdrant://...`` or ``milvus://...`` for a
                collection of a vector database, with layers and jobs in a folder of ours below ``$DEEPMEMORY_STATE``;
                ``hub://org/name`` for a store on a Deep Memory hub, whose address is in ``DEEPMEMORY_HUB_URL``; or
                ``memory://`` for a store that ends with this object.
            embedder: turns texts into vectors: ``"local"``, ``"openai:MODEL"``, an object with ``embed_documents``
                and ``embed_query``, or a function. By default the one on record, and ``"local"`` for a new store.
                None where vectors are always given. On a hub, an embedder that the hub has itself works there, and
                any other here.
            create: make a store where there is nothing.
            read_only: refuse everything that changes the store.
            distance: ``"cosine"`` or ``"dot"``; by default what the store has, and cosine for a new one.
            overwrite: remove everything that the store holds, layers and jobs included, and begin anew.
            storage_options: credentials, region and endpoint of an object store, by the names that LanceDB takes.
            token: for a hub; by default what ``DEEPMEMORY_TOKEN`` has. Other stores need none.
            runtime: the original's ``{"tensor_db": True}``, accepted: a hub searches and trains on its own side anyway.
            engine: where bulk work is done: ``"in-process"``, ``"ray"`` for the cluster that ``RAY_ADDRESS`` names or
                one on this machine, ``"ray:4"`` for at most 4 workers of it, or an executor of your own, which stays
                open. By default what ``DEEPMEMORY_ENGINE`` has, and in-process. The results are the same. A hub works
                on its own side, and takes none.

        Raises:
            NotAStoreError: something else is at the path, or nothing and it may not be created.
            NewerFormatError: the store was written by a newer version.
            EmbedderMismatchError: it was filled with another embedder.
            InputError: an argument is wrong.
            StorageError: the disk or bucket failed.
            HubError: the hub can't be reached or refused, by its kinds.
        """
        if read_only and overwrite:
            raise InputError("a store that is opened for reading can't be overwritten: give read_only or overwrite")
        _check_runtime(runtime)
        self.path = os.fspath(path)
        self._read_only = read_only
        create = create and not read_only
        self._parts: StoreParts
        if self.path.startswith(_HUB):
            if engine is not None:
                raise InputError(f"{self.path} is on a hub, which does bulk work on its own side: leave out the engine")
            if storage_options:
                raise InputError(f"storage_options are for object stores: {self.path} is on a hub, which has its own")
            from deepmemory.store.hub import HubParts

            self._parts = HubParts(
                self.path,
                embedder,
                create=create,
                read_only=read_only,
                distance=distance,
                overwrite=overwrite,
                token=token,
            )
        else:
            from deepmemory.store.local import LocalParts

            self._parts = LocalParts(
                self.path,
                embedder,
                create=create,
                read_only=read_only,
                distance=distance,
                overwrite=overwrite,
                storage_options=storage_options,
                engine=engine,
            )

    def add(
        self,
        texts: Sequence[str],
        metadatas: Sequence[Metadata | None] | None = None,
        ids: Sequence[str] | None = None,
        embeddings: ArrayLike | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[str]:
        """Add documents, replacing those whose id exists.

        Everything is checked before anything is stored. Documents are then stored in batches, and those of a batch
        that is stored are kept whatever happens after it; adding the same ids again is harmless.

        Args:
            texts: what is embedded and shown.
            metadatas: for each text JSON values by key, or None.
            ids: unique in the store; random ones by default.
            embeddings: ``(len(texts), dimensions)``, the texts' vectors, where they are known already.
            progress: called with documents stored or embedded, and their number.

        Returns:
            the ids, in order.

        Raises:
            InputError: everything that is wrong with the arguments; nothing was changed.
            EmbedderError: the embedder failed.
            ReadOnlyError: the store was opened for reading.
        """
        self.check_writable("add documents")
        documents = check_documents(texts, metadatas, ids)
        if embeddings is None:
            self._refuse_if_no_embedder("the documents' vectors as embeddings")
            vectors = None
        else:
            vectors = check_vectors(embeddings, len(documents), self._parts.dimensions(), "embeddings")
        self._parts.add(documents, vectors, progress)
        return [document.id for document in documents]

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """Fetch documents by id, in the order asked; None where there is none.

        Raises:
            InputError: the ids are no list of texts.
        """
        return self._parts.backend.get(_checked_ids(ids))

    def delete(self, ids: Sequence[str] | None = None, filter: Filter | None = None, delete_all: bool = False) -> int:
        """Delete documents by ids, by filter, by both (ids that pass the filter), or all of them.

        Returns:
            how many were deleted; ids that don't exist count for nothing.

        Raises:
            InputError: nothing says what to delete, or ``delete_all`` comes with something else.
            ReadOnlyError: the store was opened for reading.
        """
        self.check_writable("delete documents")
        if delete_all:
            if ids is not None or filter is not None:
                raise InputError("delete_all deletes everything: give it alone, or give ids or a filter")
            return self._parts.backend.delete()
        if ids is None and not filter:
            raise InputError("say what to delete: ids, a filter with a key in it, or delete_all=True")
        return self._parts.backend.delete(ids=None if ids is None else _checked_ids(ids), filter=filter or None)

    def search(
        self,
        query: str | None = None,
        k: int = 10,
        *,
        deep_memory: bool | None = None,
        filter: Filter | None = None,
        embedding: ArrayLike | None = None,
        mode: Mode = "vectors",
    ) -> list[Hit]:
        """Find the documents that answer a query.

        Args:
            query: a text.
            k: at most this many hits; fewer where the store, or what passes the filter, is smaller.
            deep_memory: True and None use the active layer, if there is one; False leaves it out.
            filter: metadata keys and the value that each must equal, or a list of values of which it must equal one;
                ``id`` stands for the document's id.
            embedding: ``(dimensions,)``, the query's vector, where it is known already; the text is then only needed
                by a layer that trusts words, which add nothing without it.
            mode: ``"vectors"``, or ``"words"`` for full-text search, in which a layer has no part.

        Returns:
            hits, best first.

        Raises:
            InputError: an argument is wrong.
            CapabilityError: the store has no full-text search; or words and ``deep_memory=True`` were asked for.
            ArtifactError: the active layer is damaged.
        """
        if embedding is None and (problem := text_problem(query)):
            raise InputError(f"the query {problem}")
        embeddings = None if embedding is None else np.atleast_2d(np.asarray(embedding))
        queries = None if query is None or text_problem(query) else [query]
        return self.search_many(queries, k, deep_memory=deep_memory, filter=filter, embeddings=embeddings, mode=mode)[0]

    def search_many(
        self,
        queries: Sequence[str] | None = None,
        k: int = 10,
        *,
        deep_memory: bool | None = None,
        filter: Filter | None = None,
        embeddings: ArrayLike | None = None,
        mode: Mode = "vectors",
    ) -> list[list[Hit]]:
        """Find the documents that answer each of several queries, faster than one by one; see `search`.

        Args:
            queries: texts.
            k: as for `search`.
            deep_memory: as for `search`.
            filter: as for `search`.
            embeddings: ``(n_queries, dimensions)``, the queries' vectors, where they are known already.
            mode: as for `search`.
        """
        _check_k(k)
        if mode == "words":
            _refuse_with_words(deep_memory, embeddings)
            return self._parts.search_words(_checked_queries(queries), int(k), filter=filter)
        if mode != "vectors":
            raise InputError(f"mode is 'vectors' or 'words'; found {mode!r}")
        texts, vectors = None, None
        if embeddings is None or queries is not None:
            texts = _checked_queries(queries)
        if embeddings is None:
            if texts:
                self._refuse_if_no_embedder("the query's vector as embedding")
        else:
            n = None if texts is None else len(texts)
            vectors = check_vectors(embeddings, n, self._parts.dimensions(), "embeddings")
        return self._parts.search(texts, vectors, int(k), with_layer=deep_memory is not False, filter=filter)

    aadd = in_a_thread(add)
    aget = in_a_thread(get)
    adelete = in_a_thread(delete)
    asearch = in_a_thread(search)
    asearch_many = in_a_thread(search_many)

    def explain(
        self,
        query: str | None = None,
        k: int = 10,
        *,
        filter: Filter | None = None,
        embedding: ArrayLike | None = None,
    ) -> Explanation:
        """Search as `search` does, and say what Deep Memory changed: ranks, scores part by part, and by whom.

        Args:
            query: a text.
            k: as for `search`.
            filter: as for `search`.
            embedding: as for `search`.

        Returns:
            the hits with rank and score without and with the active layer, the parts of each score, the training
            queries that raised it, and what is no longer among the first k; prints as text, and has ``as_dict()``.

        Raises:
            InputError: an argument is wrong.
            ArtifactError: the active layer is damaged.

        Example:
            >>> print(store.explain("how do I reset a password", k=5))
        """
        _check_k(k)
        if (embedding is None or query is not None) and (problem := text_problem(query)):
            raise InputError(f"the query {problem}")
        if embedding is None:
            self._refuse_if_no_embedder("the query's vector as embedding")
            return self._parts.explain(query, None, int(k), filter=filter)
        given = np.atleast_2d(np.asarray(embedding))
        vector = check_vectors(given, 1, self._parts.dimensions(), "embedding")
        return self._parts.explain(query, vector, int(k), filter=filter)

    def documents(self) -> Iterator[Document]:
        """Iterate over all documents, without holding them."""
        for batch in self._parts.backend.batches(text=True):
            columns = (batch.column(name).to_pylist() for name in ("id", "text", "metadata"))
            for id, text, metadata in zip(*columns, strict=True):
                yield Document(id, text, json.loads(metadata) if metadata else {})

    def count(self, filter: Filter | None = None) -> int:
        """How many documents there are, or pass the filter."""
        return self._parts.backend.count(filter)

    def __len__(self) -> int:
        return self._parts.backend.count()

    def __bool__(self) -> bool:
        """A store is something, also while it is empty."""
        return True

    @property
    def deep_memory(self) -> DeepMemory:
        """Train, watch and evaluate."""
        return self._parts.deep_memory

    @property
    def layer(self) -> Layer | None:
        """The active layer; None where searches go untransformed."""
        return self._parts.deep_memory.layer

    @property
    def embedder(self) -> Embedder | None:
        """What turns texts into this store's vectors; None where vectors are always given."""
        return self._parts.embedder

    @property
    def executor(self) -> Executor:
        """What does bulk work, by the engine that the store was opened with."""
        return self._parts.executor

    @property
    def distance(self) -> Distance:
        """How vectors are compared."""
        return self._parts.record.distance

    @property
    def attachment(self) -> Attachment | None:
        """The collection of somebody else's that has the documents; None where the store has its own."""
        return self._parts.record.attachment

    @property
    def state(self) -> State:
        """The small named blobs beside the vectors: layers, jobs, what was ingested."""
        return self._parts.state

    @property
    def backend(self) -> Backend:
        """Where the documents are, for what is not offered here."""
        return self._parts.backend

    def summary(self) -> dict[str, Any]:
        """What the store holds, as JSON values."""
        attached = self.attachment
        return {
            "path": self.path,
            "attached_to": None if attached is None else attached.as_dict(),
            "documents": self._parts.backend.count(),
            "dimensions": self._parts.backend.dimensions,
            "distance": self._parts.record.distance,
            "embedder": self._parts.record.query_embedder,
            "migrated_from": self._parts.record.embedder if self._parts.record.migration is not None else None,
            "layer": self._parts.deep_memory.get_model(),
            "layers": self._parts.deep_memory.models(),
            "jobs": len(self._parts.deep_memory.list_jobs(verbose=False)),
            "created": self._parts.record.created,
        }

    def check_writable(self, action: str) -> None:
        """See that documents may be changed; what was learned of them may be, where only they are fixed.

        Args:
            action: what is to be done, as in "can't *add documents*".

        Raises:
            ReadOnlyError: the store was opened for reading, or is attached for reading to somebody else's collection.
        """
        if self._read_only:
            raise ReadOnlyError(f"can't {action}: {self.path} was opened for reading; open it without read_only=True")
        attached = self.attachment
        if attached is not None and attached.read_only:
            raise ReadOnlyError(
                f"can't {action}: {self.path} is attached to {attached.named} for reading only; change the documents "
                "there"
            )

    def optimize(self) -> None:
        """Let the engine compact, and index what is not indexed yet; never needed for correct results."""
        self.check_writable("optimize")
        self._parts.backend.optimize()

    def close(self) -> None:
        """Let go of the store, after the training jobs that were started here; those of a hub go on there."""
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        record = self._parts.record
        return f"VectorStore({self.path!r}, embedder={record.query_embedder!r}, distance={record.distance!r})"

    def _refuse_if_no_embedder(self, otherwise: str) -> None:
        if self._parts.embedder is not None:
            return
        if (name := self._parts.record.query_embedder) is not None:
            raise InputError(
                f"{self.path} is filled by {name}, which is not named but given: open it with embedder=..., or give "
                f"{otherwise}"
            )
        raise InputError(f"{self.path} has no embedder: give {otherwise}")


def _check_runtime(runtime: object) -> None:
    if runtime is not None and not (isinstance(runtime, Mapping) and set(runtime) <= {"tensor_db"}):
        raise InputError(f"runtime is {{'tensor_db': True}} or nothing; found {shown(runtime)}")


def _refuse_with_words(deep_memory: bool | None, embeddings: ArrayLike | None) -> None:
    if deep_memory:
        raise CapabilityError(
            "Deep Memory moves a query's vector, and mode='words' uses none: leave out deep_memory=True or the mode"
        )
    if embeddings is not None:
        raise InputError("mode='words' uses no vectors: leave out the embedding or the mode")


def _check_k(k: object) -> None:
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise InputError(f"k is a whole number of 1 or more; found {shown(k)}")


def _checked_ids(ids: object) -> list[str]:
    return checked_texts(ids, "ids", "id")


def _checked_queries(queries: object) -> list[str]:
    return checked_texts(queries, "queries", "query")
