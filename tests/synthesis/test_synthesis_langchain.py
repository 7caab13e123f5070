"""LangChain's chat models, known by their methods."""

import pytest
from writer import documents, write_as_text

from deepmemory.synthesis import FilterOptions, LangChainChat, resolve_llm, synthesize

ALL = FilterOptions(near_duplicate=None)


def test_chat_openai_with_structured_output(server):
    openai = pytest.importorskip("langchain_openai")
    llm = openai.ChatOpenAI(model="chat-test", base_url=server.base_url, api_key="any", max_retries=0)
    made = synthesize(documents(3), llm, concurrency=1, filters=ALL)
    assert made.generator == "langchain:ChatOpenAI:chat-test"
    assert made.documents == {"used": 3}
    assert len(made.queries) == 9
    assert made.usage.counted
    assert made.usage.tokens_in > 300
    assert server.requests[0].body["response_format"]["type"] == "json_schema"


def test_a_model_without_structured_output_is_asked_for_json_in_its_text():
    models = pytest.importorskip("langchain_core.language_models.fake_chat_models")
    answer = '{"queries": [{"kind": "claim", "query": "a query of mine"}]}'
    llm = models.FakeListChatModel(responses=[f"Well: {answer}"])
    made = synthesize(documents(1), llm, filters=ALL)
    assert made.questions == ["a query of mine"]
    assert not made.usage.counted


def test_anything_with_invoke_will_do_and_its_failures_are_a_documents_own():
    class Odd:
        def invoke(self, messages):
            text = messages[-1][1]
            if "sourdough" in text:
                raise ConnectionResetError("reset by peer")

            class Request:
                prompt = text

            return write_as_text(Request())

    made = synthesize(documents(3), Odd(), concurrency=1, filters=ALL)
    assert made.documents == {"used": 2, "failed": 1}
    assert made.problems == ("langchain:Odd failed: ConnectionResetError: reset by peer",)
    assert isinstance(resolve_llm(Odd()), LangChainChat)
