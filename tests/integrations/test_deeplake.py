"""Deep Lake 3's vector store by its names and shapes: what is the same, what is right now, what is refused."""

import numpy as np
import pytest
import synonyms

import deepmemory
from deepmemory import CapabilityError, EmbedderMismatchError, InputError, NotAStoreError, ReadOnlyError
from deepmemory.integrations.deeplake import VectorStore

TEXTS = ["red apple", "green apple", "red car", "blue car", "green tree"]
IDS = ["a", "b", "c", "d", "e"]
METADATA = [{"colour": text.split()[0], "id": row, "tags": ["x", text[0]]} for row, text in enumerate(TEXTS)]


@pytest.fixture
def store(words):
    with VectorStore("mem://fruit", embedding_function=words) as store:
        store.add(text=TEXTS, metadata=METADATA, id=IDS)
        yield store


@pytest.fixture
def bare():
    """A store whose vectors are given, of any length."""
    with VectorStore("mem://vectors") as store:
        vectors = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
        vectors *= np.random.default_rng(1).uniform(0.5, 2, size=(80, 1))
        rows = range(80)
        store.add(text=[f"t{r}" for r in rows], id=[f"d{r:02}" for r in rows], metadata=[{"m": r % 4} for r in rows],
                  embedding=vectors)  # fmt: skip
        yield store, vectors


class TestAdd:
    def test_returns_the_ids_only_where_asked(self, store):
        assert store.add(text=["one more"]) is None
        (made,) = store.add(text=["and more"], return_ids=True)
        assert store.search(filter={"id": made})["text"] == ["and more"]
        assert len(store) == 7

    def test_makes_an_id_for_each_none(self, store):
        ids = store.add(text=["x", "y"], id=["mine", None], return_ids=True)
        assert ids[0] == "mine"
        assert len(ids[1]) == 32

    def test_replaces_documents_whose_id_exists(self, store):
        store.add(text=["yellow bus"], id=["a"])
        assert len(store) == 5
        assert store.search(filter={"id": "a"})["text"] == ["yellow bus"]

    def test_embeds_other_data_than_the_text(self, store):
        store.add(text=["shown"], embedding_data=["completely different words"], id=["other"])
        assert store.search(embedding_data="completely different words", k=1)["id"] == ["other"]

    def test_uses_the_function_that_the_call_gives(self, store):
        store.add(text=["red apple"], id=["other"], embedding_function=synonyms.other_vectors)
        vector = store.search(filter={"id": "other"}, return_tensors=["embedding"])["embedding"][0]
        expected = synonyms.other_vectors(["red apple"])[0]
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-5)

    def test_names_every_problem_and_changes_nothing(self, store):
        with pytest.raises(InputError) as raised:
            store.add(text=["fine", " "], metadata=[{"when": object()}, None])
        assert len(raised.value.problems) == 2
        assert len(store) == 5

    def test_wants_an_embedder_or_vectors(self):
        with VectorStore("mem://none") as store, pytest.raises(InputError, match="give an embedding_function"):
            store.add(text=["x"])

    def test_prints_what_the_store_holds_where_asked(self, words, capsys):
        with VectorStore("mem://loud", embedding_function=words, verbose=True) as store:
            store.add(text=["x", "y"])
        assert f"(2, {synonyms.DIMENSIONS})" in capsys.readouterr().out


