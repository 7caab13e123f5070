"""Every format gives what Deep Memory itself gives, on layers of every kind, to 1e-5."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from scenes import make, scenes

from deepmemory.exporting import SqlTarget, export_layer
from deepmemory.transform import unit_rows

TOLERANCE = 1e-5
quickly = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def exported(layer, format, **options):
    return export_layer(layer, Path(tempfile.mkdtemp()) / "layer", format, **options).files[0]


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def bonuses(scene):
    """What each labelled document gets for each query, by id, where it isn't 0."""
    added = scene.by_row.bonus(scene.queries)
    return [{id: value for id, value in zip(scene.layer.document_ids, row, strict=True) if value} for row in added]


def same_bonuses(found, expected):
    ids = found.keys() | expected.keys()
    close([found.get(id, 0) for id in ids], [expected.get(id, 0) for id in ids])


def same_ranking(found, ids, scores):
    """Hits as the exact ranking has them; such as score alike may come in another order."""
    close([score for _, score in found], scores)
    expected = dict(zip(ids, scores, strict=True))
    swapped = [id for (id, _), other in zip(found, ids, strict=True) if id != other]
    edge = scores[-1] + 2 * TOLERANCE
    assert all(id in expected or score <= edge for id, score in found if id in swapped)


@given(scenes)
@quickly
def test_numpy(imported, scene):
    module = imported(exported(scene.layer, "numpy"))
    close(module.transform(scene.queries), scene.layer.transform(scene.queries))
    rankings, scores = scene.ranked(8)
    for row, (query, added) in enumerate(zip(scene.queries, bonuses(scene), strict=True)):
        same_bonuses(module.bonus(query), added)
        found = module.search(query, 8, scene.plain, scene.vectors, scene.texts(row))
        same_ranking(found, rankings[row], scores[row])
        everything = scene.plain(module.transform(query), 1000)
        same_ranking(module.rerank(query, everything, 8, scene.texts(row)), rankings[row], scores[row])


