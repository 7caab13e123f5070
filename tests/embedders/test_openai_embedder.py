"""``openai:MODEL`` against a real server: batches, retries, limits, and every way in which a reply can be wrong."""

import base64
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import numpy as np
import pytest

from deepmemory.embedders import OpenAIEmbedder, resolve_embedder
from deepmemory.errors import Cancelled, EmbedderError, InputError
from deepmemory.testing import Fault, OpenAIServer
from deepmemory.testing.openai_server import word_vector

KEY = "sk-secret-of-the-test"


def expected(texts, dimensions=16):
    return np.stack([word_vector(text, dimensions) for text in texts])


def ready(server, **options):
    """An embedder whose endpoint has answered once."""
    embedder = OpenAIEmbedder("m", **options)
    embedder.embed_queries(["first"])
    server.requests.clear()
    return embedder


def failure(call, *arguments):
    with pytest.raises(EmbedderError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert KEY not in message
    assert "/embeddings" in message
    return message


def test_texts_become_unit_vectors(server):
    embedder = resolve_embedder("openai:text-embedding-3-small")
    vectors = embedder.embed_documents(["one", "two words"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected(["one", "two words"]), rtol=1e-6)
    (request,) = server.requests
    assert request.path == "/v1/embeddings"
    assert request.body["model"] == "text-embedding-3-small"
    assert request.body["encoding_format"] == "base64"
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_a_server_that_knows_no_base64_may_send_numbers(server):
    def as_numbers(reply):
        for item in reply["data"]:
            item["embedding"] = np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist()

    server.fail_next(Fault.altered(as_numbers))
    np.testing.assert_allclose(OpenAIEmbedder("m").embed_queries(["one"]), expected(["one"]), rtol=1e-6)


def test_vectors_are_put_in_the_order_of_the_texts(server):
    server.fail_next(Fault.altered(lambda reply: reply["data"].reverse()))
    texts = ["one", "two", "three"]
    np.testing.assert_allclose(OpenAIEmbedder("m").embed_documents(texts), expected(texts), rtol=1e-6)


def test_batches_are_bounded_by_count_and_sent_a_few_at_once(server):
    texts = [f"text {number}" for number in range(450)]
    server.fail_next(*[Fault.slow(0.1)] * 10)
    reports = []
    embedder = OpenAIEmbedder("m", batch_size=50, concurrency=3)
    vectors = embedder.embed_documents(texts, progress=lambda *report: reports.append(report))
    np.testing.assert_allclose(vectors, expected(texts), rtol=1e-6)
    assert [len(request.body["input"]) for request in server.requests] == [50] * 9
    assert server.most_at_once == 3
    assert reports == [(done, 450) for done in range(50, 451, 50)]


def test_batches_are_bounded_by_size(server):
    texts = ["wörd " * 20_000] * 5 + ["short"] * 3
    OpenAIEmbedder("m").embed_documents(texts)
    sizes = [sum(len(text.encode()) for text in request.body["input"]) for request in server.requests]
    assert max(sizes) <= 250_000
    assert sum(len(request.body["input"]) for request in server.requests) == 8
    assert len(server.requests) == 3


def test_a_request_that_the_server_finds_too_large_is_halved():
    def embed(text):
        return word_vector(text, 16)

    with OpenAIServer(embed=embed) as server:
        # Eight texts and four are refused; then the pairs pass.
        server.fail_next(Fault.http(413, "batch size 8 > 2"), Fault.http(413, "4 > 2"), None, None, Fault.http(413))
        texts = [f"text {number}" for number in range(8)]
        vectors = OpenAIEmbedder("m", base_url=server.base_url).embed_documents(texts)
        np.testing.assert_allclose(vectors, expected(texts), rtol=1e-6)
        assert [len(request.body["input"]) for request in server.requests] == [8, 4, 2, 2, 4, 2, 2]


def test_one_text_that_is_too_large_is_an_error(server):
    server.fail_next(Fault.http(413, "too many tokens"))
    message = failure(OpenAIEmbedder("m").embed_documents, ["x" * 100])
    assert "takes no request of this size (HTTP 413: too many tokens)" in message


def test_shorter_vectors_can_be_asked_for(server):
    embedder = OpenAIEmbedder("m", dimensions=4)
    assert embedder.dimensions == 4
    assert embedder.embed_queries([]).shape == (0, 4)
    assert embedder.embed_queries(["a"]).shape == (1, 4)
    assert server.requests[0].body["dimensions"] == 4


def test_no_texts_ask_nothing(server):
    assert OpenAIEmbedder("m").embed_documents([]).shape == (0, 0)
    assert server.requests == []


def test_empty_texts_are_refused_before_anything_is_sent(server):
    with pytest.raises(InputError) as caught:
        OpenAIEmbedder("m").embed_documents(["", "fine", ""])
    assert [problem[:15] for problem in caught.value.problems] == ["text 0 is empty", "text 2 is empty"]
    assert server.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault.http(429, retry_after=0.01),
        Fault.http(429, headers={"retry-after-ms": "10"}),
        Fault.http(429, headers={"Retry-After": formatdate(time.time() - 5, usegmt=True)}),
        Fault.http(429, headers={"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}),
        Fault.http(500, retry_after=0),
        Fault.http(503, retry_after=0),
        Fault.http(408, retry_after=0),
        Fault.dropped(),
        Fault.truncated(),
        Fault.broken_json(),
        Fault.raw(b"<html>bad gateway</html>"),
    ],
)
def test_what_passes_is_tried_again(server, fault):
    server.fail_next(fault)
    np.testing.assert_allclose(OpenAIEmbedder("m").embed_queries(["one"]), expected(["one"]), rtol=1e-6)
    assert len(server.requests) == 2


def test_a_timeout_is_tried_again(server):
    embedder = ready(server, timeout=0.3)
    server.fail_next(Fault.slow(5))
    assert embedder.embed_queries(["one"]).shape == (1, 16)
    assert len(server.requests) == 2


def test_retry_after_is_waited_for(server):
    moments = []

    def note(text):
        moments.append(time.monotonic())
        return word_vector(text, 16)

    with OpenAIServer(embed=note) as limited:
        limited.fail_next(Fault.http(429, retry_after=0.4))
        start = time.monotonic()
        OpenAIEmbedder("m", base_url=limited.base_url).embed_queries(["a"])
    assert moments[0] - start >= 0.4


def test_a_used_up_limit_is_waited_for_before_it_is_run_into(server):
    embedder = OpenAIEmbedder("m")
    limit = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0.4s"}
    server.fail_next(Fault.with_headers(limit))
    embedder.embed_queries(["one"])
    start = time.monotonic()
    embedder.embed_queries(["two"])
    assert time.monotonic() - start >= 0.3
    assert len(server.requests) == 2


def test_a_server_that_asks_for_too_much_patience_is_reported(server):
    server.fail_next(Fault.http(429, "slow down", retry_after=3600))
    message = failure(OpenAIEmbedder("m").embed_queries, ["one"])
    assert "asks to wait 3600 seconds (HTTP 429: slow down)" in message
    assert len(server.requests) == 1


def test_retries_end(server):
    server.fail_next(*[Fault.http(500, "still broken", retry_after=0)] * 10)
    message = failure(OpenAIEmbedder("m", max_retries=3).embed_queries, ["one"])
    assert "still failed after 3 retries (HTTP 500: still broken)" in message
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault.http(401, f"Incorrect API key provided: {KEY}"), r"refused the API key .* check OPENAI_API_KEY"),
        (Fault.http(403, "no access"), r"refused the API key \(HTTP 403: no access\)"),
        (Fault.http(404, "model not found"), r"knows no model 'm', or is no embeddings endpoint"),
        (Fault.http(400, "bad\n  input"), r"refused the request \(HTTP 400: bad input\)"),
        (Fault.http(422, "x" * 900), r"refused the request \(HTTP 422: x{200}\.\.\.\)"),
        (Fault.http(429, "pay", code="insufficient_quota"), "quota of the API key is used up"),
        (Fault.http(500, "no", headers={"x-should-retry": "false"}), r"refused the request \(HTTP 500: no\)"),
        (Fault.raw(b"<!doctype html><p>go away", status=400), r"HTTP 400: an HTML page"),
        (Fault.raw(b'{"detail": "from another server"}', status=400), r"HTTP 400: from another server"),
        (Fault.raw(b"", status=400), r"refused the request \(HTTP 400"),
    ],
)
def test_what_can_not_pass_fails_at_once_in_one_sentence(server, fault, sentence):
    server.fail_next(fault)
    with pytest.raises(EmbedderError, match=sentence):
        OpenAIEmbedder("m").embed_queries(["one"])
    assert len(server.requests) == 1


