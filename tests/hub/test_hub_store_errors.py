"""What goes wrong between a client and a hub, and the one sentence that each gets."""

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import pyarrow as pa
import pytest
from scripted_hub import BREAK, BUSY, COMPLETED, IDS, JOB, OPEN, PAGE, RECORD, Scripted, answer

import deepmemory
from deepmemory import (
    AuthenticationError,
    AuthorizationError,
    BadRequestError,
    CapabilityError,
    HubError,
    HubUnavailableError,
    InputError,
    NotAStoreError,
    NotFoundError,
    OverLimitError,
    TooLargeError,
    VectorStore,
)
from deepmemory.hub.refusals import BY_CODE, BY_STATUS, refusal
from deepmemory.server.refusals import CODES

# Paths, addresses, tokens


@pytest.mark.parametrize(
    "path",
    [
        "hub://",
        "hub://acme",
        "hub://acme/",
        "hub:acme/docs",
        "hub:///docs",
        "hub://acme/docs/more",
        "hub://acme/..",
        "hub://acme/-docs",
        "hub://acme/do.cs",
        "hub://acme/do cs",
        "hub://acme/dócs",
        "hub://acme/docs?x=1",
        "hub://\u212aelvin/docs",  # a Kelvin sign becomes the letter k in lower case
        "hub://acme/" + "d" * 64,
    ],
)
def test_a_path_of_the_wrong_shape(path: str) -> None:
    with pytest.raises(InputError, match=r"hub://ORGANISATION/NAME.*found"):
        VectorStore(path)


@pytest.mark.parametrize(
    "url", ["hub.example.org", "ftp://x", "http://", "http://a b", "http://x?y=1", "http://u@x", "http://[x"]
)
def test_an_address_of_the_wrong_shape(monkeypatch, url: str) -> None:
    monkeypatch.setenv("DEEPMEMORY_HUB_URL", url)
    with pytest.raises(InputError, match="DEEPMEMORY_HUB_URL is the address"):
        VectorStore("hub://acme/docs")


def test_no_token_and_tokens_that_can_be_none(monkeypatch) -> None:
    monkeypatch.delenv("DEEPMEMORY_TOKEN")
    with pytest.raises(AuthenticationError, match=r"token=.*DEEPMEMORY_TOKEN.*deepmemory token create"):
        VectorStore("hub://acme/docs")
    for token in ("dm_a\nb", "dm_ä", "dm a"):
        with pytest.raises(AuthenticationError, match="copy it anew"):
            VectorStore("hub://acme/docs", token=token)


def test_a_timeout_that_is_none(monkeypatch) -> None:
    for wrong in ("soon", "0", "nan", "-1"):
        monkeypatch.setenv("DEEPMEMORY_HUB_TIMEOUT", wrong)
        with pytest.raises(InputError, match="DEEPMEMORY_HUB_TIMEOUT"):
            VectorStore("hub://acme/docs")


def test_a_token_never_shows(path, tokens) -> None:
    with VectorStore(path, embedder=None) as store:
        shown = repr(store) + repr(store.backend.__dict__) + repr(vars(store.backend._connection))
        assert tokens["write"] not in shown


# Tokens at a real hub


def test_a_token_that_the_hub_does_not_know(path) -> None:
    with pytest.raises(AuthenticationError, match="token"):
        VectorStore(path, token="dm_" + "x" * 43)


def test_a_token_of_another_organisation_sees_nothing(path, tokens) -> None:
    with VectorStore(path, embedder=None) as store:
        store.add(["a"], embeddings=[[1.0, 0.0]])
    with pytest.raises(NotAStoreError, match="no dataset"):
        VectorStore(path, token=tokens["other"], create=False)
    with pytest.raises(NotFoundError):
        VectorStore(path, token=tokens["other"])


def test_a_token_for_reading_reads(path, tokens) -> None:
    with pytest.raises(AuthorizationError, match="write"):
        VectorStore(path, embedder=None, token=tokens["read"])
    with VectorStore(path, embedder=None) as store:
        store.add(["a"], embeddings=[[1.0, 0.0]], ids=["a"])
    with VectorStore(path, token=tokens["read"]) as store:
        assert store.search(embedding=[1.0, 0.0])[0].text == "a"
        for change in (
            lambda: store.add(["b"], embeddings=[[1.0, 0.0]]),
            lambda: store.delete(["a"]),
            lambda: store.deep_memory.set_model(None),
            lambda: store.deep_memory.train(["x"], [[("a", 1.0)]], embeddings=[[1.0, 0.0]]),
        ):
            with pytest.raises(AuthorizationError, match="write"):
                change()
        assert store.count() == 1
    with pytest.raises(AuthorizationError):
        VectorStore(path, token=tokens["read"], overwrite=True)


