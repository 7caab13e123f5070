"""`DeepLake`: LangChain's vector store of that name, over any store of Deep Memory (extra ``langchain``)."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepmemory.embedders import resolve_embedder
from deepmemory.errors import CapabilityError, InputError, MissingExtraError
from deepmemory.integrations.arguments import NO_QUERIES, check_exec_option
from deepmemory.integrations.dataset import Dataset
from deepmemory.integrations.deeplake import VectorStore
from deepmemory.integrations.searching import check_metric
from deepmemory.store import Hit

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore as LangChainVectorStore
    from langchain_core.vectorstores import VectorStoreRetriever
    from pydantic import ConfigDict, model_validator
except ModuleNotFoundError as error:
    raise MissingExtraError("deepmemory.integrations.langchain", "langchain") from error

__all__ = ["DeepLake", "DeepLakeRetriever"]

_DEFAULT_PATH = "./deeplake/"
_SEARCH_SETTINGS = (
    "k",
    "deep_memory",
    "filter",
    "distance_metric",
    "exec_option",
    "embedding_function",
    "fetch_k",
    "lambda_mult",
    "score_threshold",
)


class DeepLakeRetriever(VectorStoreRetriever):
    """The retriever of a `DeepLake`; what is set by name, such as ``k=3``, goes into ``search_kwargs``."""

    # A setting with a slip in its name would otherwise go unseen, and Deep Memory be off.
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _gather_search_settings(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        settings = {name: values[name] for name in _SEARCH_SETTINGS if name in values}
        kept = {name: value for name, value in values.items() if name not in settings}
        return {**kept, "search_kwargs": {**kept.get("search_kwargs", {}), **settings}} if settings else kept


class DeepLake(LangChainVectorStore):
    """The drop-in for ``langchain_community.vectorstores.DeepLake``: change the import, keep the code.

    Every method has LangChain's asynchronous twin (``asimilarity_search``, ``aadd_documents``, ...), which runs in a
    thread. Scores are similarities: higher is better.

    Example:
        >>> db = DeepLake("./docs-store", embedding=embeddings)
        >>> ids = db.add_documents(documents)
        >>> job_id = db.vectorstore.deep_memory.train(queries, relevance)
        >>> retriever = db.as_retriever(search_kwargs={"deep_memory": True, "k": 10})
    """

    _LANGCHAIN_DEFAULT_DEEPLAKE_PATH: ClassVar[str] = _DEFAULT_PATH

    def __init__(  # noqa: PLR0917  the order is the original's
        self,
        dataset_path: str = _DEFAULT_PATH,
        token: str | None = None,
        embedding: Embeddings | None = None,
        embedding_function: Embeddings | None = None,
        read_only: bool = False,
        ingestion_batch_size: int = 1024,
        num_workers: int = 0,
        verbose: bool = False,
        exec_option: str | None = None,
        runtime: Mapping[str, Any] | None = None,
        index_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open the store at a path, or make one there.

        Args:
            dataset_path: a folder, ``hub://org/name``, ``s3://bucket/prefix`` or ``mem://``.
            token: of a hub; other paths need none.
            embedding: turns texts into vectors; None is the one that an existing store has on record.
            embedding_function: the same by its older name.
            read_only: refuse every change.
            ingestion_batch_size: accepted, and not needed.
            num_workers: accepted, and not needed.
            verbose: print what the store holds after documents were added.
            exec_option: accepted; all are the same here.
            runtime: of a hub, such as ``{"tensor_db": True}``; other paths need none.
            index_params: accepted, and not needed: the engine indexes by itself.
            kwargs: ``overwrite=True`` begins anew; the others of `deepmemory.integrations.deeplake.VectorStore`.

        Raises:
            InputError: an argument is wrong.
            DeepMemoryError: the store can't be opened.
        """
        if embedding is not None and embedding_function is not None:
            raise InputError("embedding and embedding_function are two names for the same thing: give one of them")
        self.dataset_path = dataset_path
        self._embedding = embedding if embedding is not None else embedding_function
        self.vectorstore = VectorStore(
            dataset_path,
            self._embedding,
            read_only,
            ingestion_batch_size=ingestion_batch_size,
            num_workers=num_workers,
            index_params=index_params,
            exec_option=exec_option,
            token=token,
            verbose=verbose,
            runtime=runtime,
            **kwargs,
        )

    @property
    def embeddings(self) -> Embeddings | None:
        """What turns texts into vectors, as it was given."""
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts, replacing those whose id exists.

        Args:
            texts: what is embedded and found.
            metadatas: for each text JSON values by key.
            ids: for each text an id; where one is None, or all are, a random one is made.
            kwargs: ``embedding_function`` or ``embedding`` of the original's ``add``.

        Returns:
            the ids, in order.

        Raises:
            InputError: everything that is wrong with the arguments; nothing was changed.
        """
        listed = list(texts)
        if not listed:
            return []
        return self.vectorstore.add(text=listed, metadata=metadatas, id=ids, return_ids=True, **kwargs) or []

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents that exist, in the order of the ids."""
        found = self.vectorstore.store.get(list(ids))
        return [Document(page_content=d.text, metadata=dict(d.metadata), id=d.id) for d in found if d is not None]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Find documents.

        Args:
            query: a text.
            k: at most this many.
            kwargs: ``deep_memory`` (whether the active layer takes part; False by default), ``filter``,
                ``distance_metric``, ``exec_option``, ``embedding_function``; see the original's ``VectorStore.search``.

        Returns:
            documents, best first.

        Raises:
            InputError: an argument is wrong.
            CapabilityError: the store can't do what was asked.
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_by_vector(
        self, embedding: list[float] | ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """Find documents by the query's vector; else as `similarity_search`."""
        return _documents(self._find(None, k, embedding=embedding, **kwargs))

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """Find documents with their scores: similarities, higher is better; else as `similarity_search`."""
        hits = self._find(query, k, **kwargs)
        return list(zip(_documents(hits), [hit.score for hit in hits], strict=True))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Find documents that answer the query and differ from each other.

        With ``deep_memory`` the layer's query both finds the candidates and weighs them.

        Args:
            query: a text.
            k: how many to choose.
            fetch_k: how many to choose from.
            lambda_mult: 1 for relevance alone, 0 for diversity alone.
            kwargs: as for `similarity_search`.
        """
        return _documents(self._find(query, k, diverse=(fetch_k, lambda_mult), **kwargs))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float] | ArrayLike,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """By the query's vector; else as `max_marginal_relevance_search`."""
        return _documents(self._find(None, k, diverse=(fetch_k, lambda_mult), embedding=embedding, **kwargs))

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents.

        Args:
            ids: of documents; those that don't exist count for nothing.
            kwargs: ``filter``, or ``delete_all=True``.

        Returns:
            True.

        Raises:
            InputError: nothing says what to delete.
        """
        return self.vectorstore.delete(ids=ids, **kwargs)

    def delete_dataset(self) -> None:
        """Delete all documents; layers and jobs stay."""
        self.delete(delete_all=True)

    @classmethod
    def force_delete_by_path(cls, path: str) -> None:
        """Delete the store in a folder, with its documents, layers and jobs; nothing there is no error."""
        VectorStore.delete_by_path(path, force=True)

    def ds(self) -> Dataset:
        """The same as ``vectorstore.dataset``, by its older name."""
        warnings.warn("ds() is the original's older name: use .vectorstore.dataset", DeprecationWarning, stacklevel=2)
        return self.vectorstore.dataset

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        ids: list[str] | None = None,
        dataset_path: str = _DEFAULT_PATH,
        **kwargs: Any,
    ) -> Self:
        """Open or make a store, and add texts; the arguments are those of the class and of `add_texts`."""
        made = cls(dataset_path, embedding=embedding, **kwargs)
        made.add_texts(texts, metadatas, ids)
        return made

    def as_retriever(self, **kwargs: Any) -> DeepLakeRetriever:
        """A retriever over this store.

        Args:
            kwargs: ``search_type`` (``"similarity"``, ``"mmr"`` or ``"similarity_score_threshold"``) and
                ``search_kwargs`` such as ``{"deep_memory": True, "k": 10, "filter": {...}}``.
        """
        tags = [*(kwargs.pop("tags", None) or []), *self._get_retriever_tags()]
        return DeepLakeRetriever(vectorstore=self, tags=tags, **kwargs)

    def _find(
        self,
        query: str | None,
        k: int,
        *,
        diverse: tuple[int, float] | None = None,
        exec_option: str | None = None,
        embedding: ArrayLike | None = None,
        embedding_function: Any = None,
        tql: str | None = None,
        tql_query: str | None = None,
        **search: Any,
    ) -> list[Hit]:
        check_exec_option(exec_option)
        if tql or tql_query:
            raise CapabilityError(f"{NO_QUERIES}: leave out tql, and search with a filter")
        if embedding_function is not None and embedding is None and query is not None:
            embedding = _query_vector(embedding_function, query)
        if diverse is None:
            return self.vectorstore.find(query, k, embedding=embedding, **search)
        fetch_k, lambda_mult = diverse
        return self.vectorstore.find_diverse(
            query, k, fetch_k=fetch_k, lambda_mult=lambda_mult, embedding=embedding, **search
        )

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        relevance = _relevance_of(kwargs.get("distance_metric"))
        found = self.similarity_search_with_score(query, k, **kwargs)
        return [(document, relevance(score)) for document, score in found]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        relevance = _relevance_of(kwargs.get("distance_metric"))
        found = await self.asimilarity_search_with_score(query, k, **kwargs)
        return [(document, relevance(score)) for document, score in found]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _relevance_of(None)


def _relevance_of(distance_metric: str | None) -> Callable[[float], float]:
    """What makes LangChain's relevance, within 0 and 1, of a score.

    A similarity is its own relevance: thresholds mean what they say. Below 0 it is none at all, and what a layer's
    bonus lifts above 1 is 1. Of a distance (the score with its minus) it is ``1 / (1 + distance)``.
    """
    if check_metric(distance_metric) in ("l2", "l1", "max"):
        return lambda score: 1 / (1 - score)
    return lambda score: min(1.0, max(0.0, score))


def _documents(hits: Sequence[Hit]) -> list[Document]:
    return [Document(page_content=hit.text, metadata=dict(hit.metadata), id=hit.id) for hit in hits]


def _query_vector(embedding_function: Any, query: str) -> NDArray[np.float32]:
    """The vector that an embeddings object, or a function of one text, makes of a query."""
    if hasattr(embedding_function, "embed_query"):
        return np.array(resolve_embedder(embedding_function).embed_queries([query])[0])
    return np.asarray(embedding_function(query), dtype=np.float32)
