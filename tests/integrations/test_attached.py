"""LangChain's and LlamaIndex's classes on a collection that was attached: found, trained, and only read."""

import lancedb
import pytest
import synonyms
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.core.vector_stores.utils import node_to_metadata_dict

import deepmemory
from deepmemory import ReadOnlyError
from deepmemory.integrations.langchain import DeepLake
from deepmemory.integrations.llamaindex import DeepLakeVectorStore


@pytest.fixture
def attached(tmp_path, words) -> str:
    """The folder of what is attached: nodes as LlamaIndex's class for LanceDB writes them."""
    ids, texts = synonyms.documents()
    nodes = [
        TextNode(id_=id, text=text, metadata={"row": row})
        for row, (id, text) in enumerate(zip(ids, texts, strict=True))
    ]
    rows = [
        {
            "id": node.node_id,
            "doc_id": "none",
            "vector": vector,
            "text": node.text,
            "metadata": node_to_metadata_dict(node, remove_text=False, flat_metadata=True),
        }
        for node, vector in zip(nodes, synonyms.word_vectors(texts).tolist(), strict=True)
    ]
    lancedb.connect(tmp_path / "lancedb").create_table("vectors", rows)
    deepmemory.attach(str(tmp_path / "lancedb"), path=tmp_path / "store", embedder=words).close()
    return str(tmp_path / "store")


def test_langchain(attached, words):
    ids, texts = synonyms.documents()
    db = DeepLake(attached, embedding=words)
    assert db.similarity_search(texts[7], k=1)[0].page_content == texts[7]
    assert db.similarity_search(texts[7], k=3, filter={"row": [1, 2]})[0].metadata["row"] in (1, 2)
    queries, relevance = synonyms.questions(texts, ids)
    db.vectorstore.deep_memory.train(queries, relevance, wait=True)
    found = db.as_retriever(search_kwargs={"deep_memory": True, "k": 5}).invoke(queries[0])
    assert relevance[0][0][0] in {document.id for document in found}
    with pytest.raises(ReadOnlyError, match="is attached to vectors in"):
        db.add_texts(["new"])
    with pytest.raises(ReadOnlyError):
        db.delete(["doc-1"])
    assert db.vectorstore.dataset.text.data(aslist=True)["value"]["doc-7"] == texts[7]


def test_llamaindex_gets_its_nodes_back(attached, words):
    _, texts = synonyms.documents()
    store = DeepLakeVectorStore(attached, embed_model=words)
    found = store.query(VectorStoreQuery(query_embedding=words.embed_query(texts[7]), similarity_top_k=1))
    [node] = found.nodes
    assert (node.node_id, node.get_content(), node.metadata) == ("doc-7", texts[7], {"row": 7})
    with pytest.raises(ReadOnlyError):
        store.add([TextNode(text="new", embedding=words.embed_query("new"))])
