"""PostgreSQL tables that others made: read as they are, in every layout that is known, and never changed."""

import json
import logging
import secrets

import numpy as np
import psycopg
import pytest
from psycopg import sql

from deepmemory.backends import Backend
from deepmemory.backends.attaching import Asked
from deepmemory.backends.exact import ExactBackend
from deepmemory.backends.pgvector import open_attached, recognise
from deepmemory.data import Document
from deepmemory.errors import CapabilityError, InputError, ReadOnlyError, StorageError
from deepmemory.testing.backend_contract import BackendContract
from deepmemory.testing.backend_twins import agree, corpus
from deepmemory.testing.filled_elsewhere import FilledElsewhere


def as_vector(values) -> str:
    return json.dumps(np.asarray(values, dtype=float).tolist())


@pytest.fixture
def database(shared_database: str):
    """A connection of the owner's."""
    with psycopg.connect(shared_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def table(database) -> str:
    """The name of a table that isn't there yet: one that needs quoting, with SQL in it."""
    name = f'Chu"nks %s {secrets.token_hex(4)}; DROP TABLE x; --'
    yield name
    run(database, "DROP TABLE IF EXISTS {table}", name)


def run(database, statement: str, table: str, values=()):
    return database.execute(named(statement, table), values)


def named(statement: str, table: str) -> str:
    """The statement with the table's name, in which a % is no placeholder."""
    return statement.replace("{table}", sql.Identifier(table).as_string().replace("%", "%%"))


class Chunks(FilledElsewhere):
    """A table in columns that are called otherwise than ours."""

    def __init__(self, url: str, table: str, *, words: bool = False) -> None:
        super().__init__(full_text=words)
        self.url, self.table, self.words = url, table, words

    def fill(self, documents, vectors) -> None:
        rows = [
            (document.id, document.text, json.dumps(document.metadata), as_vector(vector))
            for document, vector in zip(documents, vectors, strict=True)
        ]
        with psycopg.connect(self.url) as connection:
            if not self.exists():
                columns = (
                    f'"Key of it" text PRIMARY KEY, "bo%%dy" text, extra jsonb, embedding vector({vectors.shape[1]})'
                )
                run(connection, f"CREATE TABLE {{table}} ({columns})", self.table)
                if self.words:
                    run(
                        connection, "CREATE INDEX ON {table} USING gin (to_tsvector('english', \"bo%%dy\"))", self.table
                    )
            statement = (
                'INSERT INTO {table} VALUES (%s, %s, %s, %s) ON CONFLICT ("Key of it") DO UPDATE SET '
                '"bo%%dy" = excluded."bo%%dy", extra = excluded.extra, embedding = excluded.embedding'
            )
            connection.cursor().executemany(named(statement, self.table), rows)

    def remove(self, ids) -> None:
        with psycopg.connect(self.url) as connection:
            run(connection, 'DELETE FROM {table} WHERE "Key of it" = ANY(%s)', self.table, [list(ids)])

    def forget(self) -> None:
        with psycopg.connect(self.url) as connection:
            run(connection, "DROP TABLE {table}", self.table)

    def exists(self) -> bool:
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT count(*) FROM pg_class WHERE relname = %s", [self.table]).fetchone()
        return bool(found[0])

    def attach(self) -> Backend:
        asked = Asked(self.table, id="Key of it", text="bo%dy", metadata_json="extra", metadata=())
        return open_attached(self.url, recognise(self.url, asked), read_only=True, storage_options=None)


NUL = pytest.mark.skip(reason="PostgreSQL's text and jsonb can't hold U+0000, so nobody's table has it")


class TestAttached(BackendContract):
    @pytest.fixture
    def backend(self, shared_database: str, table: str) -> Backend:
        return Chunks(shared_database, table)

    def reopened(self, backend: Backend) -> Backend:
        return Chunks(backend.url, backend.table)

    @pytest.mark.parametrize(
        "awkward", ["it's", "x' OR '1'='1", "back\\slash", "per%cent_", "naïve 日本語 🦜", " spaces "]
    )
    def test_any_string_is_an_id(self, backend: Backend, awkward: str) -> None:
        super().test_any_string_is_an_id(backend, awkward)

    test_documents_come_back_as_they_were = NUL(BackendContract.test_documents_come_back_as_they_were)


class TestWords:
    """The part of the contract that is about words, on a table with a full-text index of its own."""

    @pytest.fixture
    def backend(self, shared_database: str, table: str) -> Backend:
        return Chunks(shared_database, table, words=True)

    _needs = BackendContract._needs
    test_words_rank_documents = BackendContract.test_words_rank_documents
    test_words_of_new_changed_and_deleted_documents = BackendContract.test_words_of_new_changed_and_deleted_documents
    test_any_string_is_a_query_by_words = BackendContract.test_any_string_is_a_query_by_words


def attached(url: str, table: str, **asked) -> Backend:
    layout = recognise(url, Asked(table, **asked))
    return open_attached(url, layout, read_only=True, storage_options=None)


@pytest.fixture
def typed(database, table: str) -> ExactBackend:
    """A table with a column of each type that is metadata; the same documents in the exact backend."""
    run(
        database,
        "CREATE TABLE {table} (pk bigint PRIMARY KEY, content text, vec vector(8), lang varchar, page int, score real, "
        "draft bool, tags text[], blob bytea, search tsvector)",
        table,
    )
    documents, vectors = corpus(60)
    oracle, kept = ExactBackend(), []
    for i, (document, vector) in enumerate(zip(documents, vectors, strict=True)):
        row = {
            "lang": ["en", "fr", "de", None][i % 4],
            "page": i % 5,
            "score": i / 4,
            "draft": i % 2 == 0,
            "tags": ["a", str(i % 3)],
        }
        values = [1000 + i, document.text, as_vector(vector), *row.values(), b"x"]
        run(database, "INSERT INTO {table} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", table, values)
        kept.append(Document(str(1000 + i), document.text, {k: v for k, v in row.items() if v is not None}))
    oracle.upsert(kept, vectors)
    return oracle


CONDITIONS = [
    {"lang": "en"},
    {"lang": ["en", "fr", 7]},
    {"lang": None},
    {"page": 3},
    {"page": 3.0},
    {"page": [1, 2.5, "3", True, 10**30]},
    {"score": 1},
    {"score": [0.25, 3]},
    {"draft": True},
    {"draft": [False, "true", 0]},
    {"tags": [["a", "1"]]},
    {"tags": [["a", "1"]], "lang": "en", "page": [0, 1, 2]},
    {"nothing": 1},
    {"lang": []},
    {"lang": "nul\x00 and half \ud83e"},
    {"id": ["1003", "1004", "x", "01003", "1003.0", str(10**30)]},
    {"id": "1003", "lang": "nothing"},
    {"lang": "x' OR '1'='1"},
]


def test_columns_of_every_type_are_found_out_and_filtered_as_json(shared_database, table, typed) -> None:
    backend = attached(shared_database, table)
    ids = [str(1000 + i) for i in range(60)]
    assert backend.get([*ids, "7", "x"]) == [*typed.get(ids), None, None]
    queries = corpus(5, seed=3)[1]
    for condition in CONDITIONS:
        assert backend.count(condition) == typed.count(condition), condition
        assert backend.get_vectors(ids, filter=condition).keys() == typed.get_vectors(ids, filter=condition).keys()
        agree(backend.search(queries, 9, filter=condition), typed.search(queries, 9, filter=condition))
    (batch,) = backend.batches(text=True)
    assert {row["id"]: json.loads(row["metadata"]) for row in batch.to_pylist()} == {
        document.id: dict(document.metadata) for document in typed.get(ids)
    }


def test_nothing_can_be_changed_through_it(database, shared_database, table, typed) -> None:
    before = run(database, "SELECT t::text, xmin::text FROM {table} t ORDER BY pk", table).fetchall()
    backend = attached(shared_database, table)
    for change in (
        lambda: backend.upsert(*corpus(1)),
        lambda: backend.delete(ids=["1000"]),
        backend.delete,
        backend.optimize,
        backend.drop,
    ):
        with pytest.raises(ReadOnlyError, match="attached for reading only"):
            change()
    layout = recognise(shared_database, Asked(table))
    with pytest.raises(CapabilityError, match="attached for reading only"):
        open_attached(shared_database, layout, read_only=False, storage_options=None)
    assert run(database, "SELECT t::text, xmin::text FROM {table} t ORDER BY pk", table).fetchall() == before


def test_a_user_who_may_only_select_from_a_schema_of_another_owner(postgres) -> None:
    url = postgres.database()
    name = url.split("/")[3].partition("?")[0]
    for statement in (
        'CREATE ROLE "it\'s a reader" LOGIN' if not _has_role(postgres) else "SELECT 1",
        'CREATE SCHEMA "Their schema"',
        'CREATE TABLE "Their schema".chunks (id int PRIMARY KEY, body text, embedding vector(2))',
        'CREATE TABLE "Their schema".secret (id int PRIMARY KEY, body text, embedding vector(2))',
        "INSERT INTO \"Their schema\".chunks VALUES (1, 'one', '[1,0]'), (2, 'two', '[0,1]')",
        'GRANT USAGE ON SCHEMA "Their schema" TO "it\'s a reader"',
        'GRANT SELECT ON "Their schema".chunks TO "it\'s a reader"',
    ):
        postgres.execute(statement, database=name)
    reader = postgres.url(name, user="it's a reader")
    backend = attached(reader, "chunks", namespace="Their schema")
    assert backend.search(np.array([[1, 0]], dtype=np.float32), 2)[0].ids == ("1", "2")
    assert backend.count() == 2
    assert backend.get(["2"]) == [Document("2", "two")]
    with pytest.raises(StorageError, match="permission denied for table secret"):
        recognise(reader, Asked("secret", namespace="Their schema"))
    with pytest.raises(InputError, match=r"no table 'chunks' in postgresql://.*: Their schema.chunks"):
        recognise(reader, Asked("chunks"))


def _has_role(postgres) -> bool:
    return bool(postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", ["it's a reader"]))


def test_every_problem_is_told_with_the_columns_there_are(database, shared_database, table) -> None:
    run(database, "CREATE TABLE {table} (a int, b text, c text, v vector(2), w vector(3), blob bytea)", table)
    with pytest.raises(InputError) as caught:
        recognise(shared_database, Asked(table, id="no", text="a", vector="b", metadata=("x", "blob")))
    assert [problem.partition(" (the columns of public.")[0] for problem in caught.value.problems] == [
        "vector='b': a column of the type text can't be that",
        "text='a': a column of the type int4 can't be that",
        "id='no': there is no such column",
        "metadata='x': there is no such column",
        "metadata='blob': a column of the type bytea can't be that",
    ]
    assert all("a int4, b text, c text, v vector(2), w vector(3), blob bytea)" in p for p in caught.value.problems)
    with pytest.raises(InputError) as caught:
        recognise(shared_database, Asked(table))
    assert "say with vector= which column is the vector; found v, w" in caught.value.problems[0]
    assert "say with text= which column is the text; found b, c" in caught.value.problems[1]


def test_ids_that_do_not_tell_documents_apart(database, shared_database, table) -> None:
    run(database, "CREATE TABLE {table} (name text, body text, v vector(2))", table)
    run(database, "INSERT INTO {table} VALUES ('a', '', '[1,0]'), ('a', '', '[0,1]'), (NULL, '', '[1,1]')", table)
    with pytest.raises(InputError) as caught:
        recognise(shared_database, Asked(table, id="name", text="body"))
    assert "1 rows have none" in caught.value.problems[0]
    assert "1 of its values are there more than once, such as 'a' 2 times" in caught.value.problems[1]


def test_rows_without_a_vector_are_left_out_and_counted(database, shared_database, table) -> None:
    run(database, "CREATE TABLE {table} (id int PRIMARY KEY, body text, v vector(2))", table)
    run(database, "INSERT INTO {table} VALUES (1, 'one', '[1,0]'), (2, 'two', NULL), (3, NULL, '[0,2]')", table)
    backend = attached(shared_database, table)
    assert (backend.left_out, backend.count(), backend.dimensions) == (1, 2, 2)
    assert backend.get(["1", "2", "3"]) == [Document("1", "one"), None, Document("3", "")]
    assert [batch.num_rows for batch in backend.batches()] == [2]
    assert backend.search(np.ones((1, 2), dtype=np.float32), 9)[0].ids == ("1", "3")  # by cosine: lengths don't count


def test_vectors_of_several_lengths_are_refused_with_their_numbers(database, shared_database, table) -> None:
    run(database, "CREATE TABLE {table} (id int PRIMARY KEY, body text, v vector)", table)
    run(database, "INSERT INTO {table} SELECT i, '', '[1,2]' FROM generate_series(1, 5) i", table)
    backend = attached(shared_database, table)
    assert backend.dimensions == 2
    with pytest.raises(InputError, match="2 dimensions; found vectors of 3"):
        backend.search(np.ones((1, 3), dtype=np.float32), 1)
    run(database, "INSERT INTO {table} SELECT i, '', '[1,2,3]' FROM generate_series(6, 8) i", table)
    with pytest.raises(InputError, match="5 rows of 2 dimensions, 3 rows of 3 dimensions"):
        recognise(shared_database, Asked(table))


def indexed(database, table: str, column: str, index: str, lengths: float = 1.0) -> np.ndarray:
    run(database, f"CREATE TABLE {{table}} (id int PRIMARY KEY, body text, v {column})", table)
    vectors = corpus(300)[1] * np.linspace(1, lengths, 300, dtype=np.float32)[:, None]
    with database.cursor() as cursor:
        cursor.executemany(
            named("INSERT INTO {table} VALUES (%s, '', %s)", table),
            [(i, as_vector(vector)) for i, vector in enumerate(vectors)],
        )
    if index:
        run(database, f"CREATE INDEX ON {{table}} USING {index}", table)
    return vectors


@pytest.mark.parametrize(
    ("column", "index"),
    [
        ("vector(8)", "hnsw (v vector_cosine_ops)"),
        ("vector(8)", "hnsw (v vector_l2_ops)"),
        ("vector(8)", "hnsw (v vector_ip_ops)"),
        ("vector(8)", "hnsw ((v::halfvec(8)) halfvec_l2_ops)"),
        ("vector", "hnsw ((v::vector(8)) vector_cosine_ops)"),
        ("halfvec(8)", "hnsw (v halfvec_cosine_ops)"),
        ("vector(8)", "ivfflat (v vector_cosine_ops) WITH (lists = 4)"),
    ],
)
def test_the_index_there_is_serves_searches(database, shared_database, table, column, index) -> None:
    vectors = indexed(database, table, column, index)
    url = f"{shared_database}&options=-c%20enable_seqscan%3Doff"
    layout = recognise(url, Asked(table))
    assert layout.distance == "cosine"
    name = index_name(database, table)
    queries = corpus(20, seed=9)[1]
    oracle = ExactBackend()
    oracle.upsert([Document(str(i), "") for i in range(300)], vectors)
    backend = open_attached(url, layout, read_only=True, storage_options=None)
    expected = oracle.search(queries, 5)
    for found in (backend.search(queries, 5), [backend.search(query[None], 5)[0] for query in queries]):
        overlap = [len(set(one.ids) & set(other.ids)) for one, other in zip(found, expected, strict=True)]
        assert np.mean(overlap) > 4.7  # an index is approximate, and half precision swaps what is nearly equal
        np.testing.assert_allclose(found[0].scores, expected[0].scores, atol=2e-3)
    backend.close()  # the server's processes say at their end what they have done
    assert scans(database, name) >= 40


def index_name(database, table: str) -> str:
    (name,) = database.execute(
        "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class c ON c.oid = indrelid JOIN pg_class i "
        "ON i.oid = indexrelid JOIN pg_am a ON a.oid = i.relam WHERE c.relname = %s AND a.amname <> 'btree'",
        [table],
    ).fetchone()
    return name


def scans(database, index: str) -> int:
    """How often an index was used, once the server's processes have said so."""
    for _ in range(50):
        database.execute("SELECT pg_stat_clear_snapshot()")
        (number,) = database.execute(
            "SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelid = %s::regclass", [index]
        ).fetchone()
        if number >= 40:
            break
        database.execute("SELECT pg_sleep(0.05)")
    return number


def test_an_index_that_compares_otherwise(database, shared_database, table, caplog) -> None:
    vectors = indexed(database, table, "vector(8)", "hnsw (v vector_l2_ops)", lengths=3)
    with pytest.raises(InputError, match=r"vector_l2_ops, and \d+% of the vectors looked at don't have length 1"):
        recognise(shared_database, Asked(table))
    with caplog.at_level(logging.WARNING):
        layout = recognise(shared_database, Asked(table, distance="cosine"))
    assert "indexed by vector_l2_ops" in caplog.text
    assert "comparing by cosine needs vector_cosine_ops" in caplog.text
    oracle = ExactBackend()
    oracle.upsert([Document(str(i), "") for i in range(300)], vectors)
    queries = corpus(9, seed=9)[1]
    backend = open_attached(shared_database, layout, read_only=True, storage_options=None)
    agree(backend.search(queries, 5), oracle.search(queries, 5))
    run(database, "CREATE INDEX ON {table} USING hnsw (v vector_ip_ops)", table)
    caplog.clear()
    assert recognise(shared_database, Asked(table, distance="dot")).distance == "dot"
    assert caplog.text == ""


def test_a_database_without_pgvector(postgres) -> None:
    with pytest.raises(CapabilityError, match=r"has no extension pgvector.*CREATE EXTENSION vector"):
        recognise(postgres.database(extension=False), Asked("t"))


def test_pgvector_in_a_schema_that_is_not_on_the_search_path(postgres) -> None:
    url = postgres.database(extension=False)
    name = url.split("/")[3].partition("?")[0]
    for statement in (
        "CREATE SCHEMA ext",
        "CREATE EXTENSION vector SCHEMA ext",
        "CREATE TABLE chunks (id int PRIMARY KEY, body text, v ext.vector(2))",
        "INSERT INTO chunks VALUES (1, 'one', '[1,0]'), (2, 'two', '[0,1]')",
        "CREATE INDEX ON chunks USING hnsw ((v::ext.halfvec(2)) ext.halfvec_cosine_ops)",
    ):
        postgres.execute(statement, database=name)
    backend = attached(f"{url}&options=-c%20enable_seqscan%3Doff", "chunks")
    assert backend.search(np.array([[0, 1]], dtype=np.float32), 1)[0].ids == ("2",)


def test_a_table_that_loses_what_it_had(database, shared_database, table, typed) -> None:
    backend = attached(shared_database, table)
    query = corpus(1)[1]
    run(database, "ALTER TABLE {table} DROP COLUMN content, DROP COLUMN lang", table)
    for ask in (
        lambda: backend.search(query, 3),
        lambda: backend.get(["1000"]),
        lambda: list(backend.batches(text=True)),
    ):
        with pytest.raises(
            StorageError, match="is not what it was: there is no column 'content', column 'lang' any more"
        ):
            ask()
    run(database, "DROP TABLE {table}", table)
    with pytest.raises(StorageError, match="is not what it was: there is no table any more"):
        backend.search(query, 3)
