"""LlamaIndex over a store: an index end to end, Deep Memory on and off, filters, persistence, its QA datasets."""

import json
from dataclasses import dataclass, field

import pytest
import synonyms

pytest.importorskip("llama_index.core", reason="the llamaindex extra is not installed")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from deepmemory import CapabilityError, InputError, VectorStore
from deepmemory.integrations.llamaindex import DeepLakeVectorStore, queries_and_relevance, wrap_embed_model

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)


class WordModel(BaseEmbedding):
    """`synonyms.word_vectors` as LlamaIndex's embedding model; no network, no tokenizer."""

    def _get_text_embedding(self, text):
        return synonyms.word_vectors([text])[0].tolist()

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


@dataclass
class QA:
    """The fields of ``EmbeddingQAFinetuneDataset``, whose package needs more than these tests do."""

    queries: dict
    corpus: dict
    relevant_docs: dict
    mode: str = field(default="text")


MODEL = WordModel(model_name="words")
DATASET = QA(
    queries={f"q{row}": query for row, query in enumerate(QUERIES)},
    corpus=dict(zip(IDS, TEXTS, strict=True)),
    relevant_docs={f"q{row}": [id for id, _ in pairs] for row, pairs in enumerate(RELEVANCE)},
)
METADATA = [
    {"colour": "red", "n": 1, "tags": ["a", "b"], "id": "x"},
    {"colour": "green", "n": 2, "tags": ["b"], "id": "y"},
    {"colour": "red", "n": 3, "tags": [], "note": "Fresh fruit"},
    {"colour": None, "n": 4.5, "note": ""},
    {"n": 5, "tags": ["c", "a"], "note": "old"},
]


def nodes_of(ids, texts, metadatas=None):
    return [
        TextNode(id_=id, text=text, metadata=dict(metadatas[row]) if metadatas else {})
        for row, (id, text) in enumerate(zip(ids, texts, strict=True))
    ]


def index_over(vector_store, nodes):
    return VectorStoreIndex(
        nodes, storage_context=StorageContext.from_defaults(vector_store=vector_store), embed_model=MODEL
    )


def embedded(nodes):
    for node in nodes:
        node.embedding = MODEL.get_text_embedding(node.text)
    return nodes


@pytest.fixture(scope="module")
def learned():
    """An index over a trained store; tests only read it."""
    vector_store = DeepLakeVectorStore("mem://learned", embed_model=MODEL)
    index = index_over(vector_store, nodes_of(IDS, TEXTS))
    vector_store.deep_memory.train(*queries_and_relevance(DATASET), wait=True)
    yield index
    vector_store.vectorstore.close()


@pytest.fixture
def five():
    """Five nodes with metadata of all kinds."""
    store = DeepLakeVectorStore("mem://five")
    store.add(embedded(nodes_of("abcde", ["apple", "pear", "plum", "fig", "lime"], METADATA)))
    return store


def found_by(index, query, **settings):
    return [found.node.node_id for found in index.as_retriever(**settings).retrieve(query)]


class TestIndex:
    def test_deep_memory_changes_the_ranking_for_the_better(self, learned, held_out):
        right = {False: 0, True: 0}
        for query, answer in zip(*held_out, strict=True):
            for deep_memory in right:
                kwargs = {"deep_memory": deep_memory}
                right[deep_memory] += answer in found_by(learned, query, similarity_top_k=3, vector_store_kwargs=kwargs)
        assert right[True] > right[False] + 20

    def test_scores_come_with_nodes_best_first(self, learned):
        found = learned.as_retriever(similarity_top_k=10).retrieve(TEXTS[7])
        assert len(found) == 10
        assert found[0].score == pytest.approx(1, abs=1e-5)
        assert found[0].node.text == TEXTS[7]
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)

    async def test_asynchronously_it_finds_the_same(self, learned, held_out):
        kwargs = {"similarity_top_k": 4, "vector_store_kwargs": {"deep_memory": True}}
        found = await learned.as_retriever(**kwargs).aretrieve(held_out[0][0])
        assert [one.node.node_id for one in found] == found_by(learned, held_out[0][0], **kwargs)

    def test_diverse_search_uses_the_layer(self, learned, held_out):
        kwargs = {"similarity_top_k": 4, "vector_store_query_mode": VectorStoreQueryMode.MMR}
        for query in held_out[0][:5]:
            relevant = {"deep_memory": True, "mmr_threshold": 1.0}
            expected = found_by(learned, query, similarity_top_k=4, vector_store_kwargs={"deep_memory": True})
            assert found_by(learned, query, vector_store_kwargs=relevant, **kwargs) == expected
        diverse = found_by(learned, held_out[0][0], vector_store_kwargs={"mmr_threshold": 0.1}, **kwargs)
        assert len(set(diverse)) == 4
        assert diverse != found_by(learned, held_out[0][0], similarity_top_k=4)

    def test_is_kept_and_grows_and_shrinks(self, tmp_path):
        path = str(tmp_path / "store")
        index = index_over(DeepLakeVectorStore(path), nodes_of("ab", ["red apple", "red car"]))
        index.storage_context.persist(str(tmp_path / "elsewhere"))
        index.vector_store.vectorstore.close()

        again = VectorStoreIndex.from_vector_store(DeepLakeVectorStore(path, embed_model=MODEL), embed_model=MODEL)
        assert found_by(again, "red apple", similarity_top_k=1) == ["a"]
        again.insert_nodes(nodes_of("c", ["blue car"]))
        assert found_by(again, "blue car", similarity_top_k=1) == ["c"]
        words = {"similarity_top_k": 3, "vector_store_query_mode": VectorStoreQueryMode.TEXT_SEARCH}
        assert set(found_by(again, "car", **words)) == {"b", "c"}
        with pytest.raises(CapabilityError, match="words"):
            found_by(again, "car", vector_store_kwargs={"deep_memory": True}, **words)
        again.vector_store.delete_nodes(["a"])
        assert set(found_by(again, "red apple", similarity_top_k=5)) == {"b", "c"}
        assert len(DeepLakeVectorStore(path, overwrite=True).client) == 0


