"""LangChain's DeepLake: the tutorial's calls, Deep Memory on and off, MMR, filters, scores, async, wrong input."""

import numpy as np
import pytest
import synonyms

pytest.importorskip("langchain_core", reason="the langchain extra is not installed")

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from deepmemory import CapabilityError, EmbedderMismatchError, InputError, ReadOnlyError
from deepmemory.integrations.langchain import DeepLake, DeepLakeRetriever

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)


@pytest.fixture
def db(words):
    db = DeepLake("mem://fruit", embedding=words)
    db.add_texts(
        ["red apple", "green apple", "red car", "blue car"],
        [{"colour": "red"}, {"colour": "green"}, {"colour": "red"}, {"colour": "blue"}],
        ids=["a", "b", "c", "d"],
    )
    return db


@pytest.fixture(scope="module")
def learned(words):
    """A trained store behind the class; tests only read it."""
    db = DeepLake("mem://learned", embedding=words)
    db.add_texts(TEXTS, [{"row": row, "half": row % 2} for row in range(len(TEXTS))], ids=IDS)
    db.vectorstore.deep_memory.train(QUERIES, RELEVANCE, wait=True)
    yield db
    db.vectorstore.close()


def ids_of(documents):
    return [document.id for document in documents]


class TestTutorial:
    def test_its_calls_from_the_first_to_the_last(self, words, tmp_path, capsys):
        db = DeepLake(
            dataset_path=str(tmp_path / "deeplake-docs-deepmemory"),
            embedding=words,
            runtime={"tensor_db": True},
            token="a token",
            # overwrite=True,
            read_only=False,
        )
        added = db.add_documents([Document(page_content=text, metadata={"source": "test"}) for text in TEXTS])
        docs = db.vectorstore.dataset.text.data(fetch_chunks=True, aslist=True)["value"]
        ids = db.vectorstore.dataset.id.data(fetch_chunks=True, aslist=True)["value"]
        assert (list(docs), list(ids)) == (TEXTS, added)

        questions, relevances = synonyms.questions(docs, ids, n=120)
        train_questions, train_relevances = questions[:80], relevances[:80]
        test_questions, test_relevances = questions[80:], relevances[80:]
        job_id = db.vectorstore.deep_memory.train(queries=train_questions, relevance=train_relevances)
        db.vectorstore.deep_memory.wait(job_id)
        db.vectorstore.deep_memory.status(job_id)
        recall = db.vectorstore.deep_memory.evaluate(queries=test_questions, relevance=test_relevances)
        printed = capsys.readouterr().out
        assert "| status                     | completed " in printed
        assert "---- Evaluating with Deep Memory ----" in printed
        assert recall["with model"]["recall@10"] > recall["without model"]["recall@10"] + 0.2

        ground_truths = convert_relevance_to_ground_truth(docs, test_relevances)
        found = {}
        for deep_memory in [False, True]:
            retriever = db.as_retriever()
            retriever.search_kwargs["deep_memory"] = deep_memory
            contexts = [[d.page_content for d in retriever.invoke(question)] for question in test_questions]
            assert {len(context) for context in contexts} == {4}
            pairs = zip(ground_truths, contexts, strict=True)
            found[deep_memory] = sum(truth[0] in context for truth, context in pairs)
        assert found[True] > found[False] + 10
        db.vectorstore.close()

    def test_answers_with_its_retrieval_chain(self, learned, held_out):
        classic = pytest.importorskip("langchain_classic.chains", reason="langchain-classic is not installed")
        retriever = learned.as_retriever()
        retriever.search_kwargs["deep_memory"] = True
        retriever.search_kwargs["k"] = 3
        qa = classic.RetrievalQA.from_chain_type(
            llm=FakeListChatModel(responses=["an answer"]),
            chain_type="stuff",
            retriever=retriever,
            return_source_documents=True,
        )
        reply = qa.invoke({"query": held_out[0][0]})
        assert reply["result"] == "an answer"
        assert ids_of(reply["source_documents"]) == ids_of(retriever.invoke(held_out[0][0]))
        assert len(reply["source_documents"]) == 3


