"""A store changes its embedding model: documents stay, queries find with the new one, and there is a way back."""

import json
import shutil

import numpy as np
import pytest
import spaces

import deepmemory
from deepmemory import (
    ArtifactError,
    CapabilityError,
    EmbedderMismatchError,
    InputError,
    NewerFormatError,
    ReadOnlyError,
    VectorStore,
)

OLD, NEW = spaces.model(48, 2, noise=0.25), spaces.model(32, 1)
TEXTS = spaces.texts(240)
IDS = [f"doc-{row}" for row in range(len(TEXTS))]


def questions(n: int, seed: int) -> tuple[list[str], list[list[tuple[str, float]]]]:
    """Some words of a document, and that document."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(TEXTS), n, replace=False).tolist()
    asked = [" ".join(random.permutation(TEXTS[row].split(": ")[1].split())[:4]) + f" {seed}" for row in rows]
    return asked, [[(IDS[row], 1.0)] for row in rows]


TRAIN, TEST = questions(80, 5), questions(60, 6)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A store that the old model filled, made once."""
    path = tmp_path_factory.mktemp("made") / "store"
    with VectorStore(path, embedder=OLD) as store:
        store.add(TEXTS, ids=IDS)
    return path


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


@pytest.fixture(scope="session")
def trained(made, tmp_path_factory):
    """The same with a layer that was trained for the old model's queries, and is active."""
    path = shutil.copytree(made, tmp_path_factory.mktemp("trained") / "store")
    with VectorStore(path, embedder=OLD) as store:
        store.deep_memory.train(*TRAIN, wait=True)
        store.deep_memory.set_model("v1")
    return path


@pytest.fixture
def with_layer(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "store")


def stored(store: VectorStore) -> dict[str, bytes]:
    return {id: vector.tobytes() for id, vector in store.backend.get_vectors(IDS).items()}


def recall(store: VectorStore, k: int = 10) -> float:
    hits = store.search_many(TEST[0], k=k)
    return float(
        np.mean([pairs[0][0] in {hit.id for hit in found} for pairs, found in zip(TEST[1], hits, strict=True)])
    )


def test_queries_move_to_the_new_model_and_documents_stay(folder):
    with VectorStore(folder, embedder=OLD) as store:
        before, vectors = recall(store), stored(store)
        result = deepmemory.migrate(
            store, NEW, pairs=150, queries=TRAIN[0], test_queries=TEST[0], test_relevance=TEST[1]
        )
        assert result.migrated, str(result)
        assert (result.documents, result.layer) == ("mapped", None)
        assert stored(store) == vectors
        after = recall(store)
        assert after > before
        assert store.summary()["embedder"] == NEW.__qualname__
        assert store.summary()["migrated_from"] == OLD.__qualname__
        assert store.embedder.embed_queries(["word1"]).shape == (1, 48)
    comparison = result.comparison
    assert (comparison.n_queries, comparison.of, comparison.held_out) == (60, 240, True)
    assert 150 <= comparison.n_documents <= 210
    assert comparison.lift.trained == comparison.mapped > comparison.lift.baseline
    assert comparison.mapped <= comparison.re_embedded
    assert json.loads(json.dumps(result.as_dict()))["map"]["n_pairs"] == 150
    assert "re-embedded" in str(result)
    with VectorStore(folder, embedder=NEW) as store:
        assert recall(store) == after
    record = json.loads((folder / "deepmemory.json").read_text())
    assert record["fingerprint"]["name"] == OLD.__qualname__
    assert record["migration"]["fingerprint"]["name"] == NEW.__qualname__


def test_documents_that_are_added_later_are_found_beside_the_others(folder):
    new_texts = spaces.texts(40, seed=77)
    with VectorStore(folder, embedder=OLD) as store:
        deepmemory.migrate(store, NEW, force=True)
        store.add(new_texts, ids=[f"late-{row}" for row in range(40)])
        late = store.backend.get_vectors(["late-3"])["late-3"]
        assert late.shape == (48,)
        hits = store.search_many(new_texts, k=5)
    found = [f"late-{row}" in {hit.id for hit in row_hits} for row, row_hits in enumerate(hits)]
    assert np.mean(found) > 0.8