def test_a_quoted_key_is_blotted_out(server):
    server.fail_next(Fault.http(401, f"Incorrect API key provided: {KEY}"))
    assert "provided: ***" in failure(OpenAIEmbedder("m").embed_queries, ["one"])


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault.raw(b"<html>log in</html>"), r"something that is no JSON \(an HTML page\)"),
        (Fault.raw(b""), r"something that is no JSON \(an empty body\)"),
        (Fault.raw(b"[" * 100_000), "something that is no JSON"),
        (Fault.raw(b"\xff\xfe\x00"), "something that is no JSON"),
    ],
)
def test_a_reply_that_is_no_json(server, fault, sentence):
    server.fail_next(fault, fault)
    with pytest.raises(EmbedderError, match=sentence):
        OpenAIEmbedder("m", max_retries=1).embed_queries(["one"])
    assert len(server.requests) == 2


def numbers(*rows):
    def change(reply):
        for item, row in zip(reply["data"], rows, strict=True):
            item["embedding"] = row

    return Fault.altered(change)


def indexes(*values):
    def change(reply):
        for item, value in zip(reply["data"], values, strict=True):
            item["index"] = value

    return Fault.altered(change)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault.raw(b"[]"), r"no list 'data' \(\[\]\)"),
        (Fault.raw(b"null"), "no list 'data'"),
        (Fault.raw(b'{"error": "model is loading"}'), r"no list 'data' \(model is loading\)"),
        (Fault.altered(lambda reply: reply.update(data={})), "no list 'data'"),
        (Fault.wrong_count(-1), "answered 2 texts with 1 vectors"),
        (Fault.wrong_count(1), "answered 2 texts with 3 vectors"),
        (Fault.altered(lambda reply: reply["data"].clear()), "answered 2 texts with 0 vectors"),
        (indexes(0, 0), "whose index is 0; expected each of 0 to 1 once"),
        (indexes(0, 2), "whose index is 2"),
        (indexes(-1, 0), "whose index is -1"),
        (indexes("0", "1"), "whose index is '0'"),
        (Fault.altered(lambda reply: reply["data"][1].pop("index")), "whose index is None"),
        (Fault.raw(b'{"data": [1, 2]}'), "whose index is None"),
        (numbers([1.0] * 16, [1.0] * 15), "no array of numbers"),
        (numbers([1.0] * 15, [1.0] * 15), r"shape \(2, 15\); expected \(2, 16\)"),
        (numbers([1.0] * 16, None), r"no array of numbers|NaN|shape"),
        (numbers([1.0] * 16, [1.0] * 15 + [float("nan")]), r"NaN or infinite .*\(positions 1\)"),
        (numbers([0.0] * 16, [1.0] * 16), r"vector of zeros.*\(positions 0\)"),
        (numbers("not base64!", "AAAA"), "neither a list of numbers nor float32 in base64"),
        (numbers("AAAAAAA=", "AAAAAAA="), "neither a list of numbers nor float32 in base64"),
    ],
)
def test_a_reply_that_is_not_the_vectors_is_refused(server, fault, sentence):
    embedder = ready(server)
    server.fail_next(fault)
    with pytest.raises(EmbedderError, match=sentence) as caught:
        embedder.embed_documents(["one", "two"])
    assert str(caught.value).startswith(f"{server.base_url}/embeddings answered")
    assert len(server.requests) == 1
    assert embedder.embed_documents(["one", "two"]).shape == (2, 16)


