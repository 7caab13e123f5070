"""Who may do what: tokens, scopes, organisations, names."""

import http.client
import json
import sqlite3

import httpx
import pytest
from hub_client import code_of

SOMEBODY_ELSES = [
    ("GET", "", None),
    ("PATCH", "", {"embedder": {"name": "x", "fingerprint": {}}}),
    ("POST", "/documents", {"documents": [{"text": "a"}], "vectors": [[1.0]]}),
    ("POST", "/documents/get", {"ids": ["a"]}),
    ("POST", "/documents/delete", {"all": True}),
    ("POST", "/documents/count", {}),
    ("POST", "/search", {"vectors": [[1.0]]}),
    ("POST", "/evaluate", {"queries": ["a"], "relevance": [[["a", 1.0]]], "vectors": [[1.0]]}),
    ("POST", "/jobs", {"queries": ["a"], "relevance": [[["a", 1.0]]], "vectors": [[1.0]]}),
    ("POST", "/embed", {"texts": ["a"]}),
    ("POST", "/clear", {}),
    ("POST", "/optimize", None),
    ("GET", "/export", None),
    ("GET", "/jobs", None),
    ("GET", "/jobs/0123456789abcdef01234567", None),
    ("GET", "/jobs/0123456789abcdef01234567/events", None),
    ("POST", "/jobs/0123456789abcdef01234567/cancel", None),
    ("DELETE", "/jobs/0123456789abcdef01234567", None),
    ("GET", "/layers", None),
    ("GET", "/layers/v1", None),
    ("GET", "/layers/v1/file", None),
    ("PUT", "/layers/active", {"layer": None}),
    ("POST", "/layers/rollback", None),
    ("GET", "/history", None),
    ("GET", "/state?folder=ingest", None),
    ("GET", "/state/ingest/a", None),
    ("DELETE", "/state/ingest/a", None),
]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer dm_wrong", "Basic abc", "dm_wrong", "Bearer \xe9"])
def test_without_a_token_that_is_known_nothing_is_said(hub, header):
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    reply = httpx.get(f"{hub.url}/v1/orgs/acme/datasets", headers=headers)
    assert code_of(reply) == (401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_says_whose_it_is(hub, client):
    said = client.get("me").json()
    assert (said["org"], said["scope"]) == ("acme", "admin")
    assert set(said["token"]) >= {"id", "name", "created", "expires", "last_used"}
    assert "secret" not in json.dumps(said)


def test_a_token_that_has_expired_opens_nothing(hub, client, until, connect):
    made = client.post("orgs/acme/tokens", {"scope": "read", "expires_in_days": 2 / 86_400}).json()
    mine = connect(hub, made["secret"])
    assert mine.get("me").json()["token"]["expires"] == made["expires"]
    until(lambda: mine.get("me").status_code == 401)
    assert "expired at" in mine.get("me").json()["error"]["message"]


def test_a_token_that_is_revoked_opens_nothing_from_then_on(hub, client, connect):
    made = client.post("orgs/acme/tokens", {"scope": "write", "name": "of Ann"}).json()
    mine = connect(hub, made["secret"])
    assert mine.get("me").status_code == 200
    assert client.delete(f"orgs/acme/tokens/{made['id']}").status_code == 204
    assert code_of(mine.get("me")) == (401, "unauthenticated")
    [listed] = [token for token in client.get("orgs/acme/tokens").json()["tokens"] if token["id"] == made["id"]]
    assert listed["revoked"]
    assert listed["last_used"]
    assert listed["name"] == "of Ann"
    assert "secret" not in listed


def test_a_token_that_is_revoked_by_the_command_opens_nothing_from_then_on(hub, client, connect):
    made = client.post("orgs/acme/tokens", {"scope": "read"}).json()
    hub.command("token", "revoke", made["id"])
    assert connect(hub, made["secret"]).get("me").status_code == 401
    [listed] = [row for row in json.loads(hub.command("token", "list", "--json")) if row["id"] == made["id"]]
    assert listed["revoked"]


def test_a_secret_is_kept_nowhere(hub, client, connect):
    made = client.post("orgs/acme/tokens", {"scope": "read"}).json()
    assert connect(hub, made["secret"]).get("me").status_code == 200
    files = [file for file in hub.data.rglob("*") if file.is_file() and file.suffix != ".lock"]
    assert not [file for file in files if made["secret"].encode() in file.read_bytes()]
    assert made["secret"] not in hub.log


def test_a_token_that_may_read_changes_nothing(reader, client, dataset):
    client.post(f"{dataset}/documents", {"documents": [{"id": "a", "text": "a"}], "vectors": [[1.0, 0.0]]})
    changes = [
        reader.post(f"{dataset}/documents", {"documents": [{"text": "b"}], "vectors": [[1.0, 0.0]]}),
        reader.post(f"{dataset}/documents/delete", {"all": True}),
        reader.post(f"{dataset}/clear"),
        reader.post(f"{dataset}/jobs", {"queries": ["a"], "relevance": [[["a", 1.0]]], "vectors": [[1.0, 0.0]]}),
        reader.put(f"{dataset}/layers/active", {"layer": None}),
        reader.put("orgs/acme/datasets/another", {}),
        reader.put(f"{dataset}/state/ingest/a", content=b"a", headers={"Content-Type": "application/octet-stream"}),
        reader.delete(dataset),
        reader.get("orgs/acme/tokens"),
    ]
    assert {code_of(reply) for reply in changes} == {(403, "forbidden")}
    assert reader.post(f"{dataset}/documents/count").json() == {"count": 1}
    assert reader.post(f"{dataset}/search", {"vectors": [[1.0, 0.0]]}).json()["results"][0]["hits"][0]["id"] == "a"


def test_a_token_that_may_write_neither_deletes_datasets_nor_makes_tokens(hub, secrets, dataset, connect):
    writer = connect(hub, secrets["write"])
    assert code_of(writer.delete(dataset)) == (403, "forbidden")
    assert code_of(writer.post("orgs/acme/tokens", {"scope": "admin"})) == (403, "forbidden")


@pytest.mark.parametrize(("method", "path", "body"), SOMEBODY_ELSES)
def test_another_organisations_dataset_is_as_one_that_is_not_there(rival, dataset, method, path, body):
    theirs = rival.http.request(method, f"{dataset}{path}", json=body)
    name = dataset.rpartition("/")[2]
    nowhere = rival.http.request(method, f"orgs/acme/datasets/not{name[3:]}{path}", json=body)
    assert code_of(theirs) == (404, "not_found")
    assert theirs.content.replace(name.encode(), b"") == nowhere.content.replace(f"not{name[3:]}".encode(), b"")
    assert theirs.headers.keys() == nowhere.headers.keys()


def test_another_organisation_lists_makes_and_deletes_nothing(rival, client, dataset):
    assert code_of(rival.get("orgs/acme/datasets")) == (404, "not_found")
    assert code_of(rival.get("orgs/nobody/datasets")) == (404, "not_found")
    assert code_of(rival.get("orgs/acme/tokens")) == (404, "not_found")
    assert code_of(rival.post("orgs/acme/tokens", {"scope": "admin"})) == (404, "not_found")
    assert code_of(rival.put("orgs/acme/datasets/mine")) == (404, "not_found")
    assert code_of(rival.delete(dataset)) == (404, "not_found")
    assert client.get(dataset).status_code == 200
    name = dataset.rpartition("/")[2]
    assert rival.get(f"orgs/rival/datasets/{name}").status_code == 404
    assert name not in rival.get("orgs/rival/datasets").text


def test_the_same_name_in_two_organisations_is_two_datasets(client, rival):
    for one, org in ((client, "acme"), (rival, "rival")):
        one.put(f"orgs/{org}/datasets/twins", {"embedder": None})
        body = {"documents": [{"id": org, "text": org}], "vectors": [[1.0, 0.0]]}
        assert one.post(f"orgs/{org}/datasets/twins/documents", body).json() == {"ids": [org]}
    found = client.post("orgs/acme/datasets/twins/documents/get", {"ids": ["acme", "rival"]}).json()["documents"]
    assert [document and document["id"] for document in found] == ["acme", None]


NAMES = [
    "..", ".", "%2e%2e", "a.b", "-a", "_a", "a%20b", "a%00", "%C3%A9", "a%E2%80%AE", "%E2%84%AA", "%C5%BF", "a" * 64,
    "%EF%BC%A1",
]  # fmt: skip


SLASHES = ["a%2Fb", "..%2F..%2Fetc", "a%5Cb", "%2e%2e%2f%2e%2e%2fhub.sqlite", "../../hub.sqlite"]


def as_it_is(hub, secret: str, method: str, path: str) -> tuple[int, str]:
    """The status and code of a request whose path nothing has made tidier on its way."""
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"))
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {secret}"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())["error"]["code"]
    finally:
        connection.close()


@pytest.mark.parametrize("name", NAMES + SLASHES)
def test_names_that_are_none_are_refused(hub, secrets, name):
    refused = {(422, "input")} if name in NAMES else {(422, "input"), (404, "not_found"), (405, "bad_request")}
    for method in ("GET", "PUT", "DELETE"):
        assert as_it_is(hub, secrets["admin"], method, f"/v1/orgs/acme/datasets/{name}") in refused, method
    assert as_it_is(hub, secrets["admin"], "GET", f"/v1/orgs/{name}/datasets") in refused
    assert not [entry for entry in hub.data.parent.iterdir() if not entry.name.startswith("hub")]


def test_capitals_are_small_letters(client):
    assert client.put("orgs/ACME/datasets/Handbook", {"embedder": None}).status_code == 201
    assert client.put("orgs/acme/datasets/handbook", {"embedder": None}).status_code == 200
    assert client.get("orgs/Acme/datasets/HANDBOOK").json()["name"] == "handbook"


def test_nothing_of_a_name_is_in_the_path_of_its_folder(hub, client, connect):
    client.put("orgs/acme/datasets/opaque-name", {"embedder": None})
    assert not list(hub.data.rglob("*opaque*"))
    with sqlite3.connect(hub.data / "hub.sqlite") as database:
        [(folder,)] = database.execute("select id from datasets where name = 'opaque-name'").fetchall()
    assert (hub.data / "datasets" / folder).is_dir()


def test_a_token_has_its_last_use_on_record_without_a_write_for_each_request(hub, client, connect):
    made = client.post("orgs/acme/tokens", {"scope": "read"}).json()
    assert made["last_used"] is None
    mine = connect(hub, made["secret"])
    seen = {mine.get("me").json()["token"]["last_used"] for _ in range(5)}
    assert len(seen - {None}) == 1