class TestSearch:
    def test_gives_lists_by_tensor_with_scores_best_first(self, store):
        found = store.search(embedding_data="red apple", k=3)
        assert set(found) == {"score", "text", "metadata", "id"}
        assert found["id"][0] == "a"
        assert found["metadata"][0] == METADATA[0]
        assert found["score"][0] == pytest.approx(1, abs=1e-5)
        assert found["score"] == sorted(found["score"], reverse=True)
        assert {len(values) for values in found.values()} == {3}

    def test_gives_the_tensors_that_are_named(self, store):
        assert set(store.search(embedding_data="car", return_tensors=["id"])) == {"score", "id"}
        found = store.search(embedding_data="car", k=2, return_tensors="*")
        assert {"score", "text", "metadata", "id", "embedding"} == set(found)
        assert found["embedding"][0].shape == (synonyms.DIMENSIONS,)
        with pytest.raises(InputError, match="there is no tensor 'image'"):
            store.search(embedding_data="car", return_tensors=["image"])

    def test_by_text_by_function_and_by_vector_are_one(self, store, words):
        by_text = store.search(embedding_data="green")["id"]
        assert store.search(embedding=words.embed_query("green"))["id"] == by_text
        assert store.search(embedding_data=["green"], embedding_function=words.embed_documents)["id"] == by_text

    def test_a_filter_alone_lists_documents_without_scores(self, store):
        found = store.search(filter={"metadata": {"colour": "green"}})
        assert found["id"] == ["b", "e"]
        assert "score" not in found

    def test_says_what_is_wrong(self, store):
        with pytest.raises(InputError, match="say what to search for"):
            store.search()
        with pytest.raises(InputError, match="one query"):
            store.search(embedding_data=["a", "b"])
        with pytest.raises(InputError, match="exec_option"):
            store.search(embedding_data="a", exec_option="indra")
        with pytest.raises(InputError, match="k is a whole number"):
            store.search(embedding_data="a", k=0, distance_metric="L2")

    @pytest.mark.parametrize("option", ["auto", "python", "compute_engine", "tensor_db", None])
    def test_every_way_to_execute_is_the_same(self, store, option):
        assert store.search(embedding_data="red apple", k=1, exec_option=option)["id"] == ["a"]

    def test_deep_memory_finds_what_the_plain_search_does_not(self, trained, held_out):
        queries, answers = held_out

        def right(deep_memory):
            found = [trained.search(embedding_data=q, k=3, deep_memory=deep_memory)["id"] for q in queries]
            return sum(answer in ids for answer, ids in zip(answers, found, strict=True))

        assert right(True) >= right(False) + 20
        plain = [trained.search(embedding_data=q, k=3)["id"] for q in queries]
        assert plain == [trained.search(embedding_data=q, k=3, deep_memory=False)["id"] for q in queries]


class TestFilters:
    @pytest.mark.parametrize(
        ("filter", "expected"),
        [
            ({"metadata": {"colour": "red"}}, {"a", "c"}),
            ({"colour": "red"}, {"a", "c"}),
            ({"metadata": {"colour": ["red", "blue"]}}, {"a", "c", "d"}),
            ({"metadata": {"colour": "red", "id": 2}}, {"c"}),
            ({"metadata": {"id": [0, 4]}}, {"a", "e"}),
            ({"id": ["a", "d", "nowhere"]}, {"a", "d"}),
            ({"text": "blue car"}, {"d"}),
            ({"text": ["blue car", "red car"], "metadata": {"colour": "red"}}, {"c"}),
            ({"metadata": {"tags": [["x", "g"]]}}, {"b", "e"}),
            ({"metadata": {"nothing": None}}, set()),
            ({}, {"a", "b", "c", "d", "e"}),
            (lambda sample: "car" in sample["text"].data()["value"], {"c", "d"}),
            (lambda sample: sample.metadata.data()["value"]["id"] > 2, {"d", "e"}),
            (lambda sample: sample.id.numpy() < "c" and sample.embedding.numpy().shape == (32,), {"a", "b"}),
        ],
    )
    def test_find_and_delete_the_same_documents(self, store, filter, expected):
        assert set(store.search(embedding_data="apple car", k=5, filter=filter)["id"]) == expected
        assert set(store.search(k=5, filter=filter)["id"]) == expected
        if filter != {}:
            store.delete(filter=filter)
            assert set(store.dataset.id.data(aslist=True)["value"]) == {*IDS} - expected

    @pytest.mark.parametrize(
        ("filter", "message"),
        [
            ("colour = red", "a filter is a dict"),
            ({"embedding": [0.1]}, "can't compare embeddings"),
            ({"text": 7}, "a text or a list of texts"),
            ({"metadata": {"colour": "red"}, "colour": "blue"}, "names the key 'colour' twice"),
            ({"colour": object()}, "JSON values"),
        ],
    )
    def test_that_are_none_are_refused_before_anything_is_deleted(self, store, filter, message):
        with pytest.raises(InputError, match=message):
            store.delete(filter=filter)
        assert len(store) == 5

    def test_a_function_that_few_documents_pass_still_finds_the_best_of_them(self, bare):
        store, vectors = bare
        query = vectors[3]
        found = store.search(embedding=query, k=3, filter=lambda s: s.metadata.data()["value"]["m"] == 1)
        cosines = vectors @ query / np.linalg.norm(vectors, axis=1)
        best = sorted(range(1, 80, 4), key=lambda row: -cosines[row])[:3]
        assert found["id"] == [f"d{row:02}" for row in best]

    def test_what_a_function_raises_comes_through(self, store):
        with pytest.raises(KeyError, match="absent"):
            store.search(embedding_data="a", filter=lambda sample: sample.metadata.data()["value"]["absent"])

    def test_compose_with_deep_memory(self, trained, held_out):
        query = held_out[0][0]
        everything = trained.search(embedding_data=query, k=60, deep_memory=True)
        odd = [id for id, metadata in zip(everything["id"], everything["metadata"], strict=True) if metadata["half"]]
        native = trained.search(embedding_data=query, k=5, deep_memory=True, filter={"metadata": {"half": 1}})
        asked = trained.search(
            embedding_data=query, k=5, deep_memory=True, filter=lambda s: s.metadata.data()["value"]["half"]
        )
        assert native["id"] == asked["id"] == odd[:5]