def test_a_wrong_key_is_asked_for_once(monkeypatch):
    with OpenAIServer(api_key="right") as server:
        embedder = OpenAIEmbedder("m", base_url=server.base_url, api_key="wrong", batch_size=1)
        assert "refused the API key (HTTP 401" in failure(embedder.embed_documents, ["a", "b", "c", "d"])
        assert len(server.requests) == 1
        OpenAIEmbedder("m", base_url=server.base_url, api_key="right").embed_documents(["a"])


def test_openai_itself_needs_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    message = failure(OpenAIEmbedder("text-embedding-3-small").embed_queries, ["one"])
    assert message == "https://api.openai.com/v1/embeddings needs an API key: set OPENAI_API_KEY"


def test_a_server_at_home_needs_none(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert OpenAIEmbedder("m").embed_queries(["one"]).shape == (1, 16)


def test_nobody_listening():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    embedder = OpenAIEmbedder("m", base_url=f"http://user:password@127.0.0.1:{port}/v1?key=secret")
    message = failure(embedder.embed_queries, ["one"])
    assert message.startswith(f"http://127.0.0.1:{port}/v1/embeddings can't be reached (")
    assert "refused" in message
    assert "password" not in message
    assert "secret" not in message


def test_no_such_host():
    embedder = OpenAIEmbedder("m", base_url="http://no-such-host.invalid/v1", max_retries=0)
    assert "can't be reached" in failure(embedder.embed_queries, ["one"])


def test_a_server_that_never_answers(server):
    server.fail_next(*[Fault.slow(30)] * 3)
    message = failure(OpenAIEmbedder("m", timeout=0.2, max_retries=0).embed_queries, ["one"])
    assert message.endswith("did not answer within 0.2 seconds")


@pytest.mark.parametrize(
    "address", ["api.example.org/v1", "ftp://example.org", "http://", "https://[::1", "http://h:x/v1"]
)
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match="must be like https://host/v1"):
        OpenAIEmbedder("m", base_url=address)