@given(scenes)
@quickly
def test_onnx(scene):
    pytest.importorskip("onnx", reason="the onnx extra is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = runtime.InferenceSession(str(exported(scene.layer, "onnx")), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    found = dict(zip(outputs, session.run(None, {"query": scene.queries}), strict=True))
    assert found["transformed"].dtype == np.float32
    close(found["transformed"], scene.layer.transform(scene.queries))
    assert ("bonus" in found) == scene.layer.has_bonus
    if scene.layer.has_bonus:
        about = session.get_modelmeta().custom_metadata_map
        assert json.loads(about["deepmemory.document_ids"]) == list(scene.layer.document_ids)
        close(found["bonus"], scene.layer.bonus(scene.queries))


def test_typescript(node, tmp_path):
    rng = np.random.default_rng(5)
    kinds = [
        {"matrix": bool(rng.integers(2)), "prior": prior, "memory": memory, "distance": distance, "words": words}
        for memory in (None, "plain", "transformed")
        for prior, distance, words in ((-0.4, "cosine", 0.02), (0.0, "dot", 0.0), (0.05, "cosine", 0.0))
    ]
    cases, pictured = [], [make(seed, dim=3 + seed, **kind) for seed, kind in enumerate(kinds)]
    for place, scene in enumerate(pictured):
        export_layer(scene.layer, tmp_path / f"layer{place}", "typescript")
        texts = [list(scene.texts(row).items()) for row in range(len(scene.queries))]
        documents = {id: vector.tolist() for id, vector in zip(scene.ids, scene.documents, strict=True)}
        cases.append({"queries": scene.queries.tolist(), "documents": documents, "texts": texts})
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "run.mts").write_text(RUNNER)
    done = subprocess.run([node, "run.mts"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for scene, replies in zip(pictured, json.loads(done.stdout), strict=True):
        close([reply["moved"] for reply in replies], scene.layer.transform(scene.queries))
        rankings, scores = scene.ranked(8)
        for row, (reply, added) in enumerate(zip(replies, bonuses(scene), strict=True)):
            same_bonuses(dict(reply["bonus"]), added)
            same_ranking([(hit["id"], hit["score"]) for hit in reply["found"]], rankings[row], scores[row])
            same_ranking([(hit["id"], hit["score"]) for hit in reply["ranked"]], rankings[row], scores[row])


RUNNER = """
import { readFileSync } from "node:fs";
import { DeepMemory, type Hit } from "./layer0.ts";

const cases = JSON.parse(readFileSync("cases.json", "utf-8"));
const replies = [];
for (const [place, { queries, documents, texts }] of cases.entries()) {
  const memory = DeepMemory.of(readFileSync(`layer${place}.safetensors`));
  const norm = (v: number[]) => (memory.distance === "cosine" ? Math.hypot(...v) : 1);
  const nearest = async (query: Float32Array, k: number): Promise<Hit[]> =>
    Object.entries<number[]>(documents)
      .map(([id, v]) => ({ id, score: v.reduce((sum, x, i) => sum + x * query[i]!, 0) / norm(v) }))
      .sort((a, b) => b.score - a.score)
      .slice(0, k);
  const fetchVectors = async (ids: readonly string[]) =>
    new Map<string, number[]>(ids.map((id) => [id, documents[id]]));
  const answered = [];
  for (const [row, query] of queries.entries()) {
    const moved = memory.transform(query);
    const words = new Map<string, number>(texts[row]);
    answered.push({
      moved: [...moved],
      bonus: [...memory.bonus(query)],
      found: await memory.search(query, 8, nearest, fetchVectors, words),
      ranked: memory.rerank(query, await nearest(moved, 1000), 8, words),
    });
  }
  replies.push(answered);
}
console.log(JSON.stringify(replies));
"""


def as_text(vector):
    return "[" + ",".join(map(str, np.asarray(vector, np.float32))) + "]"


@given(scenes)
@quickly
def test_sql(server, scene):
    psycopg = pytest.importorskip("psycopg", reason="the postgres extra is not installed")
    from psycopg import sql

    table = sql.Identifier('Chunks; of "it\'s"')
    script = exported(scene.layer, "sql", sql=SqlTarget(table='"Chunks; of ""it\'s"""', id="the id", vector="vec%s"))
    with psycopg.connect(_database(server), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        connection.execute(
            sql.SQL(
                'CREATE TABLE {} ("the id" text PRIMARY KEY, "vec%s" vector, k text, moved text, found text)'
            ).format(table)
        )
        with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
            for id, vector in zip(scene.ids, scene.documents, strict=True):
                copy.write_row((id, as_text(vector), "k", "m", "f"))
        connection.execute(script.read_bytes())
        rankings, scores = scene.ranked(8)
        moved = scene.layer.transform(scene.queries)
        for row, (query, added) in enumerate(zip(scene.queries, bonuses(scene), strict=True)):
            given_ = (as_text(query),)
            close(json.loads(connection.execute("SELECT deep_memory(%s)", given_).fetchone()[0]), moved[row])
            same_bonuses(dict(connection.execute("SELECT * FROM deep_memory_bonus(%s)", given_).fetchall()), added)
            found = connection.execute("SELECT id, score FROM deep_memory_search(%s, 8)", given_).fetchall()
            if scene.layer.words is None:  # which PostgreSQL is told nothing of
                same_ranking(found, rankings[row], scores[row])


@pytest.mark.parametrize("matrix", [True, False])
def test_queries_of_another_model_go_through_its_map_in_every_format(server, imported, node_if_any, tmp_path, matrix):
    psycopg = pytest.importorskip("psycopg", reason="the postgres extra is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    scene, rng = make(31, matrix=matrix), np.random.default_rng(31)
    query_map = rng.standard_normal((20, 12)).astype(np.float32), rng.standard_normal(12).astype(np.float32)
    queries = rng.standard_normal((4, 20)).astype(np.float32)
    mapped = unit_rows(queries @ query_map[0] + query_map[1])
    moved, ids = scene.layer.transform(mapped), scene.layer.document_ids
    added = [{id: value for id, value in zip(ids, row, strict=True) if value} for row in scene.layer.bonus(mapped)]
    script, module, graph, code = (
        export_layer(scene.layer, tmp_path / "mapped", format, query_map=query_map).files[0]
        for format in ("sql", "numpy", "onnx", "typescript")
    )
    plain = imported(module)
    close(plain.transform(queries), moved)
    session = runtime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    transformed, bonus = session.run(None, {"query": queries})
    close(transformed, moved)
    close(bonus, scene.layer.bonus(mapped))
    with psycopg.connect(_database(server), autocommit=True) as connection:
        connection.execute(script.read_bytes())
        for query, expected, each in zip(queries, moved, added, strict=True):
            same_bonuses(plain.bonus(query), each)
            given_ = (as_text(query),)
            close(json.loads(connection.execute("SELECT deep_memory(%s)", given_).fetchone()[0]), expected)
            same_bonuses(dict(connection.execute("SELECT * FROM deep_memory_bonus(%s)", given_).fetchall()), each)
    if node_if_any:
        found = _in_node(node_if_any, code, queries)
        close([reply["moved"] for reply in found], moved)
        for reply, each in zip(found, added, strict=True):
            same_bonuses(dict(reply["bonus"]), each)


def _in_node(node, code, queries):
    program = f"""
import {{ readFileSync }} from "node:fs";
import {{ DeepMemory }} from "./{code.name}";
const memory = DeepMemory.of(readFileSync("{code.stem}.safetensors"));
const queries: number[][] = {json.dumps(queries.tolist())};
console.log(JSON.stringify(queries.map((q) => ({{ moved: [...memory.transform(q)], bonus: [...memory.bonus(q)] }}))));
"""
    (code.parent / "use.mts").write_text(program)
    done = subprocess.run([node, "use.mts"], cwd=code.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_databases: list[str] = []


def _database(server):
    """One database for all examples, so that each layer takes the place of the one before."""
    if not _databases:
        _databases.append(server.database())
    return _databases[0]


@pytest.mark.parametrize(("dim", "matrix"), [(384, True), (2100, False)])
def test_sizes_that_embedders_have(server, dim, matrix):
    psycopg = pytest.importorskip("psycopg", reason="the postgres extra is not installed")
    scene = make(dim, dim=dim, matrix=matrix)
    moved = scene.layer.transform(scene.queries)
    with psycopg.connect(_database(server), autocommit=True) as connection:
        connection.execute(exported(scene.layer, "sql").read_bytes())
        for query, expected, added in zip(scene.queries, moved, bonuses(scene), strict=True):
            given_ = (as_text(query),)
            close(json.loads(connection.execute("SELECT deep_memory(%s)", given_).fetchone()[0]), expected)
            same_bonuses(dict(connection.execute("SELECT * FROM deep_memory_bonus(%s)", given_).fetchall()), added)
