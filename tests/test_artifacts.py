"""A saved layer comes back bit by bit or not at all; versions, the active one, and the way back."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory.artifacts import FORMAT, LayerArchive, LayerInfo, decode_layer, encode_layer
from deepmemory.errors import ArtifactError, NewerFormatError, StorageError
from deepmemory.state import FolderState, MemoryState
from deepmemory.transform import Layer, QueryMemory, unit_rows


def make_layer(seed: int = 0, dimensions: int = 8) -> Layer:
    """A layer with every part that a layer can have."""
    random = np.random.default_rng(seed)
    queries = unit_rows(random.normal(size=(5, dimensions)).astype(np.float32))
    documents = unit_rows(random.normal(size=(3, dimensions)).astype(np.float32))
    memory = QueryMemory.build(
        queries,
        np.array([0, 1, 2, 3, 4]),
        np.array([0, 1, 2, 0, 1]),
        np.ones(5, dtype=np.float32),
        threshold=0.25,
        gain=0.5,
    )
    return Layer(
        dimensions=dimensions,
        matrix=random.normal(size=(dimensions, dimensions)).astype(np.float32),
        document_ids=("a", "b/ü", "c"),
        document_vectors=documents,
        prior=0.05,
        memory=memory,
    )


def same(first: Layer, second: Layer) -> bool:
    one, other = first.to_arrays(), second.to_arrays()
    return list(one) == list(other) and all(
        one[key].dtype == other[key].dtype and one[key].tobytes() == other[key].tobytes() for key in one
    )


def save(archive: LayerArchive, layer: Layer | None = None, **changes) -> str:
    given = {"embedder": {"name": "words"}, "data_hash": "ab", "report": {"active": True}} | changes
    return archive.save(layer or make_layer(), **given).name


@pytest.fixture
def archive() -> LayerArchive:
    return LayerArchive(MemoryState())


def test_a_layer_comes_back_bit_by_bit_with_all_that_is_known_of_it(tmp_path):
    layer = make_layer()
    report = {"reason": "a gain of 3.2 points", "trained": {"ndcg@10": 0.1 + 0.2}, "interval": [0.01, 0.05]}
    embedder = {"name": "words", "dimensions": 8, "probe": "AAAA"}
    name = LayerArchive(FolderState(tmp_path)).save(layer, embedder=embedder, data_hash="ab", report=report).name
    saved = LayerArchive(FolderState(tmp_path)).load(name)
    assert same(saved.layer, layer)
    assert saved.layer.document_ids == ("a", "b/ü", "c")
    assert (saved.info.name, saved.info.dimensions, saved.info.distance) == ("v1", 8, "cosine")
    assert (saved.info.embedder, saved.info.data_hash, saved.info.report) == (embedder, "ab", report)
    queries = np.random.default_rng(1).normal(size=(4, 8))
    assert np.array_equal(saved.layer.transform(queries), layer.transform(queries))
    assert np.array_equal(saved.layer.bonus(queries), layer.bonus(queries))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_any_layer_survives_encoding(seed, dimensions):
    layer = make_layer(seed, dimensions)
    info = LayerInfo("v1", dimensions, "cosine", None, "", {})
    data = encode_layer(layer, info)
    assert data == encode_layer(layer, info)
    assert same(decode_layer(data, "it").layer, layer)


def test_the_identity_is_saved_like_any_layer(archive):
    assert archive.load(save(archive, Layer.identity(5))).layer.is_identity


def test_any_program_can_read_the_file(tmp_path):
    from safetensors import safe_open

    save(LayerArchive(FolderState(tmp_path)))
    with safe_open(tmp_path / "layers" / "v1.safetensors", "numpy") as file:
        header = json.loads(file.metadata()["deepmemory"])
        assert file.get_tensor("matrix").shape == (8, 8)
    assert header["format"] == FORMAT
    assert header["report"] == {"active": True}


def test_names_count_up_and_saving_activates_nothing(archive):
    assert archive.names() == []
    assert [save(archive) for _ in range(11)] == [f"v{number}" for number in range(1, 12)]
    assert archive.names() == [f"v{number}" for number in range(1, 12)]
    assert archive.active() is None


def test_an_unknown_name_is_answered_with_the_known_ones(archive):
    with pytest.raises(ArtifactError, match=r"no layer 'v1' in memory://; the layers are: none yet: train one"):
        archive.load("v1")
    save(archive)
    save(archive)
    for name in ("v3", "", "v01", "../v1", "V1", "latest"):
        with pytest.raises(ArtifactError, match="the layers are: v1, v2"):
            archive.activate(name)
    assert archive.active() is None


def test_activation_and_rollback_go_back_step_by_step(archive):
    for _ in range(3):
        save(archive)
    archive.activate("v1")
    archive.activate("v1")
    archive.activate("v3")
    archive.activate(None)
    archive.activate("v2")
    assert archive.active() == "v2"
    assert [archive.rollback() for _ in range(4)] == [None, "v3", "v1", None]
    with pytest.raises(ArtifactError, match="nothing to roll back to"):
        archive.rollback()
    archive.activate("v3")
    assert archive.rollback() is None


def test_rolling_back_goes_the_way_of_what_was_active_then(archive):
    for _ in range(3):
        save(archive)
    archive.activate("v1")
    archive.activate("v2")
    assert archive.rollback() == "v1"
    archive.activate("v3")
    assert archive.rollback() == "v1"
    assert archive.rollback() is None


def test_nothing_to_roll_back_to_at_first(archive):
    archive.activate(None)
    with pytest.raises(ArtifactError, match="nothing to roll back to"):
        archive.rollback()


def test_another_process_sees_what_is_active_at_once(tmp_path):
    ours, theirs = LayerArchive(FolderState(tmp_path)), LayerArchive(FolderState(tmp_path))
    save(ours)
    theirs.activate("v1")
    assert ours.active() == "v1"


@pytest.fixture
def damaged(tmp_path):
    """An archive of two layers, v1 active, and what damages v2's file."""
    archive = LayerArchive(FolderState(tmp_path))
    save(archive)
    save(archive)
    archive.activate("v1")
    return LayerArchive(FolderState(tmp_path)), tmp_path / "layers" / "v2.safetensors"