class TestNodes:
    def test_come_back_as_they_were(self, five):
        node = TextNode(id_="n", text="a text", metadata={"page": 3}, excluded_embed_metadata_keys=["page"])
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="doc-1")
        five.add(embedded([node]))
        (back,) = five.get_nodes(["n"])
        node.embedding = None
        assert back == node
        assert back.ref_doc_id == "doc-1"
        assert [one.node_id for one in five.get_nodes(["e", "nowhere", "a"])] == ["e", "a"]
        assert len(five.get_nodes()) == 6

    def test_are_deleted_by_document_by_id_by_filter_and_all(self, five):
        owned = nodes_of("wxyz", ["one", "two", "three", "four"])
        for row, node in enumerate(owned):
            node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc-{row % 2}")
        five.add(embedded(owned))
        five.delete("doc-1")
        assert {node.node_id for node in five.get_nodes()} == {*"abcdewy"}
        red = MetadataFilters(filters=[MetadataFilter(key="colour", value="red")])
        five.delete_nodes(["a", "b"], red)
        five.delete_nodes(filters=red)
        five.delete_nodes(["w", "nowhere"])
        assert {node.node_id for node in five.get_nodes()} == {*"bdey"}
        with pytest.raises(InputError, match="say which nodes"):
            five.delete_nodes()
        five.clear()
        assert five.get_nodes() == []

    async def test_have_asynchronous_twins(self):
        store = DeepLakeVectorStore("mem://async")
        assert await store.async_add(embedded(nodes_of("ab", ["apple", "pear"]))) == ["a", "b"]
        found = await store.aquery(VectorStoreQuery(MODEL.get_query_embedding("pear"), similarity_top_k=1))
        assert found.ids == ["b"]
        await store.adelete_nodes(["a"])
        assert [node.node_id for node in await store.aget_nodes()] == ["b"]
        await store.adelete("None")
        await store.aclear()
        assert store.add([]) == []

    def test_of_documents_that_others_added_are_text_nodes(self, tmp_path):
        with VectorStore(tmp_path / "store", synonyms.word_vectors) as store:
            store.add(["apple"], [{"page": 1}], ids=["1"])
        with DeepLakeVectorStore(str(tmp_path / "store"), embed_model=MODEL).vectorstore as opened:
            assert opened.search(embedding_data="apple")["id"] == ["1"]
        (node,) = DeepLakeVectorStore(str(tmp_path / "store"), read_only=True).get_nodes()
        assert (node.node_id, node.text, node.metadata) == ("1", "apple", {"page": 1})


def one(key, value, operator=FilterOperator.EQ):
    return MetadataFilter(key=key, value=value, operator=operator)


@pytest.mark.parametrize("condition", [FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT])
@pytest.mark.parametrize(
    "filters",
    [
        [one("colour", "red")],
        [one("colour", "red"), one("n", 3)],
        [one("n", [1, 5], FilterOperator.IN), one("colour", "green", FilterOperator.NE)],
        [one("n", 2, FilterOperator.GT), one("n", 5, FilterOperator.LT)],
        [one("n", 2, FilterOperator.GTE), one("n", 4, FilterOperator.LTE)],
        [one("colour", ["red"], FilterOperator.NIN)],
        [one("tags", ["a", "c"], FilterOperator.ANY), one("tags", ["a", "b"], FilterOperator.ALL)],
        [one("tags", "b", FilterOperator.CONTAINS)],
        [one("note", "fruit", FilterOperator.TEXT_MATCH), one("note", "OLD", FilterOperator.TEXT_MATCH_INSENSITIVE)],
        [one("tags", None, FilterOperator.IS_EMPTY)],
        [one("id", "x")],
        [one("n", 1), one("n", 2)],
    ],
)
def test_filters_mean_what_llamaindex_says(five, filters, condition):
    by_id = dict(zip("abcde", METADATA, strict=True))
    wanted = MetadataFilters(filters=filters, condition=condition)
    oracle = build_metadata_filter_fn(lambda id: by_id[id], wanted)
    expected = {id for id in by_id if oracle(id)}
    query = VectorStoreQuery(MODEL.get_query_embedding("plum"), similarity_top_k=5, filters=wanted)
    assert set(five.query(query).ids) == expected
    assert {node.node_id for node in five.get_nodes(filters=wanted)} == expected


