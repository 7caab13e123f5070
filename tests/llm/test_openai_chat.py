"""``openai:MODEL`` as a chat model against a real server: answers, structure, streams, and all that can go wrong."""

import socket
import threading

import pytest

from deepmemory.errors import InputError, LLMError
from deepmemory.llm import Message, OpenAIChat, UnusableAnswerError, Usage, estimate_tokens, resolve_llm
from deepmemory.testing import ChatReply, Fault

KEY = "sk-secret-of-the-test"
QUESTION = [Message("system", "Be brief."), Message("user", "Is ice water?")]
SCHEMA = {
    "title": "Questions",
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "kind": {"enum": ["question", "claim"]}},
                "required": ["text"],
            },
        }
    },
    "required": ["questions"],
}


def failure(call):
    with pytest.raises(LLMError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert KEY not in message
    return message


def streamed(model, messages=QUESTION, **options):
    *pieces, completion = model.stream(messages, **options)
    assert all(isinstance(piece, str) for piece in pieces)
    assert "".join(pieces) == completion.text
    return completion


def test_an_answer_with_what_it_cost(server):
    completion = resolve_llm("openai:small").complete(QUESTION, temperature=0.0, max_tokens=50)
    assert completion.text == "You said: Is ice water?"
    assert completion.usage == Usage(3 + 4, 7)
    assert (completion.data, completion.finish_reason) == (None, "stop")
    body = server.requests[0].body
    assert body["messages"] == [{"role": m.role, "content": m.content} for m in QUESTION]
    assert (body["model"], body["temperature"], body["max_completion_tokens"]) == ("small", 0.0, 50)
    assert "response_format" not in body


def test_usage_is_estimated_where_the_endpoint_tells_none(server):
    server.fail_next(Fault.altered(lambda reply: reply.pop("usage")))
    usage = OpenAIChat("m").complete(QUESTION).usage
    assert usage == Usage(estimate_tokens("Be brief.") + estimate_tokens("Is ice water?"), 6, estimated=True)
    assert usage + Usage(1, 2) == Usage(3 + 4 + 1, 8, estimated=True)


def test_a_stream_is_the_same_answer_in_pieces(server):
    model = OpenAIChat("m")
    assert streamed(model) == model.complete(QUESTION)
    assert len(list(model.stream(QUESTION))) == 6


def test_structured_output(server, script):
    value = {"questions": [{"text": "Is ice water?", "kind": "question"}]}
    script.answers = [value]
    completion = OpenAIChat("m").complete(QUESTION, schema=SCHEMA)
    assert completion.data == value
    sent = server.requests[0].body["response_format"]["json_schema"]
    assert (sent["name"], sent["strict"]) == ("Questions", True)
    assert sent["schema"]["additionalProperties"] is False
    assert sent["schema"]["properties"]["questions"]["items"]["additionalProperties"] is False


def test_an_endpoint_that_knows_no_schemas_is_told_in_words(server, script):
    script.answers = ['```json\n{"questions": []}\n```', {"questions": [{"text": "b"}]}]
    server.fail_next(Fault.http(400, "response_format json_schema is not supported"))
    model = OpenAIChat("m")
    assert model.complete(QUESTION, schema=SCHEMA).data == {"questions": []}
    assert model.complete(QUESTION, schema=SCHEMA).data == {"questions": [{"text": "b"}]}
    assert len(server.requests) == 3
    assert "JSON schema" in server.requests[2].body["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("ice is water", r"no JSON, which was asked for \(ice is water\)"),
        ('{"questions": [{"te', "no JSON"),
        ("", r"no JSON, which was asked for \(nothing\)"),
        ([], "the answer must be object"),
        ({"asked": []}, "the answer lacks 'questions'"),
        ({"questions": "one"}, "'questions' must be array"),
        ({"questions": [{"text": True}]}, "'text' must be string"),
        ({"questions": [{"text": "a", "kind": "riddle"}]}, "'kind' must be one of"),
        (ChatReply('{"questions": []}', finish_reason="length"), "cut off after"),
        (ChatReply(None, refusal="I won't."), "declined to answer: I won't."),
        (ChatReply(None, finish_reason="content_filter"), "content filter"),
        (ChatReply(None), "without a text"),
    ],
)
def test_nonsense_is_an_error_that_tells_its_cost(server, script, answer, said):
    script.answers = [answer]
    with pytest.raises(UnusableAnswerError, match=said) as caught:
        OpenAIChat("m").complete(QUESTION, schema=SCHEMA)
    assert caught.value.usage.prompt_tokens == 7
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault", [Fault.http(429, retry_after=0.01), Fault.http(503, retry_after=0), Fault.dropped(), Fault.broken_json()]
)
def test_what_may_pass_is_tried_again(server, fault):
    server.fail_next(fault)
    model = OpenAIChat("m")
    assert model.complete(QUESTION).text == "You said: Is ice water?"
    server.fail_next(fault if fault.body != Fault.broken_json().body else Fault.dropped())
    assert streamed(model).text == "You said: Is ice water?"
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.http(401, f"Incorrect API key: {KEY}"), "refused the API key"),
        (Fault.http(404, "no such model"), "knows no model 'm', or is no chat endpoint"),
        (Fault.http(400, "context_length_exceeded"), "refused the request"),
        (Fault.http(413, "too long"), "takes no request of this size"),
        (Fault.http(429, "pay", code="insufficient_quota"), "quota"),
        (Fault.http(429, retry_after=9999), "asks to wait 9999 seconds"),
        (Fault.raw(b'{"choices": []}'), "JSON that is no completion"),
        (Fault.raw(b"[]"), "JSON that is no completion"),
    ],
)
def test_a_refusal_is_one_sentence(server, fault, said):
    server.fail_next(fault)
    assert said in failure(lambda: OpenAIChat("m").complete(QUESTION))
    assert len(server.requests) == 1


