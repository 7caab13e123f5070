"""A hub's tables in PostgreSQL: made once whoever comes first, bound to one folder, and what is refused before that."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sqlalchemy as sa

from deepmemory.cli.ending import run
from deepmemory.errors import InputError, NewerFormatError, StorageError, StoreError
from deepmemory.server import HubFolder, HubSettings, Registry, move_to_database
from deepmemory.server.database import HubDatabase
from deepmemory.server.datasets import Datasets
from deepmemory.server.overseer import Overseer
from deepmemory.server.refusals import Refusal
from deepmemory.server.registry import DatasetName, new_dataset_id
from deepmemory.state import open_state


@pytest.fixture
def database(postgres) -> str:
    return postgres.database(extension=False)


@pytest.fixture
def registry(tmp_path, database):
    made = Registry(HubFolder(tmp_path / "hub", database))
    yield made
    made.close()


def name_of(database: str) -> str:
    return database.partition("@/")[2].partition("?")[0]


def test_many_that_start_at_once_make_one_hub(tmp_path, database, postgres):
    folder = tmp_path / "hub"
    gate = threading.Barrier(8)

    def begin(_: int) -> None:
        gate.wait()
        HubFolder(folder, database).prepare()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(begin, range(8)))
    assert postgres.execute("SELECT count(*) FROM deepmemory_hub.hub", database=name_of(database)) == [(1,)]
    assert sorted(entry.name for entry in folder.iterdir()) == ["datasets", "hub.json"]
    # Nothing of ours is where the user's own tables are.
    ours = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.execute(ours, database=name_of(database)) == [(0,)]


def test_a_folder_and_a_database_belong_together(tmp_path, database, postgres):
    folder = tmp_path / "hub"
    HubFolder(folder, database).prepare()
    HubFolder(folder, database).prepare()
    with pytest.raises(StoreError, match="are in a PostgreSQL database: name it with --database"):
        HubFolder(folder).prepare()
    other = postgres.database(extension=False)
    with pytest.raises(StoreError, match="is the data of another hub"):
        HubFolder(folder, other).prepare()
    with pytest.raises(StoreError, match="give every server and worker the same --data"):
        HubFolder(tmp_path / "elsewhere", database).prepare()
    alone = HubFolder(tmp_path / "alone")
    alone.prepare()
    Registry(alone).close()
    with pytest.raises(StoreError, match=r"in its own hub\.sqlite"):
        HubFolder(tmp_path / "alone", other).prepare()
    # What was refused has changed nothing: the hubs are as they were, and the other database is still free.
    HubFolder(folder, database).prepare()
    alone.prepare()
    HubFolder(tmp_path / "new", other).prepare()


def test_a_hub_of_files_moves_into_a_database(tmp_path, database, postgres):
    alone = HubFolder(tmp_path / "hub")
    alone.prepare()
    before = Registry(alone)
    secret, token = before.create_token("acme", "admin", expires_in_days=3)
    made, _ = Datasets(alone, before, HubSettings()).create("acme", "acme", "docs", None, None)
    made.store.add(["a text"], ids=["a"], embeddings=np.ones((1, 4), np.float32))
    before.promise(made.name.id, "key", b"body", ["first"], hours=1)
    before.open_job("0" * 24, made.name)
    before.close()
    shared = HubFolder(tmp_path / "hub", database)
    with pytest.raises(StoreError, match="move them with: deepmemory serve --move"):
        shared.prepare()
    with alone.held(), pytest.raises(StoreError, match="another hub is running"):
        move_to_database(shared)
    taken = postgres.database(extension=False)
    HubFolder(tmp_path / "other", taken).prepare()
    with pytest.raises(StoreError, match="is another hub's database already"):
        move_to_database(HubFolder(tmp_path / "hub", taken))
    alone.prepare()  # which is as it was
    record = (tmp_path / "hub" / "hub.json").read_bytes()
    assert move_to_database(shared)
    # Cut short after the database had all of it, it goes on; and once is enough.
    (tmp_path / "hub" / "hub.json").write_bytes(record)
    assert move_to_database(shared)
    assert not move_to_database(shared)
    shared.prepare()
    after = Registry(shared)
    assert after.authenticate(secret).id == token.id
    found = Datasets(shared, after, HubSettings()).find("acme", "acme", "docs")
    assert found.store.get(["a"])[0].text == "a text"
    assert after.promise(made.name.id, "key", b"body", ["second"], hours=1) == ["first"]
    assert after.open_jobs() == [("0" * 24, made.name.id, "acme")]
    after.close()
    with pytest.raises(StoreError, match="name it with --database"):
        alone.prepare()


def test_tables_of_the_first_version_are_brought_up_to_date_and_those_of_a_later_one_refused(
    tmp_path, database, postgres
):
    for folder, schema in ((HubFolder(tmp_path / "files"), None), (HubFolder(tmp_path / "hub", database), "hub")):
        folder.prepare()
        registry = Registry(folder)
        registry.create_token("acme")
        kept = DatasetName(new_dataset_id(), "acme", "docs", 0.0)
        registry.add_dataset(kept)
        registry.close()
        change(folder, "ALTER TABLE {}datasets DROP COLUMN generation", schema)
        change(folder, "ALTER TABLE {}open_jobs DROP COLUMN attempts", schema)
        change(folder, "UPDATE {}hub SET version = 1", schema)
        registry = Registry(folder)
        assert registry.list_datasets() == [kept]
        assert registry.renew_dataset(kept).generation == 1
        registry.open_job("0" * 24, kept)
        assert registry.begin_job("0" * 24) == 1
        registry.close()
        change(folder, "UPDATE {}hub SET version = 99", schema)
        with pytest.raises(NewerFormatError, match="made by a newer Deep Memory"):
            Registry(folder)


def change(folder: HubFolder, statement: str, schema: str | None) -> None:
    """Change tables behind the hub's back."""
    url = folder.database.url or f"sqlite:///{folder.database.file}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement.format("" if schema is None else "deepmemory_hub.")))
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://db/hub", "names a PostgreSQL database"),
        ("/var/lib/hub", "names a PostgreSQL database"),
        ("postgresql://hub:secret@db:port/hub", "no URL that can be read"),
        ("postgresql://hub:secret@db", "names no database"),
    ],
)
def test_a_url_that_can_be_no_database_is_told_without_its_password(tmp_path, monkeypatch, url, said):
    monkeypatch.delenv("PGDATABASE", raising=False)
    with pytest.raises(InputError, match=said) as caught:
        HubFolder(tmp_path / "hub", url)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "hub").exists()


