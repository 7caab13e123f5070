"""What every backend must do, as tests: subclass `BackendContract` in a test module and pytest runs them all.

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend(self, tmp_path):
            with closing(MyBackend(tmp_path)) as backend:
                yield backend

        def reopened(self, backend):          # only where `capabilities.persistent`
            return MyBackend(backend.path)

What a backend declares that it can't do is skipped, with that reason.
"""
# ruff: noqa: D102  a test's name says what must hold

import json
import threading

import numpy as np
import pyarrow as pa
import pytest

from deepmemory.backends.base import Backend, Distance, Filter, Ranking, VectorArray
from deepmemory.backends.exact import ExactBackend
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError
from deepmemory.testing.backend_twins import DIMENSIONS, agree, change_both, compare, corpus

__all__ = ["BackendContract"]

AWKWARD_IDS = (
    "plain",
    "it's",
    '"quoted"',
    "back\\slash",
    "x' OR '1'='1",
    "https://example.org/a?b=c&d#e",
    "naïve 日本語 🦜",
    "nul\x00byte",
    "two\nlines",
    "per%cent_",
    "-- comment; DROP TABLE documents",
    " spaces ",
)


def _document(document_id: str, **metadata: object) -> Document:
    return Document(document_id, f"text of {document_id}", metadata)


def _ones(n: int) -> VectorArray:
    return np.ones((n, DIMENSIONS), dtype=np.float32)