def test_the_way_back(folder):
    with VectorStore(folder, embedder=OLD) as store:
        before = recall(store)
    with VectorStore(folder, embedder=OLD) as store:
        deepmemory.migrate(store, NEW, force=True)
        assert recall(store) != before
        assert deepmemory.rollback_migration(store) == OLD.__qualname__
    with VectorStore(folder, embedder=OLD) as store:
        assert recall(store) == before
    assert json.loads((folder / "deepmemory.json").read_text())["format"] == 1
    with pytest.raises(InputError, match="was not migrated"):
        deepmemory.rollback_migration(folder)


def test_deep_memory_is_trained_on_top_and_the_old_layer_comes_back(with_layer):
    with VectorStore(with_layer, embedder=OLD) as store:
        result = deepmemory.migrate(store, NEW, force=True)
        assert store.deep_memory.models() == ["v1", "v2"]
        assert store.deep_memory.get_model() == result.layer != "v1"
        assert "80 queries" in result.layer_note
        with pytest.raises(ArtifactError, match="trained with another embedder"):
            store.deep_memory.set_model("v1")
        with VectorStore(with_layer, embedder=NEW) as other:
            assert other.deep_memory.get_model() == result.layer
        deepmemory.rollback_migration(store)
        assert store.deep_memory.get_model() == "v1"


def test_a_process_that_still_embeds_with_the_old_model_leaves_the_new_layer_out(folder, caplog):
    with VectorStore(folder, embedder=OLD) as running:
        before = recall(running)
        with VectorStore(folder, embedder=OLD) as store:
            deepmemory.migrate(store, NEW, queries=TRAIN[0], relevance=TRAIN[1], force=True)
            store.deep_memory.set_model("v1")
        assert recall(running) == before
        assert running.layer is None
    assert "open the store anew" in caplog.text


def test_where_the_map_makes_the_same_vectors_the_layer_stays(with_layer):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(48, 48)))[0]

    def turned(texts: list[str]) -> np.ndarray:
        return OLD(texts) @ turn

    with VectorStore(with_layer, embedder=OLD) as store:
        before = recall(store)
        result = deepmemory.migrate(store, turned)
        assert result.map.chosen.kind == "rotation"
        assert (result.layer, store.deep_memory.get_model()) == ("v1", "v1")
        assert recall(store) == before


def test_a_new_model_that_finds_less_is_not_taken_unless_asked_for(folder):
    worse = spaces.model(40, 9, noise=6)
    before = {str(file): file.read_bytes() for file in folder.rglob("deepmemory.json")}
    with VectorStore(folder, embedder=OLD) as store:
        result = deepmemory.migrate(store, worse, queries=TRAIN[0], relevance=TRAIN[1])
        assert not result.migrated
        assert "finds less here than the old one" in result.reason
        assert "The store is as it was" in str(result)
        assert {str(file): file.read_bytes() for file in folder.rglob("deepmemory.json")} == before
        assert store.state.list("migrations") == ()
        assert deepmemory.migrate(store, worse, force=True).migrated


def test_a_dry_run_changes_nothing(folder):
    with VectorStore(folder, embedder=OLD, read_only=True) as store:
        result = deepmemory.migrate(store, NEW, dry_run=True)
        assert (result.migrated, result.reason, result.comparison) == (False, "this was a dry run", None)
        assert store.state.list("migrations") == ()
        with pytest.raises(ReadOnlyError, match="can't migrate"):
            deepmemory.migrate(store, NEW)
        with pytest.raises(ReadOnlyError, match="can't migrate"):
            deepmemory.rollback_migration(store)


