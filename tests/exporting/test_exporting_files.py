"""What is written where, what is said of it, and what is refused before anything is written."""

import builtins
import json
from dataclasses import replace

import numpy as np
import pytest
from scenes import make

from deepmemory import ArtifactError, InputError, MissingExtraError
from deepmemory.artifacts import LayerArchive, LayerInfo, SavedLayer, decode_layer
from deepmemory.cli.ending import run
from deepmemory.embedders import Embedder, Fingerprint
from deepmemory.exporting import FORMATS, SqlTarget, export_layer, export_saved
from deepmemory.memory import LocalDeepMemory
from deepmemory.store import VectorStore
from deepmemory.transform import Layer, unit_rows

ENDINGS = {
    "numpy": [".py", ".npz"],
    "onnx": [".onnx"],
    "sql": [".sql", ".uninstall.sql"],
    "typescript": [".ts", ".safetensors"],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEEPMEMORY_STORE", raising=False)
    pytest.importorskip("onnx", reason="the onnx extra is not installed")
    return tmp_path


@pytest.fixture
def store(here):
    """The path of a store with a layer that is active and one that isn't."""
    with VectorStore("deepmemory-store", embedder=None) as store:
        store.add(["text"], ids=["d0"], embeddings=[[1.0] + [0.0] * 11])
        for scene in (make(1), make(2, words=0.02)):
            embedder = {"name": "words\nof 12", "dimensions": 12, "probe": ""}
            LayerArchive(store.state).save(scene.layer, embedder=embedder, data_hash="", report={})
        LayerArchive(store.state).activate("v1")
    return "deepmemory-store"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ending", ["", "first", "last"])
def test_endings_are_added_where_they_are_missing(here, format, ending):
    endings = ENDINGS[format]
    name = "layer" + {"": "", "first": endings[0], "last": endings[-1]}[ending]
    written = export_layer(make(0).layer, f"new folder/{name}", format)
    assert [str(file) for file in written.files] == [f"new folder/layer{ending}" for ending in endings]
    assert {path.name for path in (here / "new folder").iterdir()} == {f"layer{ending}" for ending in endings}


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_layer_gives_the_same_bytes_and_is_not_changed(here, format):
    scene = make(3, dtype=np.float16)
    before = scene.layer.matrix.copy()
    written = [export_layer(make(3, dtype=np.float16).layer, folder / "layer", format) for folder in (here / "a", here)]
    for one, other in zip(*(each.files for each in written), strict=True):
        if one.suffix != ".safetensors":  # which says when the layer was saved
            assert one.read_bytes() == other.read_bytes()
    assert scene.layer.matrix.dtype == np.float16
    np.testing.assert_array_equal(scene.layer.matrix, before)


@pytest.mark.parametrize("format", FORMATS)
def test_the_first_comment_says_what_it_is_and_what_it_lacks(store, format):
    with VectorStore(store, embedder=None, read_only=True) as opened:
        written = opened.deep_memory.export("layer", format, model="v2")
    head = written.files[0].read_bytes()
    if format == "onnx":
        import onnx

        head = onnx.load(written.files[0]).doc_string.encode()
    text = head.decode()
    assert "Deep Memory: layer v2, trained 20" in text
    assert "Embedder: words of 12." in text
    assert [note for note in written.notes if "words" in note]
    for note in written.notes:
        assert note in text


def test_the_typescript_weights_are_the_layers_own_file(store):
    with VectorStore(store, embedder=None) as opened:
        _, weights = opened.deep_memory.export("layer", "typescript").files
        opened.deep_memory.export_model("v1", "saved")
        assert weights.read_bytes() == (weights.parent / "saved").read_bytes()
        assert opened.deep_memory.import_model(weights) == "v3"
    assert decode_layer(weights.read_bytes(), "it").info.name == "v1"


@pytest.mark.parametrize(("format", "comment"), [("numpy", "# "), ("sql", "-- "), ("typescript", "// ")])
def test_names_in_a_layers_file_do_not_become_code(format, comment):
    for newline in ("\n", "\r", "\u2028", "\x0c"):
        names = {
            "name": f"v1{newline}evil()",
            "created": f"{newline}evil()",
            "embedder": {"name": f"x{newline}evil();"},
        }
        info = LayerInfo(dimensions=12, distance="cosine", data_hash="", report={}, **names)
        saved = SavedLayer(info, make(10).layer)
        text = export_saved(saved, "layer", format, overwrite=True).files[0].read_bytes().decode()
        said = [line for line in text.splitlines() if "evil" in line]
        assert len(said) >= 2
        assert all(line.startswith((comment, "COMMENT ON")) for line in said)


@pytest.mark.parametrize("format", FORMATS)
def test_the_identity_says_that_it_changes_nothing(format):
    assert (
        export_layer(Layer.identity(4), "layer", format).notes[0].startswith("Applied to any query it changes nothing")
    )


def test_nothing_is_overwritten_unless_asked(here):
    for name in ("layer.py", "layer.npz"):
        (here / name).write_text("mine")
    with pytest.raises(InputError) as error:
        export_layer(make(4).layer, "layer", "numpy")
    assert len(error.value.problems) == 2
    assert "layer.py is there already; choose another name, or replace it" in error.value.problems[0]
    assert (here / "layer.npz").read_text() == "mine"
    export_layer(make(4).layer, "layer", "numpy", overwrite=True)
    assert (here / "layer.npz").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("path", "format", "options", "message"),
    [
        ("layer", "tensorflow", {}, "a layer is exported as numpy, onnx, sql, typescript; 'tensorflow' is none"),
        ("layer", "onnx", {"sql": SqlTarget()}, "names of tables and functions are for the format sql"),
        ("my-layer", "numpy", {}, "must be one that import takes, such as layer_v1; found my-layer"),
        ("class", "numpy", {}, "must be one that import takes"),
        (".sql", "sql", {}, "needs the name of a file"),
        ("folder", "onnx", {}, "can't write folder.onnx: it is a folder"),
        ("layer", "sql", {"sql": SqlTarget(name="")}, "the function's name should be a name without zero bytes"),
        ("layer", "sql", {"sql": SqlTarget(name="n" * 60)}, "the longest name should have at most 63 bytes"),
        ("layer", "sql", {"sql": SqlTarget(table="a.b.c")}, "named as table, schema.table or"),
        ("layer", "sql", {"sql": SqlTarget(table='"a')}, "named as table, schema.table or"),
        ("layer", "sql", {"sql": SqlTarget(table="a.")}, "named as table, schema.table or"),
    ],
)
def test_what_can_not_be_written_is_refused(here, path, format, options, message):
    (here / "folder.onnx").mkdir()
    with pytest.raises(InputError, match=message):
        export_layer(make(5).layer, path, format, **options)
    assert {path.name for path in here.iterdir()} == {"folder.onnx"}