class TestDistances:
    @pytest.mark.parametrize("metric", ["L2", "l1", "max", "COS", "dot"])
    @pytest.mark.parametrize("filter", [None, {"m": 2}, lambda s: s.metadata.data()["value"]["m"] == 2])
    def test_rank_as_arithmetic_says(self, bare, metric, filter):
        store, vectors = bare
        query = np.random.default_rng(7).normal(size=8).astype(np.float32)
        difference = np.abs(vectors - query)
        scores = {
            "l2": -np.linalg.norm(difference, axis=1),
            "l1": -difference.sum(axis=1),
            "max": -difference.max(axis=1),
            "cos": vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query),
            "dot": vectors @ query,
        }[metric.lower()]
        rows = [row for row in np.argsort(-scores) if filter is None or row % 4 == 2][:6]
        found = store.search(embedding=query, k=6, distance_metric=metric, filter=filter)
        assert found["id"] == [f"d{row:02}" for row in rows]
        np.testing.assert_allclose(found["score"], scores[rows], rtol=1e-4)

    def test_the_stores_own_composes_with_deep_memory(self, trained, held_out):
        for query in held_out[0][:5]:
            named = trained.search(embedding_data=query, deep_memory=True, distance_metric="cos")
            assert named == trained.search(embedding_data=query, deep_memory=True)

    @pytest.mark.parametrize("metric", ["L2", "L1", "max", "dot"])
    def test_others_with_deep_memory_are_refused_rather_than_dropped(self, trained, metric):
        with pytest.raises(CapabilityError, match="leave out distance_metric"):
            trained.search(embedding_data="x", deep_memory=True, distance_metric=metric)

    def test_a_text_will_do_and_an_empty_store_has_no_hits(self, store, words):
        assert store.search(embedding_data="red apple", k=1, distance_metric="L2")["id"] == ["a"]
        with VectorStore("mem://empty", embedding_function=words) as empty:
            assert empty.search(embedding_data="x", distance_metric="L1")["id"] == []

    def test_an_unknown_one_is_refused(self, store):
        with pytest.raises(InputError, match="'cos', 'dot', 'L2', 'L1' or 'max'; found 'hamming'"):
            store.search(embedding_data="a", distance_metric="hamming")