def test_a_dataset_that_is_deleted_while_it_is_open(hub, path, tokens) -> None:
    with VectorStore(path, embedder=None) as store:
        store.add(["a"], embeddings=[[1.0, 0.0]])
        where = f"{hub.url}/v1/orgs/acme/datasets/{path.rpartition('/')[2]}"
        httpx.delete(where, headers={"Authorization": f"Bearer {tokens['admin']}"}).raise_for_status()
        for ask in (store.count, store.summary, lambda: store.search(embedding=[1.0, 0.0])):
            with pytest.raises(NotFoundError):
                ask()


# Every status and code


@pytest.mark.parametrize("code", CODES)
def test_every_code_of_the_hub_has_its_exception(code: str) -> None:
    body = json.dumps({"error": {"code": code, "message": "a sentence"}}).encode()
    error = refusal(418, body, "http://hub")
    assert type(error) is BY_CODE[code]
    assert str(error) == "a sentence"


def test_codes_and_exceptions_are_each_others() -> None:
    assert set(BY_CODE) == set(CODES)
    kinds = {kind for kind in (*BY_CODE.values(), *BY_STATUS.values()) if issubclass(kind, HubError)}
    public = [getattr(deepmemory, name) for name in deepmemory.__all__ if name.endswith("Error")]
    assert kinds == {kind for kind in public if issubclass(kind, HubError)}


@pytest.mark.parametrize(
    "body", [b"<html>proxy</html>", b"", b"[]", b'{"error": "x"}', b'{"error": {"code": 1, "message": 2}}', b"\xff"]
)
def test_every_status_without_a_code_is_a_hub_error(body: bytes) -> None:
    for status in range(300, 600):
        error = refusal(status, body, "http://hub", retry_after="7", location="https://elsewhere")
        assert isinstance(error, BY_STATUS.get(status, HubError))
        assert "http://hub" in str(error)
        assert ("try again in 7 seconds" in str(error)) == (status == 429)


def test_problems_arrive_one_by_one() -> None:
    said = {"error": {"code": "input", "message": "2 problems", "problems": ["first.", "second."]}}
    error = refusal(422, json.dumps(said).encode(), "http://hub")
    assert isinstance(error, InputError)
    assert error.problems == ("first.", "second.")


# Servers that are no hub, or not well


@pytest.fixture
def scripted(monkeypatch) -> Iterator[Scripted]:
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("DEEPMEMORY_HUB_URL", server.url)
    monkeypatch.setenv("DEEPMEMORY_HUB_TIMEOUT", "2")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (PAGE, HubError, r"sent text/html where a hub sends JSON.*DEEPMEMORY_HUB_URL"),
        (answer(b'{"distance": "cos'), HubError, "where a hub sends JSON"),
        (answer([1, 2]), HubError, "doesn't understand"),
        (answer({**RECORD, "distance": "l2"}), HubError, "doesn't understand"),
        (
            answer({**RECORD, "embedder": {"name": "x", "spec": None, "fingerprint": {"name": 1}}}),
            HubError,
            "understand",
        ),
        (answer(b""), HubError, "doesn't understand"),
        (answer(b"<html>", 404, Content_Type="text/html"), HubError, "said 404"),
        (answer(b"", 302, Location="https://login.example.org/"), HubError, "sends requests on to https://login"),
        (answer({"error": {"code": "internal", "message": "fault 17"}}, 500), HubError, "fault 17"),
        (answer({"error": {"code": "bad_request", "message": "what?"}}, 400), BadRequestError, "what"),
        (answer(b'{"a": 1}', Content_Length="500"), HubUnavailableError, "broke off"),
    ],
)
def test_what_answers_is_no_hub(scripted: Scripted, given, kind, said) -> None:
    scripted.answers = [given]
    with pytest.raises(kind, match=said) as caught:
        VectorStore("hub://acme/docs", embedder=None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "reply", [[], {}, {"results": []}, {"results": [{"hits": [{"id": "a"}]}]}, {"results": [3]}, None]
)
def test_hits_in_another_shape(scripted: Scripted, reply: object) -> None:
    scripted.answers = [OPEN, answer(reply)]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        for ask in (lambda: store.search(embedding=[1.0, 0.0]), lambda: store.search("x", mode="words")):
            with pytest.raises(HubError, match="hits in a way that this version doesn't understand"):
                ask()