def test_a_bucket_needs_a_database(monkeypatch):
    with pytest.raises(InputError, match="needs a database beside it"):
        HubFolder("s3://bucket/hub")


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    """A place in an S3 server of our own, whose credentials are in the environment as a hub's would be."""
    moto_server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ENDPOINT": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="hub-bucket")
    try:
        yield "s3://hub-bucket/hub"
    finally:
        server.stop()


def test_data_in_a_bucket_is_shared_and_removed(bucket, database):
    settings = HubSettings()
    processes = []
    for _ in range(2):
        folder = HubFolder(bucket, database)
        folder.prepare()
        folder.check()
        registry = Registry(folder)
        processes.append((registry, Datasets(folder, registry, settings)))
    (_, mine), (registry, theirs) = processes
    registry.create_token("acme")
    made, is_new = mine.create("acme", "acme", "docs", None, None)
    assert is_new
    made.store.add(["a text"], ids=["a"], embeddings=np.ones((1, 4), np.float32))
    found = theirs.find("acme", "acme", "docs")
    assert found.store.count() == 1
    mine.sweep()
    assert theirs.find("acme", "acme", "docs").store.get(["a"])[0].text == "a text"
    theirs.remove(found.name)
    with pytest.raises(Refusal):
        mine.find("acme", "acme", "docs")
    state = open_state(f"{bucket}/datasets/{made.name.id}")
    assert state.is_empty()
    for registry, _ in processes:
        registry.close()


