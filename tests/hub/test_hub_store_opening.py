"""A dataset on a hub is made, found, begun anew and read; its embedder is here or there; blobs are kept beside it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synonyms

from deepmemory import (
    CapabilityError,
    EmbedderMismatchError,
    InputError,
    NotAStoreError,
    ReadOnlyError,
    VectorStore,
)
from deepmemory.ingest import ingest

# Opening


def test_a_dataset_is_made_found_and_begun_anew(path) -> None:
    with pytest.raises(NotAStoreError, match=r"create one there with VectorStore"):
        VectorStore(path, create=False)
    with pytest.raises(NotAStoreError, match="no dataset"):
        VectorStore(path, read_only=True)
    with VectorStore(path, synonyms.word_vectors, distance="dot") as store:
        store.add(["term1", "term2"], ids=["a", "b"])
        store.state.write("ingest/x.json", b"1")
    with VectorStore(path.upper().replace("HUB", "hub"), synonyms.word_vectors) as store:
        assert (store.distance, store.count()) == ("dot", 2)
    with pytest.raises(InputError, match="compares vectors by dot"):
        VectorStore(path, synonyms.word_vectors, distance="cosine")
    with pytest.raises(EmbedderMismatchError, match="another embedder"):
        VectorStore(path, synonyms.other_vectors)
    with VectorStore(path, synonyms.other_vectors, overwrite=True) as store:
        assert (store.distance, store.count(), store.state.list("ingest")) == ("cosine", 0, ())
        store.add(["term1"])


def test_read_only_is_honoured_before_anything_is_sent(path, tokens) -> None:
    with VectorStore(path, synonyms.word_vectors) as store:
        store.add(["term1"], ids=["a"])
    with VectorStore(path, synonyms.word_vectors, read_only=True) as store:
        ask = store.deep_memory
        for change in (
            lambda: store.add(["term2"]),
            lambda: store.delete(["a"]),
            store.optimize,
            lambda: store.backend.upsert(store.get(["a"]), np.ones((1, 32), np.float32)),
            store.backend.delete,
            store.backend.drop,
            lambda: store.state.write("ingest/x", b""),
            lambda: store.state.write_new("ingest/x", b""),
            lambda: store.state.delete("ingest/x"),
            lambda: ask.train(["a"], [[("a", 1.0)]]),
            lambda: ask.cancel("0" * 24),
            lambda: ask.delete("0" * 24),
            lambda: ask.set_model(None),
            ask.rollback,
            lambda: ask.import_model("nowhere"),
        ):
            with pytest.raises(ReadOnlyError, match="opened for reading"):
                change()
        assert store.search("term1", k=1)[0].id == "a"
    with pytest.raises(InputError, match="read_only or overwrite"):
        VectorStore(path, read_only=True, overwrite=True)


def test_what_is_given_to_open_it_is_checked(path, monkeypatch) -> None:
    with pytest.raises(InputError, match="storage_options"):
        VectorStore(path, storage_options={"region": "x"})
    with pytest.raises(InputError, match="tensor_db"):
        VectorStore(path, runtime={"gpu": True})
    with pytest.raises(InputError, match="unknown embedder"):
        VectorStore(path, "nonsense")
    with pytest.raises(InputError, match="cosine"):
        VectorStore(path, distance="l2")  # type: ignore[arg-type]
    with pytest.raises(NotAStoreError):
        VectorStore(path, create=False)  # nothing of that made it


def test_the_guide_works_as_written(capsys) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "hub.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(guide.partition("## From Python")[2].partition("```python\n")[2].partition("```")[0], names)
    with names["store"] as store:
        assert [hit.id for hit in names["hits"]] == names["ids"][:1]
        assert names["job"].state == "completed"
        assert store.embedder.name == "local"


# Embedders


def test_vectors_that_are_always_given(path) -> None:
    with VectorStore(path, embedder=None) as store:
        store.add(["a", "b"], ids=["a", "b"], embeddings=[[1.0, 0.0], [0.0, 1.0]])
        assert store.search(embedding=[1.0, 0.1], k=1)[0].id == "a"
        with pytest.raises(InputError, match="no embedder"):
            store.search("a")
        with pytest.raises(InputError, match="no embedder"):
            store.add(["c"])
        with pytest.raises(InputError, match="2 dimensions"):
            store.search(embedding=[1.0, 0.1, 0.2])
    with VectorStore(path) as store:
        assert store.embedder is None
    with pytest.raises(EmbedderMismatchError, match="2 dimensions"):
        VectorStore(path, synonyms.word_vectors)


def test_a_function_embeds_here_and_is_told_from_another(path, tmp_path) -> None:
    with VectorStore(path, synonyms.word_vectors) as store:
        store.add(["term1", "term2"], ids=["a", "b"])
        assert store.search("term1", k=1)[0].id == "a"
        np.testing.assert_array_equal(
            store.backend.get_vectors(["a"])["a"],
            (synonyms.word_vectors(["term1"]) / np.linalg.norm(synonyms.word_vectors(["term1"]))).astype(np.float32)[0],
        )
        calls: list[list[str]] = []

        def counting(texts):
            calls.append(list(texts))
            return synonyms.word_vectors(texts)

    with VectorStore(path, counting) as store:
        for _ in range(3):
            store.search("term1 term9")
        assert calls.count(["term1 term9"]) == 1  # kept in the user's cache
    with VectorStore(path) as store:  # it can't be made again from its name
        with pytest.raises(InputError, match="open it with"):
            store.search("term1")
        assert store.count() == 2


@pytest.fixture(scope="module")
def embedded_there(module_environment) -> Iterator[VectorStore]:
    with VectorStore("hub://acme/embedded-there") as store:
        store.add(
            ["Ice is frozen water.", "A cat sleeps all day.", "Bread is baked in an oven."], ids=["ice", "cat", "bread"]
        )
        yield store


def test_by_default_the_hub_embeds(embedded_there: VectorStore, tmp_path) -> None:
    hits = embedded_there.search("What does water become when it freezes?", k=2)
    assert hits[0].id == "ice"
    embedder = embedded_there.embedder
    assert embedder is not None
    assert (embedder.name, embedded_there.summary()["embedder"]) == ("local", "local")
    query = embedder.embed_queries(["What does water become when it freezes?"])
    assert query.shape == (1, 384) == (1, embedder.dimensions)
    by_vector = embedded_there.search(embedding=query[0], k=2)
    assert [hit.id for hit in by_vector] == [hit.id for hit in hits]
    assert embedder.embed_documents([]).shape == (0, 384)
    with VectorStore(tmp_path / "local", "local") as here:
        here.add(["Ice is frozen water."], ids=["ice"])
        np.testing.assert_allclose(
            here.backend.get_vectors(["ice"])["ice"], embedded_there.backend.get_vectors(["ice"])["ice"], atol=1e-6
        )


def test_a_client_needs_no_model_where_the_hub_has_one(embedded_there: VectorStore, monkeypatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torch" else found(name, *more)
    )
    for embedder in ({}, {"embedder": "local"}):
        with VectorStore("hub://acme/embedded-there", **embedder) as store:  # type: ignore[arg-type]
            assert store.search("Which animal rests?", k=1)[0].id == "cat"


def test_another_embedder_than_the_hubs_is_refused(embedded_there: VectorStore) -> None:
    with pytest.raises(EmbedderMismatchError, match="local"):
        VectorStore("hub://acme/embedded-there", synonyms.word_vectors)


def test_what_the_hub_embeds_is_trained_and_evaluated_by_texts_alone(embedded_there: VectorStore) -> None:
    queries = ["What is ice?", "What do cats do?", "How is bread made?"]
    relevance = [[("ice", 1.0)], [("cat", 1.0)], [("bread", 1.0)]]
    job = embedded_there.deep_memory.status(
        embedded_there.deep_memory.train(queries, relevance, wait=True), verbose=False
    )
    assert job.state == "completed"
    assert job.results["active"] is False  # three queries are too few
    evaluation = embedded_there.deep_memory.evaluate(relevance, queries, verbose=False, model=job.results["layer"])
    assert evaluation["without model"]["recall@3"] == 1.0
    info = embedded_there.deep_memory.model_info(job.results["layer"])
    assert info.embedder is not None
    assert info.embedder["name"] == "local"


# What is kept beside the documents


def test_ingestion_keeps_a_dataset_in_step(path, tmp_path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    for number in range(5):
        (pages / f"page{number}.md").write_text(f"# Page {number}\n\nterm{number} and term{number + 5}\n")
    with VectorStore(path, synonyms.word_vectors) as store:
        assert ingest(pages, store).chunks_added == 5
        assert ingest(pages, store).chunks_unchanged == 5
        (pages / "page0.md").write_text("# Page 0\n\nterm20\n")
        (pages / "page1.md").unlink()
        report = ingest(pages, store)
        assert (report.chunks_updated, report.chunks_removed, store.count()) == (1, 1, 4)
        assert len(store.state.list("ingest")) == 1


def test_blobs_are_kept_below_one_folder_alone(path) -> None:
    with VectorStore(path, embedder=None) as store:
        state = store.state
        assert state.is_empty()
        assert state.read("ingest/a.json") is None
        assert state.write_new("ingest/a.json", b"\x00\xff") is True
        assert state.write_new("ingest/a.json", b"other") is False
        assert state.read("ingest/a.json") == b"\x00\xff"
        state.write("ingest/a.json", b"")
        assert state.read("ingest/a.json") == b""
        assert state.list("ingest") == ("ingest/a.json",)
        assert state.list("layers") == state.list() == ()
        assert state.delete("ingest/a.json") is True
        assert state.delete("ingest/a.json") is False
        for name in ("layers/v1.safetensors", "deepmemory.json", "ingest"):
            with pytest.raises(CapabilityError, match="ingest/"):
                state.write(name, b"")
        with pytest.raises(InputError, match="name"):
            state.write("ingest/../layers/v1", b"")
