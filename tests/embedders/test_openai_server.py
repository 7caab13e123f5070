"""`OpenAIServer` as its users see it: through OpenAI's own client."""

import http.client
import json
import urllib.parse

import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from deepmemory.testing import ChatReply, Fault, OpenAIServer
from deepmemory.testing.openai_server import word_vector


def client_of(server, **options):
    return openai.OpenAI(base_url=server.base_url, api_key="any", **{"max_retries": 0, **options})


def answer(request):
    return f"{request.model} was asked: {request.prompt}"


@pytest.fixture
def chatty():
    with OpenAIServer(chat=answer) as server, client_of(server) as client:
        yield server, client


def ask(client, prompt="What is the capital of France?", **options):
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}], **options)


def test_embeddings_as_numbers_and_in_base64_are_the_same(chatty):
    _, client = chatty
    texts = ["one text", "another"]
    as_base64 = client.embeddings.create(model="e", input=texts)
    as_numbers = client.embeddings.create(model="e", input=texts, encoding_format="float")
    assert [item.index for item in as_base64.data] == [0, 1]
    assert [item.embedding for item in as_base64.data] == [item.embedding for item in as_numbers.data]
    assert as_base64.model == "e"
    assert (as_base64.usage.prompt_tokens, as_base64.usage.total_tokens) == (3, 3)


def test_a_single_text_and_tokens_are_inputs_too(chatty):
    _, client = chatty
    assert len(client.embeddings.create(model="e", input="alone").data) == 1
    assert len(client.embeddings.create(model="e", input=[1, 2, 3]).data) == 1
    assert len(client.embeddings.create(model="e", input=[[1, 2], [3]]).data) == 2


def test_vectors_may_be_ones_own_and_shortened():
    with OpenAIServer(embed=lambda text: [3.0, 4.0, 12.0]) as server, client_of(server) as client:
        assert client.embeddings.create(model="e", input="a").data[0].embedding == [3, 4, 12]
        shorter = client.embeddings.create(model="e", input="a", dimensions=2).data[0].embedding
        np.testing.assert_allclose(shorter, [0.6, 0.8], rtol=1e-6)


@given(st.text(min_size=1))
def test_word_vectors_depend_on_words_alone(text):
    vector = word_vector(text, 8)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(vector, word_vector(text, 8))


def test_texts_that_share_words_are_close():
    query = word_vector("Run a Program!")
    assert query @ word_vector("a program to run") > 0.8
    assert abs(query @ word_vector("parse some dates")) < 0.4


def test_models_are_listed(chatty):
    _, client = chatty
    assert [model.id for model in client.models.list()] == ["text-embedding-test", "chat-test"]
    assert client.models.retrieve("chat-test").id == "chat-test"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_a_chat_reply_counts_its_tokens(chatty):
    _, client = chatty
    completion = ask(client)
    (choice,) = completion.choices
    assert choice.message.content == "m was asked: What is the capital of France?"
    assert choice.finish_reason == "stop"
    assert completion.usage.prompt_tokens == 7
    assert completion.usage.completion_tokens == 11
    assert completion.usage.total_tokens == 18


def test_a_stream_gives_the_same_text_in_pieces(chatty):
    _, client = chatty
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == "m was asked: What is the capital of France?"
    assert len([piece for piece in pieces if piece]) == 9
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-2:] == [None, "stop"]
    assert chunks[-1].usage.total_tokens == 18


@given(st.text())
def test_a_stream_loses_no_character(text):
    from deepmemory.testing.openai_chat import ChatRequest, completion_events

    request = ChatRequest({"model": "m", "messages": []})
    events = [event.removeprefix(b"data: ") for event in completion_events(request, ChatReply(text))]
    assert events[-1] == b"[DONE]\n\n"
    assert "".join(json.loads(e)["choices"][0]["delta"].get("content", "") for e in events[:-1]) == text


def test_the_chat_function_sees_the_whole_request():
    seen = []

    def remember(request):
        seen.append(request)
        return "ok"

    with OpenAIServer(chat=remember) as server, client_of(server) as client:
        client.chat.completions.create(
            model="m",
            temperature=0.2,
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "yes"},
                {"role": "user", "content": [{"type": "text", "text": "second "}, {"type": "text", "text": "part"}]},
            ],
        )
    (request,) = seen
    assert (request.prompt, request.system, request.model) == ("second part", "Be brief.", "m")
    assert request.body["temperature"] == 0.2
    assert len(request.messages) == 4
    assert not request.wants_json
    assert request.schema is None


class Capital(BaseModel):
    city: str
    people: int


def test_structured_output():
    def fill(request):
        assert request.wants_json
        assert set(request.schema["properties"]) == {"city", "people"}
        return {"city": "Zürich", "people": 447_000}

    with OpenAIServer(chat=fill) as server, client_of(server) as client:
        completion = client.chat.completions.parse(
            model="m", messages=[{"role": "user", "content": "?"}], response_format=Capital
        )
    assert completion.choices[0].message.parsed == Capital(city="Zürich", people=447_000)