def test_every_reply_that_is_read_is_checked(scripted: Scripted, tmp_path) -> None:
    scripted.answers = [OPEN, answer({"nothing": "of the kind"})]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        memory = store.deep_memory
        asks: list[Callable[[], object]] = [
            store.count,
            lambda: store.get(["a"]),
            lambda: store.delete(["a"]),
            lambda: store.backend.dimensions,
            lambda: store.backend.get_vectors(["a"]),
            lambda: list(store.documents()),
            lambda: store.state.list("ingest"),
            lambda: store.state.delete("ingest/a"),
            lambda: memory.train(["q"], [[("a", 1.0)]], embeddings=[[1.0]]),
            lambda: memory.evaluate([[("a", 1.0)]], ["q"], embeddings=[[1.0]], verbose=False),
            lambda: memory.status("a" * 24),
            memory.list_jobs,
            lambda: memory.cancel("a" * 24),
            lambda: memory.delete("a" * 24),
            memory.models,
            lambda: memory.model_info("v1"),
            memory.get_model,
            memory.rollback,
            lambda: memory.history,
        ]
        for ask in asks:
            with pytest.raises(HubError):
                ask()
        with pytest.raises(deepmemory.ArtifactError, match="cut off"):
            memory.export_model("v1", tmp_path / "layer")
        assert not (tmp_path / "layer").exists()


def test_what_is_safe_is_sent_again_and_what_is_not_is_not(scripted: Scripted) -> None:
    scripted.answers = [OPEN, BREAK, BREAK, answer({"count": 4})]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        assert store.count() == 4
        scripted.answers = [BREAK, answer({"ids": ["a"]})]
        assert store.add(["text"], ids=["a"], embeddings=[[1.0]]) == ["a"]
        first, second = scripted.requests[-2:]
        assert first == second  # the very same ids
        scripted.answers = [BREAK, answer({"deleted": 1})]
        with pytest.raises(HubUnavailableError, match=r"broke off.*look before you do it again"):
            store.delete(["a"])
        assert len(scripted.answers) == 1
        scripted.answers = [BUSY, BUSY, answer({"deleted": 1})]
        assert store.delete(["a"]) == 1  # what was refused was not done


def test_a_job_that_is_submitted_twice_has_one_key(scripted: Scripted) -> None:
    keys: list[str | None] = []
    scripted.before = lambda where, headers: keys.append(headers.get("Idempotency-Key")) if "jobs" in where else None
    scripted.answers = [OPEN, IDS, BREAK, answer({"id": "a" * 24})]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        for _ in range(2):
            assert store.deep_memory.train(["q"], [[("a", 1.0)]], embeddings=[[1.0]]) == "a" * 24
            scripted.answers = [IDS, BREAK, answer({"id": "a" * 24})]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert None not in keys


@pytest.mark.parametrize(
    "events",
    [
        answer({"error": {"code": "not_found", "message": "no events here"}}, 404),
        answer(b"<html>", Content_Type="text/html"),
        answer(b"event: job\ndata: {half\n\n", Content_Type="text/event-stream"),
        answer(b": alive\n\nevent: job\ndata: ", Content_Type="text/event-stream"),
        answer(b"", Content_Type="text/event-stream", Content_Length="100"),
        BREAK,
    ],
)
def test_where_no_events_come_the_job_is_asked_for(scripted: Scripted, events) -> None:
    submitted, running, ended = answer({"id": "a" * 24}), answer(JOB), answer(COMPLETED)
    scripted.answers = [OPEN, IDS, submitted, running, events, running, BREAK, ended]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        seen: list[int] = []
        ask = {"embeddings": [[1.0]], "wait": True, "progress": lambda done, _: seen.append(done)}
        store.deep_memory.train(["q"], [[("a", 1.0)]], **ask)
    assert seen == [500, 500, 1000]


def test_a_hub_that_goes_away_while_a_job_is_followed_leaves_a_warning(scripted: Scripted, caplog) -> None:
    gone = answer({"error": {"code": "job", "message": "there is no such job"}}, 404)
    scripted.answers = [OPEN, IDS, answer({"id": "a" * 24}), gone]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        store.deep_memory.train(["q"], [[("a", 1.0)]], embeddings=[[1.0]], progress=lambda *_: None)
        for thread in threading.enumerate():
            if thread.name.startswith("deepmemory-follow"):
                thread.join()
    assert "no longer followed: there is no such job" in caplog.text


def test_an_export_that_is_cut_off_is_no_export(scripted: Scripted) -> None:
    sink = io.BytesIO()
    columns = {"id": ["a", "b"], "vector": [[1.0], [2.0]], "text": ["x", "y"], "metadata": ["{}", "{}"]}
    with pa.ipc.new_stream(sink, pa.table(columns).schema) as writer:
        for batch in pa.table(columns).to_batches(max_chunksize=1):
            writer.write_batch(batch)
    whole, arrow = sink.getvalue(), "application/vnd.apache.arrow.stream"
    for cut in (whole[:-8], whole[:-100], whole[:50], b"", b"<html>"):
        scripted.answers = [OPEN, answer(cut, Content_Type=arrow)]
        with (
            VectorStore("hub://acme/docs", embedder=None) as store,
            pytest.raises(HubUnavailableError, match="broke off"),
        ):
            list(store.documents())
    scripted.answers = [OPEN, answer(whole, Content_Type=arrow)]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        assert [document.text for document in store.documents()] == ["x", "y"]