class TestChange:
    def test_delete_by_ids_and_filter_both_ways(self, store):
        assert store.delete(ids=["a", "b", "nowhere"], filter={"colour": "red"}) is True
        store.delete(ids=["b", "c"], filter=lambda s: s.id.numpy() == "c")
        assert store.dataset.id.data(aslist=True)["value"] == ["b", "d", "e"]
        store.delete(delete_all=True)
        assert len(store) == 0

    def test_delete_wants_to_be_told_what(self, store):
        with pytest.raises(InputError, match="say what to delete"):
            store.delete()
        assert len(store) == 5

    def test_update_embedding_replaces_vectors_and_nothing_else(self, store):
        before = store.dataset.embedding.numpy()
        store.update_embedding(filter={"colour": "red"}, embedding_function=synonyms.other_vectors)
        found = store.search(filter={}, k=9, return_tensors="*")
        rows = {id: row for row, id in enumerate(found["id"])}
        for row, (id, text, metadata) in enumerate(zip(IDS, TEXTS, METADATA, strict=True)):
            assert found["text"][rows[id]] == text
            assert found["metadata"][rows[id]] == metadata
            same = np.allclose(found["embedding"][rows[id]], before[row])
            assert same is (metadata["colour"] != "red")
        store.update_embedding(ids=["a", "c", "nowhere"])
        np.testing.assert_allclose(store.search(filter={"id": "a"}, return_tensors=["embedding"])["embedding"][0],
                                   before[0], rtol=1e-6)  # fmt: skip

    def test_reading_only_refuses_changes(self, words, tmp_path):
        with VectorStore(tmp_path / "store", embedding_function=words) as store:
            store.add(text=["x"])
        with VectorStore(tmp_path / "store", embedding_function=words, read_only=True) as store:
            assert store.search(embedding_data="x")["text"] == ["x"]
            for change in (
                lambda: store.add(text=["y"]),
                lambda: store.delete(delete_all=True),
                store.update_embedding,
            ):
                with pytest.raises(ReadOnlyError):
                    change()


class TestDataset:
    def test_columns_are_in_one_order_and_answer_to_ids(self, store):
        dataset = store.dataset
        text, id, metadata = (
            getattr(dataset, name).data(fetch_chunks=True, aslist=True)["value"] for name in ("text", "id", "metadata")
        )
        assert (text, id, metadata) == (TEXTS, IDS, METADATA)
        assert isinstance(text, list)
        assert text["d"] == "blue car"
        assert metadata["e"]["colour"] == "green"
        assert text[1:3] == TEXTS[1:3]
        with pytest.raises(KeyError):
            text["nowhere"]

    def test_vectors_are_those_that_are_searched(self, store, words):
        vectors = store.dataset.embedding.data(fetch_chunks=True)["value"]
        expected = np.array(words.embed_documents(TEXTS))
        np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5)
        assert vectors.dtype == np.float32
        assert store.dataset.embedding.data(aslist=True)["value"]["b"].tolist() == vectors[1].tolist()

    def test_rows_slices_and_samples(self, store):
        dataset = store.dataset
        assert len(dataset) == 5
        assert len(dataset.text[1:4]) == 3
        assert dataset["text"][1:4][::-1].numpy().tolist() == TEXTS[3:0:-1]
        assert dataset.text[::-1].numpy(aslist=True) == TEXTS[::-1]
        assert dataset.text[2].data()["value"] == "red car"
        assert dataset[-1]["metadata"].numpy() == METADATA[-1]
        assert [sample.id.numpy() for sample in dataset] == IDS
        assert [cell.numpy() for cell in dataset.text] == TEXTS
        with pytest.raises(IndexError, match="there is no row 5"):
            dataset[5]
        with pytest.raises(InputError, match="there is no tensor 'image'"):
            dataset["image"]

    def test_tensors_and_summary(self, store, capsys):
        assert list(store.tensors()) == ["text", "id", "metadata", "embedding"]
        store.summary()
        assert f"embedding  embedding  (5, {synonyms.DIMENSIONS})  float32" in capsys.readouterr().out

    def test_an_empty_one(self, words):
        with VectorStore("mem://empty", embedding_function=words) as store:
            assert store.dataset.text.data(aslist=True)["value"] == []
            assert store.dataset.embedding.numpy().shape == (0, 0)
            assert bool(store)
            assert bool(store.dataset)


