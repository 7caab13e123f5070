"""LangChain's chat models behind the same contract."""

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_openai import ChatOpenAI

from deepmemory.errors import LLMError
from deepmemory.llm import LangChainChat, Message, UnusableAnswerError, Usage, resolve_llm
from deepmemory.testing import Fault

QUESTION = [Message("system", "Be brief."), Message("user", "Is ice water?")]
SCHEMA = {"title": "Q", "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@pytest.fixture
def model(server):
    return resolve_llm(ChatOpenAI(model="small", max_retries=0))


def test_an_answer_with_what_it_cost(model, server):
    completion = model.complete(QUESTION, temperature=0.0)
    assert (completion.text, completion.usage) == ("You said: Is ice water?", Usage(7, 7))
    assert server.requests[0].body["temperature"] == 0.0
    assert model.name == "ChatOpenAI(small)"


def test_a_stream_ends_with_the_completion(model):
    *pieces, completion = model.stream(QUESTION)
    assert pieces == ["You", " said:", " Is", " ice", " water?"]
    assert completion.text == "You said: Is ice water?"


def test_structured_output(model, script, server):
    script.answers = [{"text": "Is ice water?"}]
    assert model.complete(QUESTION, schema=SCHEMA).data == {"text": "Is ice water?"}
    assert server.requests[0].body["response_format"]["type"] == "json_schema"


def test_nonsense_is_an_error(model, script):
    script.answers = ["ice"]
    with pytest.raises(LLMError):
        model.complete(QUESTION, schema=SCHEMA)


def test_a_model_without_structured_output_is_told_in_words():
    model = LangChainChat(FakeListChatModel(responses=['{"text": "a"}', "no JSON"]))
    assert model.complete(QUESTION, schema=SCHEMA).data == {"text": "a"}
    with pytest.raises(UnusableAnswerError, match="no JSON"):
        model.complete(QUESTION, schema=SCHEMA)


def test_usage_is_estimated_where_a_model_tells_none():
    completion = LangChainChat(FakeListChatModel(responses=["four"])).complete(QUESTION)
    assert completion.usage == Usage(3 + 4, 1, estimated=True)


def test_what_the_model_raises_is_an_llm_error(model, server):
    server.fail_next(Fault.http(500), Fault.http(500))
    with pytest.raises(LLMError, match=r"ChatOpenAI\(small\) failed: .*500"):
        model.complete(QUESTION)
    with pytest.raises(LLMError, match="500"):
        list(model.stream(QUESTION))