def test_a_database_that_can_not_be_used_is_told_in_a_sentence(tmp_path, database, postgres, capsys):
    missing = postgres.url("nowhere")
    name = name_of(database)
    postgres.execute("CREATE ROLE nobody LOGIN")
    postgres.execute(f'REVOKE CREATE ON DATABASE "{name}" FROM PUBLIC')
    for url, said in (
        (missing, 'database "nowhere" does not exist'),
        (postgres.url(name, user="nobody"), "permission"),
    ):
        for command in (["worker", "--port", "0"], ["token", "create", "--org", "acme"]):
            assert run([*command, "--data", str(tmp_path / "hub"), "--database", url]) == 1
            error = capsys.readouterr().err
            assert said in error
            assert error.count("\n") == 1
    with pytest.raises(StorageError, match="refused"):
        HubDatabase(None, "postgresql://hub:secret@127.0.0.1:1/hub").open()


def test_commands_say_what_workers_and_servers_need(tmp_path, database, capsys):
    for command, said in (
        (["worker"], "shares a database with the hub's servers"),
        (["worker", "--database", database, "--training-jobs", "0"], "at least 1 training"),
        (["serve", "--training-jobs", "0", "--port", "0"], "no worker can share this hub's files"),
        (["serve", "--move", "--port", "0"], "say where to move names and tokens to"),
    ):
        assert run([*command, "--data", str(tmp_path / "hub")]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_name_a_promise_and_an_organisation_are_given_once(registry):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: registry.create_token("acme"), range(8)))
        named = [DatasetName(new_dataset_id(), "acme", "docs", 0.0) for _ in range(8)]
        assert sorted(threads.map(registry.add_dataset, named)) == [False] * 7 + [True]
        promised = threads.map(lambda n: registry.promise("d", "key", b"body", n, hours=1), range(8))
        assert len(set(promised)) == 1
    assert len(registry.tokens("acme")) == 8
    assert registry.find_dataset("acme", "acme", "docs") in named


def test_one_of_many_takes_over_from_the_silent_and_nobody_from_those_that_speak(registry):
    registry.join("dead")
    registry.join("alive")
    registry.join("left")
    registry.leave("left")
    with registry.silent(60) as ids:
        assert ids == ["left"]
        with registry.silent(60) as others:
            assert others == []
    with registry.silent(-1) as ids:
        assert sorted(ids) == ["alive", "dead"]
    assert not registry.beat("dead")
    registry.join("dead")
    assert registry.beat("dead")
    assert registry.n_processes() == 1


def test_what_fails_in_taking_over_is_tried_again(registry):
    registry.join("dead")
    taken: list[str] = []
    done, given_up = threading.Event(), threading.Event()

    def take_over(ids) -> None:
        taken.extend(ids)
        if len(taken) == 1:
            raise StorageError("the database is away")
        done.set()

    overseer = Overseer(registry, "me", 0.4, take_over=take_over, give_up=given_up.set, tidy=lambda: None)
    overseer.start()
    try:
        assert done.wait(30)
        assert taken[:2] == ["dead", "dead"]
        # Another took this one for dead: it is told, and is among the living again.
        with registry.silent(-1):
            pass
        assert given_up.wait(30)
    finally:
        overseer.stop()
        overseer.leave()
    assert registry.n_processes() == 0


def test_alone_means_one_at_a_time_across_connections(registry):
    with (
        registry.alone("tidy") as first,
        registry.alone("tidy", wait=False) as second,
        registry.alone("other") as third,
    ):
        assert (first, second, third) == (True, False, True)
    with registry.alone("tidy", wait=False) as again:
        assert again