class TestOpening:
    def test_the_originals_arguments_open_a_local_store(self, words, tmp_path):
        with VectorStore(
            path=tmp_path / "store", embedding_function=words, read_only=False, ingestion_batch_size=10, num_workers=2,
            index_params={"threshold": -1}, exec_option="auto", token="ignored", overwrite=False, verbose=False,
            runtime={"tensor_db": True}, org_id="acme", branch="main",
        ) as store:  # fmt: skip
            store.add(text=["kept"])
        with VectorStore(tmp_path / "store", embedding_function=words.embed_documents) as store:
            assert store.search(embedding_data="kept")["text"] == ["kept"]
        with VectorStore(tmp_path / "store", embedding_function=words, overwrite=True) as store:
            assert len(store) == 0

    def test_a_store_is_one_with_that_of_the_public_class(self, words, tmp_path):
        with deepmemory.VectorStore(tmp_path / "store", words) as store:
            store.add(["shared"], ids=["1"])
        with VectorStore(tmp_path / "store", words) as store:
            assert store.search(embedding_data="shared")["id"] == ["1"]
            assert store.store.count() == 1

    def test_without_an_embedder_vectors_are_given_and_kept(self, tmp_path):
        for text in ("x", "y"):
            with VectorStore(tmp_path / "store") as store:
                store.add(text=[text], id=[text], embedding=[[1.0, float(text == "y")]])
                assert store.search(embedding=[1.0, float(text == "y")], k=1)["id"] == [text]
                with pytest.raises(InputError, match="give an embedding_function"):
                    store.search(embedding_data="x")

    def test_another_embedder_is_refused(self, words, tmp_path):
        VectorStore(tmp_path / "store", words).close()
        with pytest.raises(EmbedderMismatchError):
            VectorStore(tmp_path / "store", synonyms.other_vectors)

    def test_delete_by_path_deletes_stores_and_nothing_else(self, words, tmp_path):
        VectorStore(tmp_path / "store", words).close()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("years of work")
        with pytest.raises(NotAStoreError):
            VectorStore.delete_by_path(tmp_path / "mine", force=True)
        with pytest.raises(NotAStoreError):
            VectorStore.delete_by_path(tmp_path / "nothing")
        VectorStore.delete_by_path(tmp_path / "nothing", force=True)
        VectorStore.delete_by_path(tmp_path / "store")
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]
        assert (tmp_path / "mine" / "thesis.txt").exists()
        with pytest.raises(CapabilityError, match="only folders"):
            VectorStore.delete_by_path("mem://x")

    @pytest.mark.parametrize("options", [{"branch": "dev"}, {"tensor_params": [{"name": "image"}]}])
    def test_branches_and_other_tensors_are_refused(self, options):
        with pytest.raises(CapabilityError):
            VectorStore("mem://x", **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store: store.commit(), "nothing to commit"),
        (lambda store: store.checkout("dev"), "no branch 'dev'"),
        (lambda store: store.search(query="SELECT *"), "no query language"),
        (lambda store: store.search(embedding_data="x", return_view=True), "no views"),
        (lambda store: store.add(text=["x"], embedding_tensor="image"), "in no other"),
        (lambda store: store.delete(row_ids=[0]), "name documents by ids"),
        (lambda store: store.delete(query="SELECT *"), "no query language"),
        (lambda store: store.update_embedding(row_ids=[0]), "name documents by ids"),
        (lambda store: store.update_embedding(embedding_source_tensor="metadata"), "text is embedded"),
        (lambda store: store.search(embedding_data="x", return_tql=True), "no query language"),
        (lambda store: store.checkout(create=True), "no branches"),
    ],
)
def test_what_is_not_there_says_so(store, call, message):
    with pytest.raises(CapabilityError, match=message):
        call(store)
    store.checkout("main")
    assert len(store) == 5