class BackendContract:
    """The tests; a subclass provides `backend`, and `reopened` where the backend is persistent.

    Attributes:
        thousands: documents that are added, fetched and deleted by one call; a subclass may lower it for an engine that
            takes long, to no fewer than the backend divides into several requests.
    """

    thousands = 12_000

    @pytest.fixture
    def backend(self) -> Backend:
        """A new, empty collection."""
        raise NotImplementedError("a subclass of BackendContract has a fixture named backend")

    def reopened(self, backend: Backend) -> Backend:
        """The same collection, opened anew as another process would."""
        raise NotImplementedError("a persistent backend's contract test has a method named reopened")

    # Empty

    def test_an_empty_collection_answers_everything(self, backend: Backend) -> None:
        assert backend.dimensions is None
        assert backend.count() == 0
        assert backend.count({"a": 1}) == 0
        assert backend.get(["a"]) == [None]
        assert backend.get_vectors(["a"]) == {}
        assert list(backend.batches()) == []
        assert backend.delete() == 0
        assert backend.delete(ids=["a"], filter={"a": 1}) == 0
        assert [len(ranking) for ranking in backend.search(_ones(2), 3)] == [0, 0]
        backend.optimize()
        backend.drop()

    def test_adding_nothing_changes_nothing(self, backend: Backend) -> None:
        backend.upsert([], np.empty((0, DIMENSIONS), dtype=np.float32))
        assert backend.count() == 0

    # Documents

    def test_documents_come_back_as_they_were(self, backend: Backend) -> None:
        metadata = {
            "text": 'it\'s "so"',
            "zahl": 3,
            "share": 0.25,
            "yes": True,
            "none": None,
            "nested": {"list": [1, {"a": None}], "ünï.dotted key": "日本"},
        }
        document = Document("one", "line\nline\t\x00 🦜", metadata)
        vectors = np.linspace(-1, 1, DIMENSIONS, dtype=np.float32)[None]
        backend.upsert([document], vectors)
        assert backend.get(["one"]) == [document]
        np.testing.assert_array_equal(backend.get_vectors(["one"])["one"], vectors[0])
        assert backend.dimensions == DIMENSIONS

    def test_later_changes_to_what_was_passed_in_change_nothing(self, backend: Backend) -> None:
        metadata = {"tags": ["a"]}
        vectors = _ones(1)
        backend.upsert([Document("one", "text", metadata)], vectors)
        metadata["tags"].append("b")
        vectors[:] = 7
        found = backend.get(["one"])[0]
        assert found is not None
        assert found.metadata == {"tags": ["a"]}
        np.testing.assert_array_equal(backend.get_vectors(["one"])["one"], _ones(1)[0])

    def test_inputs_are_left_alone(self, backend: Backend) -> None:
        documents, vectors = corpus(20)
        backend.upsert(documents, vectors)
        before, queries = vectors.copy(), vectors[:9].copy()
        backend.search(queries, 3)
        backend.search(queries, 3, distance="dot")
        np.testing.assert_array_equal(vectors, before)
        np.testing.assert_array_equal(queries, before[:9])

    def test_documents_that_come_along_with_hits_are_the_stored_ones(self, backend: Backend) -> None:
        documents, vectors = corpus(20)
        backend.upsert(documents, vectors)
        for ranking in (*backend.search(vectors[:1], 5), *backend.search(vectors[:9], 5)):
            along = list(ranking.documents)
            assert [ranking.documents[id] for id in along] == backend.get(along)

    def test_an_existing_id_is_replaced(self, backend: Backend) -> None:
        backend.upsert([_document("a", v=1), _document("b", v=1)], np.eye(2, DIMENSIONS, dtype=np.float32))
        backend.upsert([_document("b", v=2), _document("c", v=2)], np.eye(2, DIMENSIONS, 4, dtype=np.float32))
        assert backend.count() == 3
        found = backend.get(["a", "b", "c"])
        assert [document.metadata["v"] for document in found if document] == [1, 2, 2]
        moved = np.eye(1, DIMENSIONS, 4, dtype=np.float32)
        assert backend.search(moved, 1)[0].ids == ("b",)
        assert backend.count({"v": 1}) == 1

    def test_get_keeps_the_order_asked_for(self, backend: Backend) -> None:
        documents, vectors = corpus(50)
        backend.upsert(documents, vectors)
        asked = ["d00030", "nothing", "d00002", "d00030"]
        assert [document.id if document else None for document in backend.get(asked)] == [
            "d00030",
            None,
            "d00002",
            "d00030",
        ]
        assert backend.get([]) == []
        assert backend.get_vectors([]) == {}

    def test_thousands_of_ids_at_once(self, backend: Backend) -> None:
        n = self.thousands
        documents, vectors = corpus(n)
        backend.upsert(documents, vectors)
        ids = [document.id for document in documents][::-1]
        assert backend.get(ids) == documents[::-1]
        found = backend.get_vectors([*ids, "nothing"])
        np.testing.assert_array_equal(np.stack([found[document.id] for document in documents]), vectors)
        assert len(found) == n
        assert backend.delete(ids=ids[100:]) == n - 100
        assert backend.count() == 100

    @pytest.mark.parametrize("awkward", AWKWARD_IDS)
    def test_any_string_is_an_id(self, backend: Backend, awkward: str) -> None:
        backend.upsert([_document(awkward), _document("other")], np.eye(2, DIMENSIONS, dtype=np.float32))
        assert backend.get([awkward]) == [_document(awkward)]
        assert backend.count({"id": awkward}) == 1
        assert list(backend.get_vectors([awkward])) == [awkward]
        backend.upsert([Document(awkward, "again")], _ones(1))
        assert backend.count() == 2
        assert backend.delete(ids=[awkward]) == 1
        assert backend.get([awkward, "other"]) == [None, _document("other")]

    def test_vectors_of_another_length_are_refused(self, backend: Backend) -> None:
        documents, vectors = corpus(3)
        backend.upsert(documents, vectors)
        with pytest.raises(InputError, match=r"8 dimensions.*of 9"):
            backend.upsert([_document("new")], np.ones((1, 9), dtype=np.float32))
        with pytest.raises(InputError, match=r"8 dimensions.*of 9"):
            backend.search(np.ones((1, 9), dtype=np.float32), 1)
        with pytest.raises(InputError, match="array"):
            backend.search(np.ones(8, dtype=np.float32), 1)
        assert backend.count() == 3

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"bytes", {1: "key"}])
    def test_metadata_that_is_no_json_is_refused_and_nothing_is_added(self, backend: Backend, value: object) -> None:
        with pytest.raises(InputError):
            backend.upsert([_document("good"), _document("bad", key=value)], _ones(2))
        assert backend.count() == 0

    # Deletion

    def test_delete_by_ids_by_filter_by_both_and_everything(self, backend: Backend) -> None:
        documents, vectors = corpus(30)
        backend.upsert(documents, vectors)
        assert backend.delete(ids=["d00000", "d00001", "nothing", "d00000"]) == 2
        assert backend.delete(ids=["d00002", "d00003"], filter={"parity": "even"}) == 1
        assert backend.get(["d00002", "d00003"]) == [None, documents[3]]
        assert backend.delete(filter={"third": 1}) == 9
        assert backend.delete(ids=[]) == 0
        assert backend.count() == 18
        assert backend.delete() == 18
        assert backend.count() == 0
        assert backend.dimensions == DIMENSIONS
        assert [len(ranking) for ranking in backend.search(vectors[:1], 3)] == [0]

    def test_what_was_deleted_is_found_no_more_and_can_return(self, backend: Backend) -> None:
        documents, vectors = corpus(10)
        backend.upsert(documents, vectors)
        backend.delete(ids=["d00004"])
        assert "d00004" not in backend.search(vectors[4:5], 10)[0].ids
        assert backend.get_vectors(["d00004"]) == {}
        backend.upsert(documents[4:5], vectors[4:5])
        assert backend.search(vectors[4:5], 1)[0].ids == ("d00004",)

    def test_after_drop_the_collection_is_as_new(self, backend: Backend) -> None:
        backend.upsert(*corpus(10))
        backend.drop()
        assert (backend.count(), backend.dimensions) == (0, None)
        backend.upsert([_document("a")], np.ones((1, 3), dtype=np.float32))
        assert backend.dimensions == 3
        assert backend.search(np.ones((1, 3), dtype=np.float32), 5)[0].ids == ("a",)

    # Filters

    @pytest.mark.parametrize(
        ("condition", "expected"),
        [
            ({}, "abcdefgh"),
            ({"lang": "en"}, "ab"),
            ({"lang": ["en", "fr"]}, "abc"),
            ({"lang": []}, ""),
            ({"lang": "EN"}, ""),
            ({"lang": "en", "n": 1}, "a"),
            ({"n": 1}, "ac"),
            ({"n": 1.0}, "ac"),
            ({"n": "1"}, "d"),
            ({"n": True}, "e"),
            ({"n": [2, "1"]}, "bd"),
            ({"n": 0.5}, "f"),
            ({"n": None}, "g"),
            ({"missing": None}, ""),
            ({"where": {"page": 1, "part": "x"}}, "a"),
            ({"where": {"part": "x", "page": 1.0}}, "a"),
            ({"where": {"page": 1}}, ""),
            ({"where": [["a", 1]]}, "b"),
            ({'it\'s "odd".key\\': "it's; -- '"}, "h"),
            ({'it\'s "odd".key\\': "x' OR '1'='1"}, ""),
            ({"日本": "🦜"}, "h"),
            ({"id": "a"}, "a"),
            ({"id": ["a", "c", "zz"], "lang": ["en", "fr"]}, "ac"),
            ({"id": 1}, ""),
            ({"id": []}, ""),
        ],
    )
    def test_filters_compare_json_values(self, backend: Backend, condition: Filter, expected: str) -> None:
        documents = [
            _document("a", lang="en", n=1, where={"page": 1, "part": "x"}),
            _document("b", lang="en", n=2, where=["a", 1]),
            _document("c", lang="fr", n=1.0),
            _document("d", n="1"),
            _document("e", n=True),
            _document("f", n=0.5),
            _document("g", n=None),
            _document("h", **{'it\'s "odd".key\\': "it's; -- '", "日本": "🦜"}),
        ]
        vectors = np.eye(8, DIMENSIONS, dtype=np.float32)
        backend.upsert(documents, vectors)
        assert backend.count(condition) == len(expected)
        assert set(backend.get_vectors("abcdefgh", filter=condition)) == set(expected)
        assert set(backend.search(_ones(1), 8, filter=condition)[0].ids) == set(expected)
        assert backend.delete(filter=condition) == len(expected)
        assert backend.count() == 8 - len(expected)

    @pytest.mark.parametrize("condition", ["lang = 'en'", {"n": float("nan")}, {1: "a"}, {"a": object()}])
    def test_a_filter_that_is_no_json_is_refused(self, backend: Backend, condition: Filter) -> None:
        backend.upsert(*corpus(5))
        for ask in (backend.count, lambda f: backend.search(_ones(1), 1, filter=f), lambda f: backend.delete(filter=f)):
            with pytest.raises(InputError):
                ask(condition)
        assert backend.count() == 5

    # Search

    @pytest.mark.parametrize("distance", ["cosine", "dot"])
    @pytest.mark.parametrize("n_queries", [1, 3, 40])
    def test_search_agrees_with_the_definition(self, backend: Backend, distance: Distance, n_queries: int) -> None:
        documents, vectors = corpus(300)
        vectors *= np.linspace(0.5, 2, 300, dtype=np.float32)[:, None]  # lengths matter to the dot product only
        queries = 3 * corpus(n_queries, seed=1)[1]
        backend.upsert(documents, vectors)
        scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
        if distance == "cosine":
            scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
        best = np.argsort(-scores, axis=1)[:, :12]
        expected = [
            Ranking(tuple(documents[i].id for i in row), scores[q, row].astype(np.float32))
            for q, row in enumerate(best)
        ]
        found = backend.search(queries, 12, distance=distance)
        agree(found, expected)
        assert all(ranking.scores.dtype == np.float32 for ranking in found)
        assert all((np.diff(ranking.scores) <= 0).all() for ranking in found)

    @pytest.mark.parametrize("n_queries", [2, 20])
    def test_a_filter_leaves_k_hits_where_k_pass(self, backend: Backend, n_queries: int) -> None:
        documents, vectors = corpus(400)
        backend.upsert(documents, vectors)
        queries = corpus(n_queries, seed=2)[1]
        for ranking in backend.search(queries, 10, filter={"n": list(range(390, 400)), "parity": ["even", "odd"]}):
            assert sorted(ranking.ids) == [f"d{i:05}" for i in range(390, 400)]
        for ranking in backend.search(queries, 10, filter={"n": [5, 6, 7]}):
            assert sorted(ranking.ids) == ["d00005", "d00006", "d00007"]

    @pytest.mark.parametrize("n_queries", [1, 10])
    def test_k_larger_than_the_collection_and_k_of_zero(self, backend: Backend, n_queries: int) -> None:
        documents, vectors = corpus(20)
        backend.upsert(documents, vectors)
        assert [len(ranking) for ranking in backend.search(vectors[:n_queries], 1_000)] == [20] * n_queries
        assert [len(ranking) for ranking in backend.search(vectors[:n_queries], 0)] == [0] * n_queries
        assert backend.search(vectors[:0], 3) == []

    @pytest.mark.parametrize("n_queries", [1, 10])
    def test_equal_scores_are_in_the_order_of_ids(self, backend: Backend, n_queries: int) -> None:
        documents, vectors = corpus(40)
        vectors[:] = vectors[0]
        backend.upsert(documents[::-1], vectors)
        for ranking in backend.search(vectors[:n_queries], 40):
            assert list(ranking.ids) == [document.id for document in documents]

    @pytest.mark.parametrize("n_queries", [1, 10])
    def test_a_vector_of_zeros_has_no_direction(self, backend: Backend, n_queries: int) -> None:
        documents, vectors = corpus(12)
        vectors[3] = 0
        backend.upsert(documents, vectors)
        queries = vectors[np.arange(n_queries) % 3]
        assert all(len(r) == 11 and "d00003" not in r.ids for r in backend.search(queries, 12))
        assert all(len(ranking) == 12 for ranking in backend.search(queries, 12, distance="dot"))
        queries[0] = 0
        assert [len(ranking) for ranking in backend.search(queries, 12)] == [0] + [11] * (n_queries - 1)

    # Words

    def test_words_rank_documents(self, backend: Backend) -> None:
        self._needs(backend, "full_text")
        texts = {"a": "the zebra crosses the road", "b": "zebra zebra zebra", "c": "a road", "d": "nothing of the kind"}
        backend.upsert([Document(i, text, {"i": i}) for i, text in texts.items()], _ones(4))
        zebra, road, none = backend.search_text(["Zebra", "road crossing", "giraffe"], 10)
        assert set(zebra.ids) == {"a", "b"}
        assert road.ids[0] == "a"
        assert set(road.ids) == {"a", "c"}
        assert len(none) == 0
        assert (np.diff(zebra.scores) <= 0).all()
        assert zebra.scores.dtype == np.float32
        assert backend.search_text(["zebra"], 10, filter={"i": "b"})[0].ids == ("b",)
        assert backend.search_text([], 10) == []
        assert len(backend.search_text(["zebra"], 0)[0]) == 0

    def test_words_of_new_changed_and_deleted_documents(self, backend: Backend) -> None:
        self._needs(backend, "full_text")
        backend.upsert([Document("a", "an aardvark")], _ones(1))
        assert backend.search_text(["aardvark"], 5)[0].ids == ("a",)
        backend.upsert([Document("b", "another aardvark"), Document("a", "a badger now")], _ones(2))
        assert backend.search_text(["aardvark"], 5)[0].ids == ("b",)
        assert backend.search_text(["badger"], 5)[0].ids == ("a",)
        backend.delete(ids=["b"])
        assert len(backend.search_text(["aardvark"], 5)[0]) == 0

    def test_any_string_is_a_query_by_words(self, backend: Backend) -> None:
        self._needs(backend, "full_text")
        backend.upsert([Document("a", "an aardvark")], _ones(1))
        queries = ["", " ", '"', "'", '"an aardvark"', "AND OR NOT (", "*:*", "\\", "\x00", "🦜", "the", "a" * 10_000]
        for query, ranking in zip(queries, backend.search_text(queries, 5), strict=True):
            assert ranking.ids == (("a",) if "aardvark" in query else ())

    def test_without_full_text_search_it_says_so(self, backend: Backend) -> None:
        if backend.capabilities.full_text:
            pytest.skip("this backend has full-text search")
        with pytest.raises(CapabilityError, match="full-text"):
            backend.search_text(["zebra"], 3)

    # Everything

    @pytest.mark.parametrize("text", [False, True])
    def test_batches_hold_each_document_once(self, backend: Backend, text: bool) -> None:
        documents, vectors = corpus(100)
        backend.upsert(documents[:60], vectors[:60])
        backend.upsert(documents[50:], vectors[50:])
        backend.delete(ids=["d00099"])
        batches = list(backend.batches(batch_size=16, text=text))
        assert all(batch.num_rows <= 16 for batch in batches)
        assert batches[0].schema.field("vector").type == pa.list_(pa.float32(), DIMENSIONS)
        rows = {row["id"]: row for batch in batches for row in batch.to_pylist()}
        assert sum(batch.num_rows for batch in batches) == 99
        assert sorted(rows) == [document.id for document in documents[:99]]
        for document, vector in zip(documents[:99], vectors, strict=False):
            row = rows[document.id]
            np.testing.assert_array_equal(np.array(row["vector"], dtype=np.float32), vector)
            assert set(row) == ({"id", "vector", "text", "metadata"} if text else {"id", "vector"})
            if text:
                assert row["text"] == document.text
                assert json.loads(row["metadata"]) == document.metadata

    def test_batches_are_a_picture_of_one_moment(self, backend: Backend) -> None:
        self._needs(backend, "snapshots")
        documents, vectors = corpus(64)
        backend.upsert(documents, vectors)
        stream = backend.batches(batch_size=8)
        seen = next(stream).num_rows
        backend.delete()
        backend.upsert([_document("new")], _ones(1))
        assert seen + sum(batch.num_rows for batch in stream) == 64

    def test_batches_hold_what_stays_once_while_others_write(self, backend: Backend) -> None:
        documents, vectors = corpus(64)
        backend.upsert(documents, vectors)
        stream = backend.batches(batch_size=8)
        seen = next(stream).column("id").to_pylist()
        gone = [document.id for document in documents if document.id not in seen][::3]
        backend.delete(ids=gone)
        backend.upsert([_document("a-new-one"), _document("z-new-one")], _ones(2))
        seen += [id for batch in stream for id in batch.column("id").to_pylist()]
        assert len(seen) == len(set(seen))
        assert {document.id for document in documents} - set(gone) <= set(seen)

    def test_optimize_changes_no_answer(self, backend: Backend) -> None:
        documents, vectors = corpus(120)
        for start in range(0, 120, 30):
            backend.upsert(documents[start : start + 30], vectors[start : start + 30])
        backend.delete(filter={"third": 0})
        before = backend.search(vectors[:10], 7)
        backend.optimize()
        agree(backend.search(vectors[:10], 7), before)
        assert backend.count() == 80

    def test_random_histories_agree_with_the_exact_backend(self, backend: Backend) -> None:
        oracle = ExactBackend()
        rng = np.random.default_rng(7)
        for step in range(60):
            change_both(rng, step, backend, oracle)
            if step % 3 == 0:
                compare(rng, backend, oracle)

    # Threads and processes

    def test_threads_may_do_everything_at_once(self, backend: Backend) -> None:
        documents, vectors = corpus(200)
        backend.upsert(documents[:1], vectors[:1])
        failures: list[BaseException] = []

        def work(worker: int) -> None:
            try:
                for start in range(worker * 50, worker * 50 + 50, 10):
                    backend.upsert(documents[start : start + 10], vectors[start : start + 10])
                    assert backend.search(vectors[start : start + 1], 1)[0].ids == (documents[start].id,)
                    assert backend.get([documents[start].id]) == [documents[start]]
                    backend.delete(ids=[documents[start + 9].id])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert backend.count() == 180

    def test_another_opening_sees_every_change_at_once(self, backend: Backend) -> None:
        self._needs(backend, "persistent")
        other = self.reopened(backend)
        documents, vectors = corpus(10)
        backend.upsert(documents, vectors)
        assert other.count() == 10
        assert other.dimensions == DIMENSIONS
        assert other.get_vectors(["d00001"]).keys() == {"d00001"}
        other.delete(ids=["d00001"])
        assert backend.get(["d00001"]) == [None]
        assert backend.get_vectors(["d00001"]) == {}
        assert "d00001" not in backend.search(vectors[1:2], 10)[0].ids
        other.upsert(documents[1:2], vectors[2:3])
        np.testing.assert_array_equal(backend.get_vectors(["d00001"])["d00001"], vectors[2])

    def test_a_collection_dropped_and_made_again_elsewhere(self, backend: Backend) -> None:
        self._needs(backend, "persistent")
        backend.upsert(*corpus(10))
        other = self.reopened(backend)
        other.drop()
        assert backend.count() == 0
        assert [len(ranking) for ranking in backend.search(_ones(1), 3)] == [0]
        other.upsert([_document("new")], np.ones((1, 5), dtype=np.float32))
        assert backend.dimensions == 5
        assert backend.get(["new", "d00001"]) == [_document("new"), None]
        other.drop()
        backend.upsert([_document("newer")], _ones(1))
        assert other.get(["newer"]) == [_document("newer")]

    def _needs(self, backend: Backend, capability: str) -> None:
        if not getattr(backend.capabilities, capability):
            pytest.skip(f"this backend declares that it is not capable of {capability!r}")