def convert_relevance_to_ground_truth(docs, relevance):
    """The tutorial's own words: texts are looked up by the ids that relevance names."""
    ground_truths = []

    for rel in relevance:
        ground_truth = []
        for doc_id, _ in rel:
            ground_truth.append(docs[doc_id])
        ground_truths.append(ground_truth)
    return ground_truths


class TestDeepMemory:
    def test_changes_the_ranking_for_the_better(self, learned, held_out):
        right = {False: 0, True: 0}
        for query, answer in zip(*held_out, strict=True):
            for deep_memory in right:
                right[deep_memory] += answer in ids_of(learned.similarity_search(query, 3, deep_memory=deep_memory))
        assert right[True] > right[False] + 20

    def test_is_off_unless_it_is_asked_for(self, learned, held_out):
        query = held_out[0][0]
        assert ids_of(learned.similarity_search(query)) == ids_of(learned.similarity_search(query, deep_memory=False))
        assert ids_of(learned.similarity_search(query)) != ids_of(learned.similarity_search(query, deep_memory=True))

    def test_works_by_vector_as_by_text(self, learned, held_out, words):
        for query in held_out[0][:5]:
            by_vector = learned.similarity_search_by_vector(words.embed_query(query), k=5, deep_memory=True)
            assert ids_of(by_vector) == ids_of(learned.similarity_search(query, k=5, deep_memory=True))

    def test_composes_with_filters_through_a_retriever(self, learned, held_out):
        query = held_out[0][1]
        everything = learned.similarity_search(query, k=len(IDS), deep_memory=True)
        odd = [document.id for document in everything if document.metadata["half"]][:5]
        for filter in ({"metadata": {"half": 1}}, lambda sample: sample.metadata.data()["value"]["half"] == 1):
            settings = {"deep_memory": True, "k": 5, "filter": filter, "distance_metric": "cos", "exec_option": "auto"}
            assert ids_of(learned.as_retriever(search_kwargs=settings).invoke(query)) == odd


class TestDiversity:
    def test_is_langchains_own_without_deep_memory(self, learned, held_out, words):
        for query in held_out[0][:8]:
            for lambda_mult in (0.0, 0.3, 0.5, 1.0):
                hits = learned.similarity_search(query, k=12)
                vectors = words.embed_documents([document.page_content for document in hits])
                rows = maximal_marginal_relevance(np.array(words.embed_query(query)), vectors, lambda_mult, k=5)
                found = learned.max_marginal_relevance_search(query, k=5, fetch_k=12, lambda_mult=lambda_mult)
                assert ids_of(found) == [hits[row].id for row in rows]
                by_vector = learned.max_marginal_relevance_search_by_vector(
                    words.embed_query(query), k=5, fetch_k=12, lambda_mult=lambda_mult
                )
                assert ids_of(by_vector) == ids_of(found)

    def test_weighs_with_the_query_that_deep_memory_moved(self, learned, held_out, words):
        differs = 0
        for query in held_out[0][:10]:
            candidates = learned.similarity_search_with_score(query, k=20, deep_memory=True)
            vectors = np.array(words.embed_documents([document.page_content for document, _ in candidates]))
            units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            chosen = [0]
            while len(chosen) < 5:
                gains = {
                    row: 0.6 * score - 0.4 * max(units[row] @ units[other] for other in chosen)
                    for row, (_, score) in enumerate(candidates)
                    if row not in chosen
                }
                chosen.append(max(gains, key=gains.get))
            found = learned.max_marginal_relevance_search(query, k=5, fetch_k=20, lambda_mult=0.6, deep_memory=True)
            assert ids_of(found) == [candidates[row][0].id for row in chosen]
            unmoved = maximal_marginal_relevance(np.array(words.embed_query(query)), vectors.tolist(), 0.6, k=5)
            differs += unmoved != chosen
        assert differs >= 5

    def test_at_one_is_the_search_itself(self, learned, held_out):
        for query in held_out[0][:5]:
            found = learned.max_marginal_relevance_search(query, k=4, lambda_mult=1.0, deep_memory=True)
            assert ids_of(found) == ids_of(learned.similarity_search(query, k=4, deep_memory=True))

    def test_through_a_retriever_and_with_bad_numbers(self, learned, db, held_out):
        retriever = learned.as_retriever(search_type="mmr", search_kwargs={"k": 3, "fetch_k": 9, "lambda_mult": 0.2})
        expected = learned.max_marginal_relevance_search(held_out[0][0], k=3, fetch_k=9, lambda_mult=0.2)
        assert retriever.invoke(held_out[0][0]) == expected
        assert len(db.max_marginal_relevance_search("apple", k=10, fetch_k=2)) == 4
        with pytest.raises(InputError, match="lambda_mult"):
            db.max_marginal_relevance_search("apple", lambda_mult=2)


