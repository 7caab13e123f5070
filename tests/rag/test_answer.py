"""Answers with citations, from any retriever and over real HTTP; and what a model does wrong."""

from functools import partial

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from deepmemory.errors import InputError, LLMError
from deepmemory.llm import UnusableAnswerError, Usage
from deepmemory.rag import NOT_FOUND, Answer, Source, answer, stream_answer
from deepmemory.testing import ChatReply, Fault

LLM = "openai:m"


def streamed(*arguments, **options):
    *pieces, last = stream_answer(*arguments, **options)
    assert isinstance(last, Answer)
    assert "".join(pieces).strip() == last.text
    return last


def prompt_of(request):
    return request.body["messages"][-1]["content"]


def test_an_answer_from_a_store_with_its_sources(server, store, script):
    script.answers = ["Ice is frozen water [1], and steam is hot [2]."]
    found = answer("what is frozen water", store, llm=LLM, k=2)
    assert found.text == "Ice is frozen water [1], and steam is hot [2]."
    assert [source.id for source in found.sources] == ["ice", "steam"]
    assert found.cited == (1, 2)
    assert found.citations[1] == Source(
        "ice", "Ice is water that is frozen solid.", "Ice", "https://weather.example/ice", found.sources[0].metadata
    )
    assert (found.found, found.invented, found.left_out, found.cut_off) == (True, (), 0, False)
    assert found.usage == Usage(found.usage.prompt_tokens, 16)
    assert prompt_of(server.requests[0]) == (
        "[1] Ice\nIce is water that is frozen solid.\n\n"
        "[2] Steam\nSteam is water that is boiling hot.\n\n"
        "Question: what is frozen water"
    )
    assert server.requests[0].body["temperature"] == 0.0
    assert str(found).endswith("[1] Ice\n[2] Steam")


def test_a_stream_ends_with_the_same_answer(server, store, script):
    script.answers = ["Ice is frozen [1] [7]. `a[7]` is code.", "Ice is frozen [1] [7]. `a[7]` is code."]
    whole = answer("frozen water", store, llm=LLM)
    assert whole.text == "Ice is frozen [1]. `a[7]` is code."
    assert streamed("frozen water", store, llm=LLM) == whole
    assert server.requests[1].body["stream"] is True


@pytest.mark.parametrize(
    ("said", "shown", "cited", "invented"),
    [
        ("A [1][2].", "A [1][2].", (1, 2), ()),
        ("A [2, 1] and [2].", "A [2, 1] and [2].", (2, 1), ()),
        ("A [1-3].", "A [1-3].", (1, 2, 3), ()),
        ("A [1; 9].", "A [1].", (1,), (9,)),
        ("A [0] b [4], c.", "A b, c.", (), (0, 4)),
        ("A 【2】.", "A 【2】.", (2,), ()),
        ("A [see 1] [] [x] [1", "A [see 1] [] [x] [1", (), ()),
        ("A `x[9]` and ``y ` [8]`` [3]", "A `x[9]` and ``y ` [8]`` [3]", (3,), ()),
        ("```\nrows[7]\n```\n[1]", "```\nrows[7]\n```\n[1]", (1,), ()),
        ("Line [9]\nnext", "Line\nnext", (), (9,)),
        ("A [99999999999999999999-1].", "A [1].", (1,), (99999999999999999999,)),
    ],
)
def test_citations_are_read_and_invented_ones_dropped(server, store, script, said, shown, cited, invented):
    script.answers = [said, said]
    found = answer("water", store, llm=LLM)
    assert (found.text, found.cited, found.invented) == (shown, cited, invented)
    assert streamed("water", store, llm=LLM) == found


@pytest.mark.parametrize(
    "said",
    ["NOT IN THE DOCUMENTS", "Not in the documents.", "**NOT IN THE DOCUMENTS**", "NOT IN THE\nDOCUMENTS [1]", "", " "],
)
def test_not_in_the_documents(server, store, script, said):
    script.answers = [said, said]
    found = answer("who won the cup?", store, llm=LLM)
    assert (found.found, found.text, found.cited) == (False, NOT_FOUND, ())
    assert len(found.sources) == 3
    assert list(stream_answer("who won the cup?", store, llm=LLM)) == [NOT_FOUND, found]


def test_an_answer_that_only_begins_like_no_answer_is_one(server, store, script):
    script.answers = ["Not in winter [1].", "No"]
    assert streamed("when is there fog?", store, llm=LLM).text == "Not in winter [1]."
    assert streamed("is ice hot?", store, llm=LLM).text == "No"


def test_nothing_retrieved_is_no_answer_and_costs_nothing(server):
    nothing = answer("anything?", lambda question, k: [], llm=LLM)
    assert (nothing.found, nothing.text, nothing.usage) == (False, NOT_FOUND, Usage())
    assert answer("anything?", ["", "  "], llm=LLM) == nothing
    assert streamed("anything?", [], llm=LLM) == nothing
    assert server.requests == []


