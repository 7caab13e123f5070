"""The script in a real PostgreSQL: through the index, replaced while in use, taken out again, and never in the way."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from scenes import make

from deepmemory.exporting import SqlTarget, export_layer
from deepmemory.transform import Layer

psycopg = pytest.importorskip("psycopg", reason="the postgres extra is not installed")


def as_text(vector):
    return "[" + ",".join(map(str, np.asarray(vector, np.float32))) + "]"


@pytest.fixture(scope="module")
def module_database(server) -> str:
    return server.database()


@pytest.fixture
def database(module_database) -> Iterator["psycopg.Connection"]:
    """A connection to a database in which every test finds an empty schema ``public``."""
    with psycopg.connect(module_database, autocommit=True) as connection:
        yield connection
        connection.execute("RESET ROLE")
        for schema in connection.execute(
            "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$'"
        ).fetchall():
            connection.execute(f"DROP SCHEMA {schema[0]} CASCADE")
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE EXTENSION vector")


@pytest.fixture
def scripts(tmp_path):
    """The scripts of a layer: to put it in, and to take it out."""

    def write(layer, **names):
        files = export_layer(layer, tmp_path / "layer", "sql", overwrite=True, sql=SqlTarget(**names)).files
        return tuple(file.read_bytes() for file in files)

    return write


def fill(connection, scene, *, ids=str, type="vector", table="chunks"):
    connection.execute(f"CREATE TABLE {table} (id {'text' if ids is str else 'bigint'} PRIMARY KEY, embedding {type})")
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for id, vector in zip(scene.ids, scene.documents, strict=True):
            copy.write_row((ids(id), as_text(vector)))


def things(connection):
    """What of the layer's there is in the database."""
    return connection.execute(
        "SELECT relname FROM pg_class WHERE relname LIKE 'deep%' "
        "UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'deep%'"
    ).fetchall()


def moved(connection, query):
    return json.loads(connection.execute("SELECT deep_memory(%s)", (as_text(query),)).fetchone()[0])


