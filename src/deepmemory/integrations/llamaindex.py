"""`DeepLakeVectorStore`: LlamaIndex's vector store over any store of Deep Memory (extra ``llamaindex``)."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from deepmemory.data import Document, Relevance
from deepmemory.embedders import Embedder, LangChainEmbedder
from deepmemory.errors import CapabilityError, InputError, MissingExtraError
from deepmemory.formats.llama_index import collection_of, read_llama_index
from deepmemory.integrations.arguments import check_exec_option
from deepmemory.integrations.dataset import Dataset
from deepmemory.integrations.deeplake import VectorStore
from deepmemory.integrations.filters import matching
from deepmemory.memory import DeepMemory, EmbedderSpec
from deepmemory.store import Hit

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode, MetadataMode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

    from deepmemory.integrations.llama_filters import read_metadata_filters
except ModuleNotFoundError as error:
    raise MissingExtraError("deepmemory.integrations.llamaindex", "llamaindex") from error

__all__ = ["DeepLakeVectorStore", "QADataset", "queries_and_relevance", "wrap_embed_model"]

_OWNER = "ref_doc_id"
_WORDS = (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE)
_MMR_CANDIDATES = 4
"""For each node that MMR chooses, this many are fetched to choose from, but 20 at least."""


class DeepLakeVectorStore(BasePydanticVectorStore):
    """Nodes in a store of Deep Memory; what is added is kept at once, and found again by opening the same path.

    LlamaIndex makes the vectors of nodes and queries. ``embed_model`` is needed where the store itself embeds: to
    train and to evaluate Deep Memory from the texts of queries.

    Example:
        >>> vector_store = DeepLakeVectorStore("./docs-store", embed_model=embed_model)
        >>> storage = StorageContext.from_defaults(vector_store=vector_store)
        >>> index = VectorStoreIndex(nodes, storage_context=storage, embed_model=embed_model)
        >>> vector_store.deep_memory.train(*queries_and_relevance(dataset))
        >>> index.as_retriever(similarity_top_k=10, vector_store_kwargs={"deep_memory": True})
    """

    stores_text: bool = True
    flat_metadata: bool = False
    dataset_path: str
    read_only: bool = False

    _vectorstore: VectorStore = PrivateAttr()

    def __init__(
        self,
        dataset_path: str = "llama_index",
        token: str | None = None,
        read_only: bool = False,
        *,
        overwrite: bool = False,
        embed_model: BaseEmbedding | EmbedderSpec | None = None,
        ingestion_batch_size: int = 1024,
        ingestion_num_workers: int = 4,
        exec_option: str | None = None,
        verbose: bool = False,
        runtime: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open the store at a path, or make one there.

        Args:
            dataset_path: a folder, ``hub://org/name``, ``s3://bucket/prefix`` or ``mem://``.
            token: of a hub; other paths need none.
            read_only: refuse every change.
            overwrite: remove everything that the store holds, and begin anew.
            embed_model: the index's embedding model, for what the store embeds by itself.
            ingestion_batch_size: accepted, and not needed.
            ingestion_num_workers: accepted, and not needed.
            exec_option: accepted; all are the same here.
            verbose: print what the store holds after nodes were added.
            runtime: of a hub; other paths need none.
            kwargs: the others of `deepmemory.integrations.deeplake.VectorStore`.

        Raises:
            InputError: an argument is wrong.
            DeepMemoryError: the store can't be opened.
        """
        super().__init__(dataset_path=dataset_path, read_only=read_only, stores_text=True)  # type: ignore[call-arg]
        self._vectorstore = VectorStore(
            dataset_path,
            wrap_embed_model(embed_model) if isinstance(embed_model, BaseEmbedding) else embed_model,
            read_only,
            ingestion_batch_size=ingestion_batch_size,
            num_workers=ingestion_num_workers,
            exec_option=exec_option,
            token=token,
            overwrite=overwrite,
            verbose=verbose,
            runtime=runtime,
            **kwargs,
        )

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex records it."""
        return "DeepLakeVectorStore"

    @property
    def vectorstore(self) -> VectorStore:
        """The vector store behind it."""
        return self._vectorstore

    @property
    def deep_memory(self) -> DeepMemory:
        """Train, watch and evaluate."""
        return self._vectorstore.deep_memory

    @property
    def client(self) -> Dataset:
        """The documents by tensor."""
        return self._vectorstore.dataset

    def summary(self) -> None:
        """Print what the store holds."""
        self._vectorstore.summary()

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:  # noqa: ARG002  the interface's
        """Add nodes with their vectors, replacing those whose id exists.

        Returns:
            the nodes' ids, in order.

        Raises:
            InputError: everything that is wrong with the nodes; nothing was changed.
        """
        if not nodes:
            return []
        metadata = [node_to_metadata_dict(node, remove_text=True, flat_metadata=self.flat_metadata) for node in nodes]
        ids = [node.node_id for node in nodes]
        self._vectorstore.add(
            text=[node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes],
            metadata=metadata,
            embedding=[node.get_embedding() for node in nodes],
            id=ids,
        )
        return ids

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As `add`, in a thread."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:  # noqa: ARG002  the interface's
        """Delete the nodes that were made of a document."""
        self._vectorstore.delete(filter={"metadata": {_OWNER: ref_doc_id}})

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As `delete`, in a thread."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,  # noqa: ARG002  the interface's
    ) -> None:
        """Delete nodes by ids, by filters, or by both (ids that pass the filters).

        Raises:
            InputError: nothing says what to delete.
        """
        if node_ids is None and (filters is None or not filters.filters):
            raise InputError("say which nodes to delete: node_ids or filters; clear() deletes all of them")
        found = [document.id for document in self._matching(node_ids, filters)]
        if found:
            self._vectorstore.delete(ids=found)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As `delete_nodes`, in a thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    def clear(self) -> None:
        """Delete all nodes; layers and jobs stay."""
        self._vectorstore.delete(delete_all=True)

    async def aclear(self) -> None:
        """As `clear`, in a thread."""
        await asyncio.to_thread(self.clear)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes of these ids (in their order, those that exist) that pass the filters; without either, all."""
        return [_node(document) for document in self._matching(node_ids, filters)]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """As `get_nodes`, in a thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find nodes.

        Args:
            query: the modes ``default``, ``mmr``, ``text_search`` and ``sparse`` (the last two by words) work.
            kwargs: ``deep_memory``, ``distance_metric``, ``exec_option``, ``mmr_threshold``; what an index's
                ``vector_store_kwargs`` hold.

        Returns:
            nodes, best first, with their scores: higher is better.

        Raises:
            CapabilityError: another mode, or a filter that can't be read.
            InputError: an argument is wrong.
        """
        hits = self._hits(query, **kwargs)
        return VectorStoreQueryResult(
            nodes=[_node(hit) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As `query`, in a thread."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Nothing to do: what is added is kept at once, at ``dataset_path``."""

    def _hits(
        self,
        query: VectorStoreQuery,
        *,
        deep_memory: bool = False,
        distance_metric: str | None = None,
        exec_option: str | None = None,
        mmr_threshold: float | None = None,
    ) -> list[Hit]:
        check_exec_option(exec_option)
        native: dict[str, Any] = {}
        # An index gives the nodes that it has on record, which are none where the store keeps the texts.
        if query.node_ids:
            native["id"] = query.node_ids
        if query.doc_ids:
            native[_OWNER] = query.doc_ids
        selection = read_metadata_filters(query.filters, native)
        k = query.similarity_top_k
        if query.mode in _WORDS:
            if selection.predicate is not None or distance_metric is not None:
                raise CapabilityError("a search by words takes filters of equality alone, and no distance_metric")
            return self._vectorstore.store.search(
                query.query_str, k, mode="words", deep_memory=deep_memory or None, filter=selection.native
            )
        search: dict[str, Any] = {
            "embedding": query.query_embedding,
            "filter": selection,
            "distance_metric": distance_metric,
            "deep_memory": deep_memory,
        }
        if query.mode == VectorStoreQueryMode.DEFAULT:
            return self._vectorstore.find(query.query_str, k, **search)
        if query.mode == VectorStoreQueryMode.MMR:
            threshold = query.mmr_threshold if mmr_threshold is None else mmr_threshold
            return self._vectorstore.find_diverse(
                query.query_str,
                k,
                fetch_k=max(20, _MMR_CANDIDATES * k),
                lambda_mult=0.5 if threshold is None else threshold,
                **search,
            )
        raise CapabilityError(
            f"the query mode {query.mode.value!r} is not there: use default, mmr, text_search or sparse"
        )

    def _matching(self, node_ids: list[str] | None, filters: MetadataFilters | None) -> list[Document]:
        selection = read_metadata_filters(filters, {})
        if node_ids is None:
            return list(matching(self._vectorstore.store, selection))
        passes = selection.test()
        return [d for d in self._vectorstore.store.get(node_ids) if d is not None and passes(d)]


@runtime_checkable
class QADataset(Protocol):
    """What LlamaIndex calls ``EmbeddingQAFinetuneDataset``."""

    queries: dict[str, str]
    corpus: dict[str, str]
    relevant_docs: dict[str, list[str]]


def queries_and_relevance(dataset: QADataset | str | Path) -> tuple[list[str], Relevance]:
    """Queries and relevance of LlamaIndex's ``EmbeddingQAFinetuneDataset``, for ``deep_memory.train`` and ``evaluate``.

    The dataset names documents by the ids of the nodes it was made of, which are their ids in the store.

    Args:
        dataset: the dataset, or the JSON file that its ``save_json`` wrote.

    Returns:
        the queries, and for each the ``(node id, 1.0)`` pairs that answer it.

    Raises:
        InputError: everything that is wrong with the dataset.
    """
    if isinstance(dataset, str | Path):
        collection = read_llama_index(dataset)
    elif isinstance(dataset, QADataset):
        record = {name: getattr(dataset, name) for name in ("queries", "corpus", "relevant_docs")}
        collection = collection_of(Path("the dataset"), record)
    else:
        raise InputError(
            "expected an EmbeddingQAFinetuneDataset (queries, corpus, relevant_docs) or the path of its JSON file; "
            f"found {type(dataset).__name__}"
        )
    return list(collection.queries), [list(grades.items()) for grades in collection.qrels]


def wrap_embed_model(embed_model: BaseEmbedding) -> Embedder:
    """LlamaIndex's embedding model as an embedder, for ``embed_model`` and ``embedding_function`` arguments."""
    return LangChainEmbedder(_LangChainProtocol(embed_model), name=_name_of(embed_model))


class _LangChainProtocol:
    def __init__(self, model: BaseEmbedding) -> None:
        self._model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._model.get_text_embedding_batch(texts)

    def embed_query(self, text: str) -> list[float]:
        return self._model.get_query_embedding(text)


def _name_of(model: BaseEmbedding) -> str:
    return f"{type(model).__name__}({model.model_name})"


def _node(found: Document | Hit) -> BaseNode:
    """The node of a document; one that was not added by LlamaIndex becomes a text node with its metadata."""
    metadata = dict(found.metadata)
    if "_node_content" in metadata:
        return metadata_dict_to_node(metadata, text=found.text)
    return TextNode(id_=found.id, text=found.text, metadata=metadata)