def refused(archive: LayerArchive) -> str:
    with pytest.raises(ArtifactError) as found:
        archive.load("v2")
    with pytest.raises(ArtifactError):
        archive.activate("v2")
    assert archive.active() == "v1"
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("kept", [0, 4, 8, 200, 0.5, 0.999])
def test_a_truncated_file_is_refused(damaged, kept):
    archive, path = damaged
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert "train again, or activate another layer" in refused(archive)


def test_every_altered_bit_of_the_arrays_is_found(damaged):
    archive, path = damaged
    data = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(data[:8], "little")
    for place in np.random.default_rng(0).integers(begin, len(data), 20).tolist():
        altered = bytearray(data)
        altered[place] ^= 1 << (place % 8)
        path.write_bytes(altered)
        assert "was altered: its checksum doesn't match" in refused(archive)


def test_an_altered_header_is_found(damaged):
    archive, path = damaged
    data = path.read_bytes()
    path.write_bytes(data.replace(b'\\"active\\": true', b'\\"active\\": null'))
    assert "was altered" in refused(archive)


@pytest.mark.parametrize("content", [b"", b"not a layer, but text of some length", b"\xff" * 64, bytes(64)])
def test_a_file_that_is_something_else_is_refused(damaged, content):
    archive, path = damaged
    path.write_bytes(content)
    assert "layer v2" in refused(archive)


def test_a_safetensors_file_of_others_is_refused(damaged):
    from safetensors.numpy import save_file

    archive, path = damaged
    save_file({"x": np.zeros(3)}, path)
    assert "is no layer saved by Deep Memory" in refused(archive)


def test_a_newer_format_says_to_upgrade(damaged):
    archive, path = damaged
    data = path.read_bytes()
    path.write_bytes(data.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(NewerFormatError, match=r"format 9; this one reads up to 1.*pip install --upgrade"):
        archive.load("v2")


def test_a_damaged_history_says_which_file(damaged):
    archive, _ = damaged
    state = FolderState(damaged[1].parent.parent)
    state.write("layers/active/00000001.json", b"{")
    with pytest.raises(ArtifactError, match=r"layers/active/00000001.json .* is damaged"):
        archive.active()


def test_a_layer_travels_as_one_file(tmp_path, archive):
    layer = make_layer(7)
    name = save(archive, layer)
    archive.export(name, tmp_path / "out" / "my layer.safetensors")
    other = LayerArchive(MemoryState())
    save(other)
    info = other.import_file(tmp_path / "out" / "my layer.safetensors")
    assert info.name == "v2"
    assert same(other.load("v2").layer, layer)
    assert other.load("v2").info.created == archive.load(name).info.created
    assert other.active() is None


def test_what_can_not_be_imported_or_exported_changes_nothing(tmp_path, archive):
    (tmp_path / "text").write_text("hello")
    for path, said in ((tmp_path / "missing", "No such file"), (tmp_path / "text", "cut off or no saved layer")):
        with pytest.raises(ArtifactError, match=said):
            archive.import_file(path)
    assert archive.names() == []
    save(archive)
    with pytest.raises(StorageError, match="can't write"):
        archive.export("v1", tmp_path / "text" / "inside")
    with pytest.raises(ArtifactError, match="no layer 'v2'"):
        archive.export("v2", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text"]


def test_layers_saved_and_activated_at_once_are_all_kept(tmp_path):
    archives = [LayerArchive(FolderState(tmp_path)) for _ in range(4)]
    start = threading.Barrier(4)
    names: list[str] = []

    def work(archive: LayerArchive, number: int) -> None:
        start.wait()
        for step in range(3):
            name = save(archive, make_layer(10 * number + step))
            names.append(name)
            archive.activate(name)

    threads = [threading.Thread(target=work, args=(archive, number)) for number, archive in enumerate(archives)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    archive = LayerArchive(FolderState(tmp_path))
    assert archive.names() == [f"v{number}" for number in range(1, 13)]
    assert sorted(names) == sorted(archive.names())
    way_back = [archive.active()] + [archive.rollback() for _ in range(12)]
    assert sorted(way_back[:-1]) == sorted(names)
    assert way_back[-1] is None


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_leaves_the_layers_that_there_were(tmp_path):
    archive = LayerArchive(FolderState(tmp_path))
    save(archive)
    archive.activate("v1")
    script = (
        "import resource, sys\n"
        "import numpy as np\n"
        "from deepmemory.artifacts import LayerArchive\n"
        "from deepmemory.errors import StorageError\n"
        "from deepmemory.state import FolderState\n"
        "from deepmemory.transform import Layer\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "layer = Layer(dimensions=64, matrix=np.ones((64, 64), dtype=np.float32))\n"
        "try:\n"
        "    LayerArchive(FolderState(sys.argv[1])).save(layer, embedder=None, data_hash='', report={})\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "v2.safetensors: File too large" in done.stdout
    assert archive.names() == ["v1"]
    assert LayerArchive(FolderState(tmp_path)).load("v1").info.name == archive.active()