def test_any_retriever_will_do(server, store):
    documents = [Document("Ice.", id="a", metadata={"source": "https://x/a", "title": "A"}), Document("Fog.")]
    expected = (Source("a", "Ice.", "A", "https://x/a", documents[0].metadata), Source("", "Fog."))
    asked = partial(answer, "what?", llm=LLM)
    assert asked(RunnableLambda(lambda question: documents)).sources == expected
    assert asked(lambda question, k: documents).sources == expected
    assert asked(documents).sources == expected
    assert asked(documents, k=1).sources == expected[:1]
    assert [s.id for s in asked(partial(store.search, deep_memory=False)).sources] == [
        s.id for s in asked(store).sources
    ]
    assert asked([documents[0], documents[0]]).sources == expected[:1]


def test_a_langchain_model_answers_too(store):
    model = FakeListChatModel(responses=["Ice [1].", "Ice [1]."])
    found = streamed("frozen water", store, llm=model)
    assert (found.text, found.cited, found.usage.estimated) == ("Ice [1].", (1,), True)
    assert answer("frozen water", store, llm=model) == found


def test_the_context_keeps_to_its_budget(server):
    words = [" ".join([letter] * 100) for letter in "abcd"]
    budget = partial(answer, "what?", words, llm=LLM, count_tokens=lambda text: len(text.split()))
    found = budget(max_context_tokens=270)
    assert [len(source.text.split()) for source in found.sources] == [100, 100, 70]
    assert found.sources[2].text == "c " * 69 + "..."
    assert (found.left_out, found.context_tokens) == (1, 270)
    few = budget(max_context_tokens=230)  # 30 tokens of the third would be too few to be of use
    assert ([source.text for source in few.sources], few.left_out) == (words[:2], 2)
    one = budget(max_context_tokens=10)
    assert (one.sources[0].text, one.left_out) == ("a " * 9 + "...", 3)
    assert budget(max_context_tokens=400).left_out == 0
    assert len(prompt_of(server.requests[-1]).split()) == 400 + 4 + 2


def test_the_budget_is_in_characters_by_default(server):
    found = answer("what?", ["x" * 4_000], llm=LLM, max_context_tokens=100)
    assert len(found.sources[0].text) == 400
    assert found.context_tokens == 100


def test_an_answer_may_be_cut_off(server, store, script):
    script.answers = [ChatReply("Ice is", finish_reason="length")]
    found = answer("ice?", store, llm=LLM, max_answer_tokens=2)
    assert (found.text, found.cut_off) == ("Ice is", True)
    assert server.requests[0].body["max_completion_tokens"] == 2


def test_a_stream_that_breaks_off_raises_after_its_pieces(server, store, script):
    script.answers = ["Ice is frozen water and nothing else [1]."]
    server.fail_next(Fault.truncated(0.6))
    pieces = []
    with pytest.raises(UnusableAnswerError, match="broke off"):
        pieces.extend(stream_answer("ice?", store, llm=LLM))
    assert "".join(pieces) == "Ice is frozen water and nothing"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.http(401, "who are you?"), "refused the API key"),
        (Fault.raw(b"[]"), "is no completion"),
        (Fault.raw(b"<html>", headers={"x-should-retry": "false"}), "no JSON"),
    ],
)
def test_a_model_that_fails_is_one_sentence(server, store, fault, said):
    server.fail_next(*[fault] * 3)
    with pytest.raises(LLMError, match=said):
        answer("ice?", store, llm=LLM)


def test_a_model_that_declines_is_an_error(server, store, script):
    script.answers = [ChatReply(None, refusal="I'd rather not."), ChatReply(None, refusal="I'd rather not.")]
    with pytest.raises(UnusableAnswerError, match="declined to answer: I'd rather not"):
        answer("ice?", store, llm=LLM)
    with pytest.raises(UnusableAnswerError, match="declined"):
        list(stream_answer("ice?", store, llm=LLM))


def test_what_is_wrong_is_said_at_once_and_nothing_asked(server, store):
    with pytest.raises(InputError) as caught:
        stream_answer(" ", store, llm=LLM, k=0, max_context_tokens=1.5, max_answer_tokens=-1)
    assert len(caught.value.problems) == 4
    with pytest.raises(InputError, match="expected a store, a LangChain retriever"):
        answer("ice?", 7, llm=LLM)
    with pytest.raises(InputError, match="expected a store"):
        answer("ice?", "one text", llm=LLM)
    with pytest.raises(InputError, match="text or page_content, found int"):
        answer("ice?", [7], llm=LLM)
    with pytest.raises(InputError, match="unknown language model"):
        answer("ice?", store, llm="gpt")
    assert server.requests == []


def test_as_json(server, store, script):
    script.answers = ["Ice [1] [5]."]
    value = answer("frozen water", store, llm=LLM, k=1).as_dict()
    assert value["answer"] == "Ice [1]."
    assert value["sources"] == [
        {"number": 1, "id": "ice", "title": "Ice", "url": "https://weather.example/ice", "cited": True}
    ]
    assert (value["found"], value["invented_citations"], value["left_out"], value["cut_off"]) == (True, [5], 0, False)
    assert value["tokens"]["estimated"] is False