class TestFilters:
    def test_nest(self, five):
        either = MetadataFilters(filters=[one("n", 1), one("n", 5)], condition=FilterCondition.OR)
        both = MetadataFilters(filters=[either, one("tags", "b", FilterOperator.CONTAINS)])
        assert [node.node_id for node in five.get_nodes(filters=both)] == ["a"]

    def test_join_with_ids_and_documents(self, five):
        query = VectorStoreQuery(
            MODEL.get_query_embedding("plum"),
            similarity_top_k=5,
            node_ids=["a", "b", "c"],
            doc_ids=["None"],
            filters=MetadataFilters(filters=[one("colour", "red")]),
        )
        assert five.query(query).ids == ["c", "a"]

    @pytest.mark.parametrize(
        ("filter", "message"),
        [
            (one("n", 3, FilterOperator.IN), "in takes a list"),
            (one("n", 3, FilterOperator.TEXT_MATCH), "text_match takes a text"),
            (one("n", "three", FilterOperator.GT), "can't compare 1"),
        ],
    )
    def test_that_make_no_sense_say_so(self, five, filter, message):
        with pytest.raises(InputError, match=message):
            five.get_nodes(filters=MetadataFilters(filters=[filter]))

    def test_by_words_take_equality_alone(self, five):
        query = VectorStoreQuery(
            query_str="plum",
            mode=VectorStoreQueryMode.TEXT_SEARCH,
            filters=MetadataFilters(filters=[one("n", 2, FilterOperator.GT)]),
        )
        with pytest.raises(CapabilityError, match="equality alone"):
            five.query(query)


class TestMistakes:
    @pytest.mark.parametrize("mode", [VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SVM])
    def test_modes_that_are_not_there(self, five, mode):
        with pytest.raises(CapabilityError, match=f"'{mode.value}' is not there: use default"):
            five.query(VectorStoreQuery(MODEL.get_query_embedding("x"), mode=mode))

    def test_arguments_that_are_not_known(self, five):
        with pytest.raises(TypeError, match="deep"):
            five.query(VectorStoreQuery(MODEL.get_query_embedding("x")), deep=True)

    def test_training_on_texts_without_an_embedding_model(self, five):
        with pytest.raises(InputError, match="no embedder"):
            five.deep_memory.train(["what is red?"], [[("a", 1.0)]])

    def test_distances_other_than_the_stores_with_deep_memory(self, five):
        query = VectorStoreQuery(MODEL.get_query_embedding("plum"), similarity_top_k=1)
        assert five.query(query, distance_metric="L2").ids == ["c"]
        with pytest.raises(CapabilityError, match="leave out distance_metric"):
            five.query(query, distance_metric="L2", deep_memory=True)


class TestQADatasets:
    def test_objects_and_files_give_what_training_takes(self, tmp_path):
        file = tmp_path / "qa.json"
        file.write_text(json.dumps(vars(DATASET)))
        queries, relevance = queries_and_relevance(DATASET)
        assert (queries, relevance) == (QUERIES, RELEVANCE)
        assert queries_and_relevance(file) == queries_and_relevance(str(file)) == (queries, relevance)

    def test_every_fault_is_named(self):
        broken = QA(queries={"q": " "}, corpus={"d": "text"}, relevant_docs={"q": ["d", "nowhere"], "p": ["d"]})
        with pytest.raises(InputError) as raised:
            queries_and_relevance(broken)
        assert len(raised.value.problems) == 3

    def test_other_things_are_refused(self):
        with pytest.raises(InputError, match="expected an EmbeddingQAFinetuneDataset"):
            queries_and_relevance([("q", "d")])

    def test_queries_are_embedded_by_the_wrapped_model(self, five):
        five.deep_memory.train(
            [f"what about {text}?" for text in ("apple", "pear", "plum") for _ in range(4)],
            [[(id, 1.0)] for id in "abc" for _ in range(4)],
            embedding_function=wrap_embed_model(MODEL),
            wait=True,
        )
        assert len(five.deep_memory.models()) == 1