def test_a_search_is_one_round_trip_and_opening_another(scripted: Scripted) -> None:
    local = {
        **RECORD,
        "embedder": {"name": "local", "spec": "local", "fingerprint": None},
        "embeds": True,
        "layer": "v1",
    }
    hit = {"id": "a", "score": 0.5, "text": "x", "metadata": {}}
    scripted.answers = [answer(local), answer({"layer": "v1", "results": [{"hits": [hit]}]})]
    with VectorStore("hub://acme/docs") as store:
        assert [found.id for found in store.search("a question", k=3, filter={"lang": ("en", "fr")})] == ["a"]
    (_, _, _), (method, where, body) = scripted.requests
    assert (method, where) == ("POST", "/v1/orgs/acme/datasets/docs/search")
    assert json.loads(body) == {
        "queries": ["a question"],
        "k": 3,
        "deep_memory": True,
        "filter": {"lang": ["en", "fr"]},
    }


def test_a_limit_that_lasts_is_said(scripted: Scripted) -> None:
    scripted.answers = [OPEN, answer({"error": {"code": "over_limit", "message": "too much"}}, 429, Retry_After="3600")]
    with VectorStore("hub://acme/docs", embedder=None) as store, pytest.raises(OverLimitError, match="3600 seconds"):
        store.count()
    assert len(scripted.requests) == 2


def test_a_request_that_is_too_large_is_halved(scripted: Scripted) -> None:
    large = answer(b"<html>too large", 413, Content_Type="text/html")
    scripted.answers = [OPEN, large, large, answer({"ids": []})]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        store.add(["x"] * 8, ids=list("abcdefgh"), embeddings=[[1.0]] * 8)
        sizes = [len(json.loads(body)["documents"]) for method, _, body in scripted.requests if method == "POST"]
        assert sizes == [8, 4, 2, 2, 2, 2]
        scripted.answers = [answer({"ids": []}), large]
        with pytest.raises(TooLargeError) as caught:
            store.add(["x"] * 1_000, embeddings=[[1.0]] * 1_000)
        assert "512 of 1000 documents were added before that" in caught.value.__notes__[-1]


def test_a_question_that_is_too_large_is_halved(scripted: Scripted) -> None:
    large = answer({"error": {"code": "too_large", "message": "fewer"}}, 413)
    gone = [answer({"documents": [None, None]}), answer({"documents": [None, None]})]
    scripted.answers = [OPEN, large, *gone]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        assert store.get(list("abcd")) == [None] * 4
        assert [json.loads(body)["ids"] for _, _, body in scripted.requests[1:]] == [[*"abcd"], [*"ab"], [*"cd"]]
        scripted.answers = [large]
        with pytest.raises(TooLargeError, match="fewer"):
            store.search("a long query", mode="words")


def test_a_hub_that_gives_no_vectors_of_texts_says_so(scripted: Scripted) -> None:
    local = {**RECORD, "embedder": {"name": "local", "spec": "local", "fingerprint": None}, "embeds": True}
    scripted.answers = [answer(local), answer({"error": {"code": "not_found", "message": "no"}}, 404)]
    with VectorStore("hub://acme/docs") as store:
        embedder = store.embedder
        assert embedder is not None
        with pytest.raises(CapabilityError, match="embedder of this machine"):
            embedder.embed_queries(["a"])


def test_nobody_there(monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DEEPMEMORY_HUB_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(HubUnavailableError, match=r"no hub answers.*deepmemory serve.*DEEPMEMORY_HUB_URL"):
            VectorStore("hub://acme/docs")


def test_a_server_that_accepts_and_never_answers(monkeypatch) -> None:
    monkeypatch.setenv("DEEPMEMORY_HUB_TIMEOUT", "0.3")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DEEPMEMORY_HUB_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(HubUnavailableError, match=r"did not answer within 0.3 seconds.*DEEPMEMORY_HUB_TIMEOUT"):
            VectorStore("hub://acme/docs")


def test_a_hub_that_hangs_in_the_middle_of_adding(scripted: Scripted, monkeypatch) -> None:
    monkeypatch.setenv("DEEPMEMORY_HUB_TIMEOUT", "0.05")
    hang = threading.Event()
    scripted.before = lambda *_: hang.wait(20) if len(scripted.requests) > 2 else None
    scripted.answers = [OPEN, answer({"ids": []})]
    with VectorStore("hub://acme/docs", embedder=None) as store:
        with pytest.raises(HubUnavailableError, match="not known, and doing it again is harmless") as caught:
            store.add(["x"] * 2_000, embeddings=[[1.0]] * 2_000)
        hang.set()
    assert caught.value.__notes__ == ["512 of 2000 documents were added before that"]