def agree(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("type", ["vector(12)", "halfvec(12)"])
def test_a_search_goes_through_the_hnsw_index_and_transforms_its_query_once(database, scripts, type):
    scene = make(1, n=400)
    fill(database, scene, type=type)
    operators = "halfvec_cosine_ops" if type.startswith("half") else "vector_cosine_ops"
    database.execute(f"CREATE INDEX by_cosine ON chunks USING hnsw (embedding {operators})")
    database.execute(scripts(scene.layer, table="chunks")[0])
    database.execute("SET enable_seqscan = off; SET track_functions = 'all'; SET plan_cache_mode = force_generic_plan")
    query = as_text(scene.queries[0])
    search = "SELECT id FROM chunks ORDER BY embedding <=> deep_memory({}) LIMIT 5"
    database.execute(f"PREPARE found (vector) AS {search.format('$1')}")
    ways = [search.format(f"'{query}'"), search.format(f"(SELECT '{query}'::vector)"), f"EXECUTE found ('{query}')"]
    for way in ways:
        assert "Index Scan using by_cosine" in str(database.execute(f"EXPLAIN {way}").fetchall())
    found = [id for (id,) in database.execute(search.format(f"'{query}'")).fetchall()]
    assert set(found) == {id for id, _ in scene.plain(scene.layer.transform(scene.queries[0]), 5)}
    with database.transaction():
        for way in (ways[0], ways[0].replace("deep_memory", "(SELECT deep_memory").replace(") LIMIT", ")) LIMIT")):
            for scans in ("SET LOCAL enable_indexscan = on", "SET LOCAL enable_indexscan = off"):
                database.execute(scans)
                before = _calls(database)
                assert len(database.execute(way).fetchall()) == 5
                assert _calls(database) - before == 1  # and not 400, where no index is used


def _calls(connection):
    """How often the transform was run in this session's latest transaction."""
    (calls,) = connection.execute(
        "SELECT coalesce(max(calls), 0) FROM pg_stat_xact_user_functions WHERE funcname = 'deep_memory'"
    ).fetchone()
    return calls


@pytest.mark.parametrize("prior", [-0.3, 0.05])
def test_more_hits_than_an_index_gives_by_default(database, scripts, prior):
    scene = make(2, n=300, prior=prior)
    fill(database, scene, type="vector(12)")
    database.execute("CREATE INDEX by_cosine ON chunks USING hnsw (embedding vector_cosine_ops)")
    database.execute(scripts(scene.layer, table="chunks")[0])
    database.execute("SET enable_seqscan = off")
    rankings, _ = scene.ranked(120)
    for query, expected in zip(scene.queries, rankings, strict=True):
        found = database.execute("SELECT id FROM deep_memory_search(%s, 120)", (as_text(query),)).fetchall()
        assert len(found) == 120
        assert len(set(expected) & {id for (id,) in found}) > 114  # the index itself is an approximation


def test_ids_that_are_numbers_and_vectors_of_half_precision(database, scripts):
    scene = make(3, memory="plain")
    numbers = {id: row for row, id in enumerate(scene.ids)}
    fill(database, scene, ids=numbers.get, type="halfvec(12)", table="public.half")
    database.execute(scripts(scene.by_row, table="public.half")[0])
    rankings, scores = scene.ranked(10)
    for query, expected, scored in zip(scene.queries, rankings, scores, strict=True):
        found = database.execute("SELECT id, score FROM deep_memory_search(%s, 10)", (as_text(query),)).fetchall()
        np.testing.assert_allclose([score for _, score in found], scored, atol=2e-3)  # halves have three digits
        assert len({id for id, _ in found} & {numbers[id] for id in expected}) >= 9


def test_documents_that_are_gone_or_have_no_vector_never_come_back(database, scripts):
    scene = make(4, prior=0.4)
    fill(database, scene)
    database.execute(scripts(scene.layer, table="chunks")[0])
    first = "SELECT id FROM deep_memory_search(%s, 60)"
    gone, empty = scene.layer.document_ids[:2]
    database.execute("DELETE FROM chunks WHERE id = %s", (gone,))
    database.execute("UPDATE chunks SET embedding = NULL WHERE id = %s", (empty,))
    found = {id for (id,) in database.execute(first, (as_text(scene.queries[0]),)).fetchall()}
    assert found == set(scene.ids) - {gone, empty}
    with pytest.raises(psycopg.errors.RaiseException, match="k should be 1 or more, and is 0"):
        database.execute("SELECT * FROM deep_memory_search(%s, 0)", (as_text(scene.queries[0]),))


def test_another_layer_takes_the_place_of_the_first_in_prepared_statements_too(database, scripts):
    one, two = make(5), make(6, matrix=False, memory=None, prior=0.0)
    query = as_text(one.queries[0])
    database.execute(scripts(one.layer)[0])
    database.execute("SET plan_cache_mode = force_generic_plan")
    database.execute(f"PREPARE transformed AS SELECT deep_memory('{query}')")
    agree(json.loads(database.execute("EXECUTE transformed").fetchone()[0]), one.layer.transform(one.queries[0]))
    database.execute(scripts(two.layer)[0])
    agree(json.loads(database.execute("EXECUTE transformed").fetchone()[0]), two.layer.transform(one.queries[0]))
    assert database.execute("SELECT count(*) FROM deep_memory_bonus(%s)", (query,)).fetchone() == (0,)


def test_searches_go_on_with_the_old_layer_until_the_new_one_is_whole(database, module_database, scripts):
    one, two = make(7), make(8)
    database.execute(scripts(one.layer)[0])
    before, after = scripts(two.layer)[0].split(b"CREATE OR REPLACE FUNCTION", 1)
    with psycopg.connect(module_database, autocommit=True) as installing:
        installing.execute(before)
        database.execute("SET lock_timeout = '5s'")
        agree(moved(database, one.queries[0]), one.layer.transform(one.queries[0]))
        installing.execute(b"CREATE OR REPLACE FUNCTION" + after)
    agree(moved(database, one.queries[0]), two.layer.transform(one.queries[0]))


def test_two_layers_side_by_side_in_a_schema_of_their_own_and_taken_out_again(database, scripts):
    one, two = make(9), make(10)
    put, take = scripts(one.layer)
    put_other, take_other = scripts(two.layer, schema='My "own" %s', name="deep $deep_memory$ it's")
    for _ in range(2):  # again is as once
        database.execute(put)
        database.execute(put_other)
    agree(moved(database, one.queries[0]), one.layer.transform(one.queries[0]))
    (other,) = database.execute(
        'SELECT "My ""own"" %%s"."deep $deep_memory$ it\'s"(%s)', (as_text(one.queries[0]),)
    ).fetchone()
    agree(json.loads(other), two.layer.transform(one.queries[0]))
    for script in (take, take_other, take):
        database.execute(script)
    assert things(database) == []


def test_a_role_that_may_only_read_searches_as_the_header_says(database, scripts):
    scene = make(11)
    fill(database, scene)
    script = scripts(scene.layer, table="chunks")[0]
    database.execute(script)
    (grant,) = [line for line in script.decode().splitlines() if line.startswith("-- Roles:")]
    database.execute(
        "DO $$ BEGIN CREATE ROLE reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$; "
        "GRANT USAGE ON SCHEMA public TO reader; GRANT SELECT ON chunks TO reader"
    )
    database.execute(grant.removeprefix("-- Roles:").replace("TO role", "TO reader"))
    database.execute("SET ROLE reader")
    found = database.execute("SELECT * FROM deep_memory_search(%s, 3)", (as_text(scene.queries[0]),)).fetchall()
    assert len(found) == 3


def test_pgvector_in_another_schema_and_any_search_path(database, scripts):
    scene = make(12)
    database.execute("DROP EXTENSION vector; CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    database.execute("SET search_path = public, extensions")
    fill(database, scene)
    database.execute("SET search_path = ''")
    database.execute(scripts(scene.layer, table="chunks")[0])
    query = as_text(scene.queries[0])
    found = database.execute("SELECT id FROM public.deep_memory_search(%s, 3)", (query,)).fetchall()
    assert [id for (id,) in found] == scene.ranked(3)[0][0]
    database.execute("RESET search_path")


WRONG = {
    "no pgvector": ("DROP EXTENSION vector CASCADE", {}, "pgvector is not installed .*CREATE EXTENSION vector"),
    "no table": ("SELECT", {"table": "elsewhere.chunks"}, "there is no table elsewhere.chunks; name the one"),
    "no column": (
        "SELECT",
        {"table": "chunks", "vector": "vec"},
        r'chunks should have the columns id \(--id\) and vec \(--vector\); it has: id, embedding, note',
    ),
    "no vectors": ("SELECT", {"table": "chunks", "vector": "note"}, "note of chunks should be a vector or halfvec"),
    "other dimensions": ("SELECT", {"table": "small"}, "embedding of small has 3 dimensions, and the layer takes 12"),
    "other ids": ("SELECT", {"table": "numbered"}, "have ids that the column id of the type bigint can't hold"),
    "a table of theirs": ("CREATE TABLE deep_memory_keys (key int)", {}, "deep_memory_keys is there already"),
    "a function of theirs": (
        "CREATE FUNCTION deep_memory(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        {},
        r"deep_memory\(text\) is there already and is not Deep Memory's; .*--name or --schema",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_can_not_be_is_said_in_a_sentence_and_nothing_is_left_behind(database, scripts, case):
    trouble, names, message = WRONG[case]
    database.execute(
        "CREATE TABLE chunks (id text, embedding vector(12), note text);"
        "CREATE TABLE small (id text, embedding vector(3)); CREATE TABLE numbered (id bigint, embedding vector)"
    )
    database.execute(trouble)
    before = things(database)
    with pytest.raises(psycopg.errors.RaiseException, match=message):
        database.execute(scripts(make(13).layer, **names)[0])
    database.execute("ROLLBACK")
    assert things(database) == before
    database.execute(scripts(make(13).layer, **names)[1])
    assert things(database) == before


def test_a_query_of_other_dimensions_and_none_at_all(database, scripts):
    database.execute(scripts(make(14).layer)[0])
    with pytest.raises(psycopg.errors.DataException, match="different vector dimensions 12 and 3"):
        database.execute("SELECT deep_memory('[1,2,3]')")
    assert database.execute("SELECT deep_memory(NULL)").fetchone() == (None,)


def test_the_identity_only_scales(database, scripts):
    database.execute(scripts(Layer.identity(2))[0])
    assert moved(database, [3, 4]) == pytest.approx([0.6, 0.8])
    assert moved(database, [0, 0]) == [0, 0]