def test_everything_wrong_is_said_at_once_and_nothing_is_changed(folder):
    with VectorStore(folder, embedder=OLD) as store:
        with pytest.raises(InputError) as caught:
            deepmemory.migrate(store, NEW, pairs=3, documents="old", relevance=[], queries=["a", 5], test_queries=["a"])
        said = " ".join(caught.value.problems)
        for part in ("pairs is a whole number of 50", "documents='old' needs", "queries[1]", "test_queries and test"):
            assert part in said
        with pytest.raises(InputError, match="makes the same vectors: there is nothing to migrate"):
            deepmemory.migrate(store, OLD)
        with pytest.raises(InputError, match=r"no document with the id 'gone'"):
            deepmemory.migrate(store, NEW, test_queries=["a"], test_relevance=[[("gone", 1.0)]])
        assert store.state.list("migrations") == ()
        deepmemory.migrate(store, NEW, force=True)
        with pytest.raises(InputError, match=r"were migrated to .* already: go back first"):
            deepmemory.migrate(store, spaces.model(24, 4))
    with pytest.raises(EmbedderMismatchError, match=r"were migrated from .* to .*; open it with .*--rollback"):
        VectorStore(folder, embedder=OLD)
    with VectorStore(folder) as store, pytest.raises(InputError, match="which is not named but given"):
        store.search("word1")


def test_a_store_on_a_hub_says_that_it_cant_be_migrated_yet():
    for change in (lambda path: deepmemory.migrate(path, NEW), deepmemory.rollback_migration):
        with pytest.raises(CapabilityError, match="can't be migrated yet"):
            change("hub://org/docs")


def test_too_few_documents_and_documents_without_texts():
    with VectorStore("memory://", embedder=OLD) as store:
        store.add(TEXTS[:20])
        with pytest.raises(InputError, match="there are 20 documents in memory://, and a map needs at least 50"):
            deepmemory.migrate(store, NEW)
    with VectorStore("memory://", embedder=OLD) as store:
        store.backend.upsert([deepmemory.Document(id, "", {}) for id in IDS], spaces.unit(OLD(TEXTS)))
        with pytest.raises(InputError, match="only 0 of the 240 documents"):
            deepmemory.migrate(store, NEW)
        assert deepmemory.migrate(store, NEW, texts=TEXTS[:100]).migrated
        assert store.search(TEXTS[150], k=5)


def test_a_store_of_given_vectors_gets_a_model_for_its_queries():
    with VectorStore("memory://", embedder=None) as store:
        store.add(TEXTS, ids=IDS, embeddings=OLD(TEXTS))
        result = deepmemory.migrate(store, NEW, test_queries=TEST[0], test_relevance=TEST[1])
        assert result.comparison.lift is None
        assert (result.old, result.documents) == (None, "mapped")
        assert recall(store) > 0.5


def test_what_is_damaged_is_told_and_what_is_newer_is_left_alone(folder):
    with VectorStore(folder, embedder=OLD) as store:
        deepmemory.migrate(store, NEW, force=True)
    file = folder / "migrations" / "m1.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-4] + b"else")
    with VectorStore(folder, embedder=NEW) as store, pytest.raises(ArtifactError, match=r"was altered.*--rollback"):
        store.search("word1")
    file.unlink()
    with VectorStore(folder, embedder=NEW) as store:
        with pytest.raises(ArtifactError, match="is missing; restore it, or go back"):
            store.search("word1")
        deepmemory.rollback_migration(store)
    record = json.loads((folder / "deepmemory.json").read_text())
    (folder / "deepmemory.json").write_text(json.dumps(record | {"format": 3}))
    with pytest.raises(NewerFormatError):
        VectorStore(folder)


def test_the_same_seed_gives_the_same_map(made, tmp_path):
    maps = []
    for name in ("one", "two"):
        with VectorStore(shutil.copytree(made, tmp_path / name), embedder=OLD) as store:
            deepmemory.migrate(store, NEW, pairs=120, seed=4, force=True)
            maps.append(store.embedder.embed_queries(TEST[0]).tobytes())
    assert maps[0] == maps[1]


def test_overwriting_begins_anew(folder):
    with VectorStore(folder, embedder=OLD) as store:
        deepmemory.migrate(store, NEW, force=True)
    with VectorStore(folder, embedder=OLD, overwrite=True) as store:
        assert store.summary()["migrated_from"] is None
        assert store.state.list("migrations") == ()