def test_refusals_and_cut_answers():
    replies = iter([ChatReply(None, refusal="I won't."), ChatReply("cut he", finish_reason="length")])
    with OpenAIServer(chat=lambda request: next(replies)) as server, client_of(server) as client:
        assert ask(client).choices[0].message.refusal == "I won't."
        assert ask(client).choices[0].finish_reason == "length"


def test_tool_calls_whole_and_streamed():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    reply = ChatReply(None, finish_reason="tool_calls", tool_calls=[call])
    with OpenAIServer(chat=lambda request: reply) as server, client_of(server) as client:
        assert ask(client).choices[0].message.tool_calls[0].function.name == "add"
        deltas = [chunk.choices[0].delta for chunk in ask(client, stream=True)]
        assert [d.tool_calls[0].function.arguments for d in deltas if d.tool_calls] == ['{"a": 1}']


def test_without_a_chat_function_there_is_no_chat():
    with OpenAIServer() as server, client_of(server) as client, pytest.raises(openai.NotFoundError):
        ask(client)


def test_a_failing_function_is_an_error_500_that_says_so():
    def fail(request):
        raise KeyError("forgotten")

    refused = pytest.raises(openai.InternalServerError, match="KeyError: 'forgotten'")
    with OpenAIServer(chat=fail) as server, client_of(server) as client, refused:
        ask(client)


def test_the_key_is_checked_where_there_is_one():
    with OpenAIServer(api_key="right") as server:
        with client_of(server) as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with openai.OpenAI(base_url=server.base_url, api_key="right") as client:
            assert client.models.list().data


@pytest.mark.parametrize("inputs", ["", [], ["fine", ""], [None], ["x"] * 2049])
def test_inputs_are_checked_as_openai_does(chatty, inputs):
    _, client = chatty
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="e", input=inputs)


def test_a_body_that_is_no_json_is_refused(chatty):
    server, _ = chatty
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.base_url).netloc)
    connection.request("POST", "/v1/embeddings", b"{")
    assert connection.getresponse().status == 400
    connection.close()
    assert server.requests[0].body is None


def test_requests_are_recorded(chatty):
    server, client = chatty
    client.embeddings.create(model="e", input=["a"])
    client.models.list()
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
    ]
    assert server.requests[0].body["input"] == ["a"]
    assert server.requests[0].headers["authorization"] == "Bearer any"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.http(429, "slow down", retry_after=1), openai.RateLimitError),
        (Fault.http(500), openai.InternalServerError),
        (Fault.http(401), openai.AuthenticationError),
        (Fault.dropped(), openai.APIConnectionError),
        (Fault.truncated(), openai.APIConnectionError),
        (Fault.broken_json(), json.JSONDecodeError),
    ],
)
def test_faults_reach_the_client_in_order_and_pass(chatty, fault, error):
    server, client = chatty
    server.fail_next(None, fault)
    assert ask(client).choices
    with pytest.raises(error):
        ask(client)
    assert ask(client).choices


def test_faults_tell_what_the_client_needs(chatty):
    server, client = chatty
    server.fail_next(Fault.http(429, "slow down", code="rate_limit", retry_after=1.5))
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        ask(client)
    assert caught.value.response.headers["retry-after"] == "1.5"
    assert caught.value.code == "rate_limit"


def test_the_client_retries_through_faults(chatty):
    server, _ = chatty
    server.fail_next(Fault.http(429, retry_after=0.01), Fault.dropped())
    with client_of(server, max_retries=2) as client:
        assert ask(client).choices
    assert len(server.requests) == 3


def test_a_slow_reply_meets_a_timeout(chatty):
    server, client = chatty
    server.fail_next(Fault.slow(30))
    with pytest.raises(openai.APITimeoutError):
        ask(client, timeout=0.2)


def test_replies_can_be_altered(chatty):
    server, client = chatty
    server.fail_next(Fault.altered(lambda reply: reply["choices"][0].update(finish_reason="length")))
    assert ask(client).choices[0].finish_reason == "length"
    server.fail_next(Fault.wrong_count(-1), Fault.wrong_count(2), Fault.with_headers({"x-mine": "1"}))
    assert ask(client).choices == []
    assert len(client.embeddings.create(model="e", input=["a", "b"]).data) == 4
    assert client.models.with_raw_response.list().headers["x-mine"] == "1"


def test_a_stream_can_break_off(chatty):
    server, client = chatty
    server.fail_next(Fault.truncated())
    stream = iter(ask(client, stream=True))
    assert next(stream).choices[0].delta.role == "assistant"
    # Since version 3 the client lets through what its HTTP library raises in the middle of a stream.
    with pytest.raises(Exception, match="without sending complete message body"):
        list(stream)


def test_stopping_ends_slow_replies_and_open_connections(chatty):
    with OpenAIServer(chat=answer) as server, client_of(server) as client:
        ask(client)
        base_url = server.base_url
    gone = pytest.raises(openai.APIConnectionError)
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0) as client, gone:
        ask(client)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url
    with server, client_of(server) as client:
        assert ask(client).choices