def test_all_wrong_arguments_are_named_together():
    with pytest.raises(InputError) as caught:
        OpenAIEmbedder(
            "m",
            base_url="nowhere",
            api_key="sk-\nkey",
            dimensions=0,
            timeout=0,
            concurrency=0,
            batch_size=-1,
            max_retries=-1,
        )
    assert len(caught.value.problems) == 7
    assert "sk-" not in str(caught.value)


def wait_for_requests_in_hand():
    for thread in threading.enumerate():
        if thread.name == "deepmemory-openai":
            thread.join()


def test_one_failed_request_ends_the_others(server):
    embedder = ready(server, batch_size=1, concurrency=4)
    server.fail_next(None, None, Fault.http(400, "no more"))
    failure(embedder.embed_documents, [f"text {number}" for number in range(500)])
    wait_for_requests_in_hand()
    assert len(server.requests) < 500


def test_progress_can_stop_the_work(server):
    embedder = ready(server, batch_size=1)

    def cancel(done, total):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        embedder.embed_documents([f"text {number}" for number in range(500)], progress=cancel)
    wait_for_requests_in_hand()
    assert len(server.requests) < 500


def test_threads_may_share_an_embedder(server):
    embedder = OpenAIEmbedder("m", batch_size=3)
    answers = {}

    def work(number):
        answers[number] = embedder.embed_documents([f"text {number} {n}" for n in range(10)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(5):
        np.testing.assert_allclose(answers[number], expected([f"text {number} {n}" for n in range(10)]), rtol=1e-6)


def test_ctrl_c_does_not_wait_for_a_slow_server(server):
    server.fail_next(None, *[Fault.slow(60)] * 8)
    code = """
from deepmemory.embedders import OpenAIEmbedder
def said(done, total):
    print(done, flush=True)
try:
    OpenAIEmbedder("m", batch_size=1).embed_documents(list("abcdefgh"), progress=said)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "1\n"
    while len(server.requests) < 2:
        time.sleep(0.01)
    process.send_signal(2)
    stdout, stderr = process.communicate(timeout=20)
    assert (stdout, stderr, process.returncode) == ("stopped\n", "", 0)