def test_a_slow_endpoint_is_not_waited_for_forever(server):
    server.fail_next(Fault.slow(30))
    message = failure(lambda: OpenAIChat("m", timeout=0.2, max_retries=0).complete(QUESTION))
    assert "did not answer within 0.2 seconds" in message


def test_no_endpoint():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        model = OpenAIChat("m", base_url=f"http://user:pass@127.0.0.1:{taken.getsockname()[1]}/v1", max_retries=0)
        message = failure(lambda: model.complete(QUESTION))
    assert "can't be reached" in message
    assert "pass" not in message


def test_openai_itself_wants_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "set OPENAI_API_KEY" in failure(lambda: OpenAIChat("m").complete(QUESTION))


def test_a_stream_that_breaks_off_says_so_after_its_pieces(server):
    server.fail_next(Fault.truncated(0.6))
    pieces = []
    with pytest.raises(UnusableAnswerError, match="broke off"):
        pieces.extend(OpenAIChat("m").stream(QUESTION))
    assert pieces[:2] == ["You", " said:"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            b'data: {"choices": [{"index": 0, "delta": {"content": "Ye"}}]}\n\ndata: [DONE]\n\n',
            "broke off after 2 char",
        ),
        (b"data: {half\n\n", "no stream of JSON"),
        (b'data: {"error": {"message": "out of memory"}}\n\n', r"in the middle of its answer \(out of memory\)"),
        (b"", "broke off after 0 characters"),
    ],
)
def test_a_stream_of_nonsense_is_an_error(server, body, said):
    server.fail_next(Fault.raw(body, headers={"Content-Type": "text/event-stream"}))
    with pytest.raises(LLMError, match=said):
        list(OpenAIChat("m").stream(QUESTION))


def test_a_stream_may_go_without_usage(server):
    server.fail_next(Fault.http(400, "unknown field stream_options"))
    completion = streamed(OpenAIChat("m"))
    assert completion.text == "You said: Is ice water?"
    assert completion.usage.estimated


def test_a_model_that_takes_no_temperature_is_asked_without(server):
    server.fail_next(Fault.http(400, "Unsupported value: 'temperature' does not support 0"))
    model = OpenAIChat("m")
    for _ in range(2):
        assert model.complete(QUESTION, temperature=0.0).text == "You said: Is ice water?"
    assert ["temperature" in request.body for request in server.requests] == [True, False, False]


def test_stopping_sends_nothing_more(server):
    stop = threading.Event()
    stop.set()
    assert "was stopped" in failure(lambda: OpenAIChat("m").complete(QUESTION, stop=stop))
    assert server.requests == []


@pytest.mark.parametrize("spec", ["gpt-4", "openai:", "anthropic:claude", None, object(), dict, 3])
def test_what_is_no_model_is_refused(spec):
    with pytest.raises(InputError, match="expected 'openai:MODEL' or a LangChain chat model"):
        resolve_llm(spec)


def test_impossible_settings_are_listed_at_once():
    with pytest.raises(InputError) as caught:
        OpenAIChat("m", base_url="nowhere", timeout=0, max_retries=-1)
    assert len(caught.value.problems) == 3