class TestScores:
    def test_are_similarities_best_first(self, db):
        found = db.similarity_search_with_score("red apple", k=4)
        scores = [score for _, score in found]
        assert found[0][0] == Document(id="a", page_content="red apple", metadata={"colour": "red"})
        assert scores[0] == pytest.approx(1, abs=1e-5)
        assert scores == sorted(scores, reverse=True)

    def test_as_relevance_stay_within_0_and_1(self, learned, held_out):
        for query in held_out[0][:5]:
            for settings in ({}, {"deep_memory": True}):
                plain = learned.similarity_search_with_score(query, k=60, **settings)
                relevance = learned.similarity_search_with_relevance_scores(query, k=60, **settings)
                assert min(score for _, score in plain) < 0
                assert [score for _, score in relevance] == [min(1, max(0, score)) for _, score in plain]
            far = learned.similarity_search_with_relevance_scores(query, k=60, distance_metric="L2")
            assert all(0 < score < 1 for _, score in far)
            assert far == sorted(far, key=lambda pair: -pair[1])

    async def test_a_threshold_leaves_out_what_is_below(self, db):
        retriever = db.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.9})
        assert ids_of(retriever.invoke("red apple")) == ids_of(await retriever.ainvoke("red apple")) == ["a"]


class TestAsync:
    async def test_every_call_has_its_twin(self, words):
        db = await DeepLake.afrom_texts(["red apple"], words, [{"n": 1}], ids=["a"], dataset_path="mem://x")
        assert await db.aadd_documents([Document(page_content="red car", id="c")]) == ["c"]
        assert await db.aadd_texts(["blue car"], ids=["d"]) == ["d"]
        assert ids_of(await db.asimilarity_search("red apple", k=1)) == ["a"]
        assert ids_of(await db.asimilarity_search_by_vector(words.embed_query("blue car"), k=1)) == ["d"]
        assert (await db.asimilarity_search_with_score("red car", k=1))[0][0].id == "c"
        assert (await db.asimilarity_search_with_relevance_scores("red car", k=1))[0][1] == pytest.approx(1, abs=1e-5)
        assert len(await db.amax_marginal_relevance_search("car", k=2)) == 2
        assert ids_of(await db.as_retriever(k=1, filter={"n": 1}).ainvoke("car")) == ["a"]
        assert await db.adelete(["a"])
        assert ids_of(await db.aget_by_ids(["a", "d"])) == ["d"]

    async def test_with_deep_memory_finds_the_same(self, learned, held_out):
        for query in held_out[0][:3]:
            found = await learned.asimilarity_search(query, k=5, deep_memory=True)
            assert found == learned.similarity_search(query, k=5, deep_memory=True)