def test_all_that_is_wrong_with_names_is_said_at_once():
    target = SqlTarget(schema="s\0", table="a.b.c", id="", vector="v" * 64)
    wide = Layer.identity(20_000).with_document_ids([])
    with pytest.raises(InputError) as error:
        export_layer(replace(wide, document_ids=("a\0b",), prior=0.1), "layer", "sql", sql=target)
    assert len(error.value.problems) == 6


def test_without_the_extra_it_is_named(monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name == "onnx":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepmemory\[onnx\]'"):
        export_layer(make(6).layer, "layer", "onnx")


def test_an_exported_module_refuses_what_is_no_query(imported):
    module = imported(export_layer(make(7).layer, "layer", "numpy").files[0])
    with pytest.raises(ValueError, match=r"vector of 12 dimensions; its shape is \(3,\)"):
        module.transform([1, 2, 3])
    with pytest.raises(ValueError, match="NaN or infinity"):
        module.transform([np.nan] * 12)
    with pytest.raises(ValueError, match="one query at a time; 2 were given"):
        module.bonus(np.ones((2, 12)))
    assert module.transform(np.ones(12, np.float16)).shape == (12,)
    assert module.rerank(np.ones(12), []) == []
    assert module.search(np.ones(12), 3, lambda vector, k: [], lambda ids: {}) == []


def test_no_active_layer_and_none_of_that_name(store):
    with VectorStore(store, embedder=None) as opened:
        with pytest.raises(ArtifactError, match="there is no layer 'v9'"):
            opened.deep_memory.export("layer", "numpy", model="v9")
        opened.deep_memory.set_model(None)
        with pytest.raises(ArtifactError, match=r"no layer of .* is active; name the one to export, of: v1, v2"):
            opened.deep_memory.export("layer", "numpy")
    with (
        VectorStore("memory://", embedder=None) as empty,
        pytest.raises(ArtifactError, match="of: none yet: train one"),
    ):
        empty.deep_memory.export("layer", "numpy")


class NewModel(Embedder):
    """Queries come from a model of 20 dimensions and are mapped to the 12 of the documents."""

    name = "new"
    query_map = np.eye(20, 12, dtype=np.float32), np.zeros(12, np.float32)

    def embed_documents(self, texts, *, progress=None):
        return unit_rows(np.array([[len(text), *range(11)] for text in texts], np.float32))

    def embed_queries(self, texts, *, progress=None):
        return self.embed_documents(texts)


def test_a_store_whose_queries_are_mapped_exports_the_map_with_layers_behind_it(here, imported):
    embedder, scene = NewModel(), make(8)
    with VectorStore("deepmemory-store", embedder=embedder) as store:
        store.add(["text"], ids=["d0"])
        ours, before = Fingerprint.of(embedder), Fingerprint("old", 12, np.eye(12, dtype=np.float32)[0])
        for fingerprint in (ours, before):
            LayerArchive(store.state).save(scene.layer, embedder=fingerprint.as_dict(), data_hash="", report={})
        memory = LocalDeepMemory(store.backend, embedder, store.state)
        behind, older = (imported(memory.export(f"of_{v}", "numpy", model=v).files[0]) for v in ("v1", "v2"))
    query = np.random.default_rng(8).standard_normal(20)
    np.testing.assert_allclose(behind.transform(query), scene.layer.transform(query[:12]), atol=1e-5)
    with pytest.raises(ValueError, match="vector of 12 dimensions"):
        older.transform(query)


def test_a_map_that_does_not_lead_to_the_layer_is_refused():
    crooked = np.ones((20, 5), np.float32), np.ones(5, np.float32)
    with pytest.raises(InputError, match=r"lead to the 12 dimensions .* shape \(20, 5\) and its offset \(5,\)"):
        export_layer(make(9).layer, "layer", "numpy", query_map=crooked)
    straight = np.ones((20, 12), np.float32), np.ones(12, np.float32)
    with pytest.raises(InputError, match="older version"):
        export_layer(make(9, memory="plain").layer, "layer", "numpy", query_map=straight)


@pytest.fixture
def deepmemory(capsys):
    def command(*words):
        capsys.readouterr()
        return run(list(words)), *capsys.readouterr()

    return command


def test_the_command(store, deepmemory, here):
    code, out, err = deepmemory("export", "--format", "numpy", "--out", "layer")
    assert (code, out, err) == (0, "Written: layer.py, layer.npz\n", "")
    code, out, err = deepmemory("export", "--format", "numpy", "--out", "layer")
    assert (code, out) == (1, "")
    assert "layer.py is there already" in err
    assert deepmemory("export", "v2", "--format", "numpy", "--out", "layer", "--force")[0] == 0
    assert "layer v2" in (here / "layer.py").read_text()
    code, out, _ = deepmemory(
        "export", "--format", "sql", "--out", "l", "--table", "docs.chunks", "--id", "key", "--json"
    )
    assert json.loads(out)["files"] == ["l.sql", "l.uninstall.sql"]
    script = (here / "l.sql").read_text()
    assert '"docs"."chunks"' in script
    assert 'd."key"' in script


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onnx", "--table", "chunks"], "are for --format sql, and it is onnx"),
        (["--format", "sql", "--vector", "vec"], "name it by --table"),
        (["v7", "--format", "onnx"], "there is no layer 'v7'"),
    ],
)
def test_the_command_refuses(store, deepmemory, here, words, message):
    before = set(here.iterdir())
    code, _, err = deepmemory("export", *words, "--out", "layer")
    assert code == 1
    assert message in err
    assert set(here.iterdir()) == before
