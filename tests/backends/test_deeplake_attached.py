"""Datasets of Deep Lake 4 that others made: read as they are, and never changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deepmemory.backends import Backend
from deepmemory.backends.attaching import Asked, engine_of
from deepmemory.backends.exact import ExactBackend
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError, ReadOnlyError, StorageError
from deepmemory.testing.backend_contract import BackendContract
from deepmemory.testing.backend_twins import DIMENSIONS, agree, corpus
from deepmemory.testing.filled_elsewhere import FilledElsewhere

deeplake = pytest.importorskip("deeplake", reason="the deeplake extra is not installed")


def attached(path: Path, **asked) -> Backend:
    engine = engine_of(str(path))
    layout = engine.recognise(str(path), Asked(**{"collection": "", **asked}))
    return engine.open_attached(str(path), layout, read_only=True, storage_options=None)


def langchain_dataset(path: Path, dimensions: int = DIMENSIONS):
    """What langchain-deeplake's DeeplakeVectorStore makes, which is not installed here."""
    types = deeplake.types
    schema = {"ids": types.Text(), "embeddings": types.Embedding(dimensions), "metadata": types.Dict()}
    return deeplake.create(str(path), schema={**schema, "documents": types.Text()})


class Chunks(FilledElsewhere):
    """Metadata is JSON text, for Deep Lake's own dictionaries lose nulls."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def fill(self, documents, vectors) -> None:
        if self.exists():
            dataset = deeplake.open(str(self.path))
        else:
            types = deeplake.types
            columns = {"key": types.Text(), "body": types.Text(), "extra": types.Text()}
            dataset = deeplake.create(str(self.path), schema={**columns, "v": types.Embedding(vectors.shape[1])})
        delete(dataset, "key", {document.id for document in documents})
        dataset.append(
            {
                "key": [document.id for document in documents],
                "body": [document.text for document in documents],
                "extra": [json.dumps(document.metadata) for document in documents],
                "v": list(np.asarray(vectors, np.float32)),
            }
        )
        dataset.commit()

    def remove(self, ids) -> None:
        dataset = deeplake.open(str(self.path))
        delete(dataset, "key", set(ids))
        dataset.commit()

    def forget(self) -> None:
        shutil.rmtree(self.path)

    def exists(self) -> bool:
        return self.path.exists()

    def attach(self) -> Backend:
        return attached(self.path, id="key", text="body", metadata_json="extra", metadata=())


def delete(dataset, column: str, ids: set[str]) -> None:
    known = dataset[column][:] if len(dataset) else []
    for row in sorted((row for row, id in enumerate(known) if id in ids), reverse=True):
        dataset.delete(row)


class TestAttached(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        return Chunks(tmp_path / "dataset")

    def reopened(self, backend: Backend) -> Backend:
        return Chunks(backend.path)


def filled(path: Path, n: int = 60):
    """A dataset as LangChain writes it, and the same documents in the exact backend."""
    documents, vectors = corpus(n)
    metadata = [
        {"lang": ["en", "fr"][i % 2], "page": i % 5, "share": i / 4, "draft": i % 3 == 0, "sub": {"n": [1, i % 2]}}
        for i in range(n)
    ]
    dataset = langchain_dataset(path)
    dataset.append(
        {
            "ids": [document.id for document in documents],
            "documents": [document.text for document in documents],
            "metadata": metadata,
            "embeddings": list(vectors),
        }
    )
    dataset.commit()
    oracle = ExactBackend()
    oracle.upsert([Document(d.id, d.text, m) for d, m in zip(documents, metadata, strict=True)], vectors)
    return dataset, oracle


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_langchains_dataset_is_recognised_and_read_as_it_is(tmp_path: Path) -> None:
    _, oracle = filled(tmp_path / "dataset")
    before = contents(tmp_path)
    layout = engine_of(str(tmp_path / "dataset")).recognise(f"deeplake://{tmp_path / 'dataset'}", Asked(""))
    assert (layout.id, layout.text, layout.vector, layout.metadata) == ("ids", "documents", "embeddings", ())
    assert (layout.metadata_json, layout.distance) == ("metadata", "cosine")
    backend = attached(tmp_path / "dataset")
    ids = [f"d{i:05}" for i in range(60)]
    assert backend.get(ids) == oracle.get(ids)
    queries = corpus(12, seed=3)[1]
    for condition in (
        None,
        {"lang": "fr"},
        {"page": [1, 3.0], "draft": True},
        {"share": 0.25},
        {"sub": {"n": [1, 0]}},
        {"lang": ["en", "fr"], "id": ids[:5]},
        {"nothing": 1},
    ):
        assert backend.count(condition) == oracle.count(condition)
        for n in (1, 12):
            agree(backend.search(queries[:n], 7, filter=condition), oracle.search(queries[:n], 7, filter=condition))
    assert contents(tmp_path) == before


def test_llamaindex_dataset_and_one_of_plain_columns(tmp_path: Path) -> None:
    types = deeplake.types
    # What llama-index-vector-stores-deeplake 0.6 makes, which is not installed here.
    columns = {"text": types.Text("inverted"), "metadata": types.Dict(), "id": types.Text()}
    llama = deeplake.create(str(tmp_path / "llama"), schema={**columns, "embedding": types.Embedding(4)})
    llama.append({"text": ["a"], "metadata": [{"k": "v"}], "id": ["one"], "embedding": [np.ones(4, np.float32)]})
    llama.commit()
    assert attached(tmp_path / "llama").get(["one"]) == [Document("one", "a", {"k": "v"})]
    columns = {"pk": types.Int64(), "title": types.Text(), "score": types.Float64(), "flag": types.Bool()}
    plain = deeplake.create(str(tmp_path / "plain"), schema={**columns, "emb": types.Embedding(4)})
    rows = {"pk": [1, 2, 3], "title": ["a", None, "c"], "score": [0.5, 1.0, 2.0], "flag": [True, False, True]}
    plain.append({**rows, "emb": [np.ones(4, np.float32), np.eye(4, dtype=np.float32)[0], None]})
    plain.commit()
    backend = attached(tmp_path / "plain")
    assert backend.get(["1", "2", "3"]) == [
        Document("1", "a", {"score": 0.5, "flag": True}),
        Document("2", "", {"score": 1.0, "flag": False}),
        None,
    ]
    assert (backend.count(), backend.left_out, backend.count({"flag": True})) == (2, 1, 1)


def test_a_large_dataset_is_searched_through_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 20_000
    vectors = corpus(n)[1]
    dataset = langchain_dataset(tmp_path / "dataset")
    rows = {"ids": [str(i) for i in range(n)], "documents": [""] * n, "metadata": [{}] * n, "embeddings": vectors}
    dataset.append(rows)
    dataset.commit()
    backend = attached(tmp_path / "dataset")
    queries = corpus(5, seed=1)[1]
    by_index = backend.search(queries, 10)
    exact = backend.search(np.concatenate([queries, queries]), 10)[:5]
    shared = [len(set(one.ids) & set(other.ids)) for one, other in zip(by_index, exact, strict=True)]
    assert sum(shared) >= 48
    for one, other in zip(by_index, exact, strict=True):
        known = dict(zip(other.ids, other.scores, strict=True))
        for id, score in zip(one.ids, one.scores, strict=True):
            assert known.get(id, score) == pytest.approx(score, abs=1e-6)
    assert len(backend.search(np.zeros((1, DIMENSIONS), np.float32), 10)[0]) == 0


def test_all_that_is_wrong_is_said(tmp_path: Path) -> None:
    dataset, _ = filled(tmp_path / "dataset", 5)
    with pytest.raises(InputError) as caught:
        attached(tmp_path / "dataset", collection="t", id="nope", vector="documents", namespace="s")
    said = "\n".join(caught.value.problems)
    for part in ("no tables: leave out table=", "leave out schema=", "no column 'nope'", "'documents' is of text"):
        assert part in said
    with pytest.raises(StorageError, match=r"there is no Deep Lake dataset at .*none"):
        engine_of("deeplake://x").recognise(f"deeplake://{tmp_path}/none", Asked(""))
    dataset.append({"ids": ["d00001"], "documents": [""], "metadata": [{}], "embeddings": [np.ones(DIMENSIONS)]})
    dataset.commit()
    with pytest.raises(InputError, match="such as 'd00001' 2 times"):
        attached(tmp_path / "dataset")


def test_what_others_change_is_seen_and_what_they_remove_is_said(tmp_path: Path) -> None:
    dataset, _ = filled(tmp_path / "dataset", 5)
    backend = attached(tmp_path / "dataset")
    dataset.append({"ids": ["x"], "documents": ["new"], "metadata": [{}], "embeddings": [np.ones(DIMENSIONS)]})
    dataset.commit()
    assert backend.count() == 6
    assert backend.search(np.ones((1, DIMENSIONS), np.float32), 1)[0].ids == ("x",)
    dataset.remove_column("documents")
    dataset.commit()
    with pytest.raises(StorageError, match="has no column documents any more"):
        backend.count()
    shutil.rmtree(tmp_path / "dataset")
    with pytest.raises(StorageError, match="dataset"):
        backend.count()


def test_nothing_is_written(tmp_path: Path) -> None:
    filled(tmp_path / "dataset", 5)
    backend = attached(tmp_path / "dataset")
    documents, vectors = corpus(2)
    for change in (lambda: backend.upsert(documents, vectors), backend.delete, backend.optimize, backend.drop):
        with pytest.raises(ReadOnlyError, match=r"the Deep Lake dataset .* is attached for reading only"):
            change()
    engine = engine_of(str(tmp_path / "dataset"))
    layout = engine.recognise(str(tmp_path / "dataset"), Asked(""))
    with pytest.raises(CapabilityError, match="for reading only"):
        engine.open_attached(str(tmp_path / "dataset"), layout, read_only=False, storage_options=None)


def test_without_the_client_the_command_to_install_it_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "deeplake", None)
    with pytest.raises(ImportError, match=r"pip install 'deepmemory\[deeplake\]'"):
        engine_of("deeplake://x").recognise(f"deeplake://{tmp_path}", Asked(""))