class TestKeeping:
    def test_documents_are_there_when_it_is_opened_again(self, words, tmp_path):
        path = str(tmp_path / "store")
        documents = [Document(page_content="red apple", metadata={"n": 1}, id="a"), Document(page_content="car")]
        first = DeepLake.from_documents(documents, words, dataset_path=path)
        first.vectorstore.close()
        again = DeepLake(path, embedding_function=words, read_only=True)
        assert again.similarity_search("red apple", k=1) == [documents[0]]
        assert again.embeddings is words
        with pytest.raises(ReadOnlyError):
            again.add_texts(["x"])
        with pytest.raises(EmbedderMismatchError):
            DeepLake(path, embedding=synonyms.other_vectors)
        assert len(DeepLake(path, embedding=words, overwrite=True).vectorstore) == 0
        DeepLake.force_delete_by_path(path)
        assert not (tmp_path / "store").exists()

    def test_adding_again_replaces_and_nothing_adds_nothing(self, db):
        assert db.add_texts([]) == []
        assert db.add_texts((text for text in ["yellow bus"]), ids=["a"]) == ["a"]
        assert [document.page_content for document in db.get_by_ids(["a", "nowhere"])] == ["yellow bus"]
        assert len(db.vectorstore) == 4

    def test_deleting(self, db):
        assert db.delete(["a", "nowhere"])
        assert db.delete(filter={"metadata": {"colour": "red"}})
        assert ids_of(db.similarity_search("car", k=9)) == ["d", "b"]
        db.delete_dataset()
        assert db.similarity_search("car") == []
        with pytest.raises(InputError, match="say what to delete"):
            db.delete()


class TestRetriever:
    def test_takes_settings_by_name_or_together(self, db):
        assert len(db.as_retriever(k=1).invoke("car")) == 1
        assert len(DeepLakeRetriever(vectorstore=db, search_kwargs={"k": 1}, k=3).invoke("car")) == 3
        assert len(db.as_retriever(k=1).invoke("car", k=2)) == 2
        strict = db.as_retriever(search_type="similarity_score_threshold", score_threshold=0.9, k=4)
        assert ids_of(strict.invoke("red apple")) == ["a"]
        assert db.as_retriever(tags=["mine"]).tags == ["mine", "DeepLake", "WordEmbeddings"]

    def test_an_embedding_function_of_the_call_makes_the_vector(self, db, words):
        for function in (words, words.embed_query):
            assert ids_of(db.similarity_search("blue car", k=1, embedding_function=function)) == ["d"]


class TestMistakes:
    def test_metadata_that_is_no_json_is_named_by_row_and_nothing_is_added(self, db, tmp_path):
        with pytest.raises(InputError, match=r"metadatas\[1\].*\['source'\]"):
            db.add_texts(["x", "y"], [{}, {"source": tmp_path}])
        assert len(db.vectorstore) == 4

    def test_two_names_for_the_embeddings(self, words):
        with pytest.raises(InputError, match="give one of them"):
            DeepLake("mem://x", embedding=words, embedding_function=words)

    def test_a_query_language(self, db):
        with pytest.raises(CapabilityError, match="leave out tql"):
            db.similarity_search("x", tql="SELECT * WHERE id == 'a'")

    def test_arguments_that_are_not_known(self, db):
        with pytest.raises(TypeError, match="fetch_depth"):
            db.similarity_search("x", fetch_depth=3)
        with pytest.raises(TypeError, match="shape"):
            db.add_texts(["x"], shape=[1])
        with pytest.raises(ValueError, match="deep_memroy"):
            db.as_retriever(deep_memroy=True)
        with pytest.raises(InputError, match="exec_option"):
            db.similarity_search("x", exec_option="gpu")

    def test_the_older_name_of_the_dataset_warns(self, db):
        with pytest.warns(DeprecationWarning, match="vectorstore.dataset"):
            assert len(db.ds()) == 4
