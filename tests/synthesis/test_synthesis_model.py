"""Queries by a language model: a real server, and every way in which it can disappoint."""

import json

import pytest
from writer import documents, text_in, write, write_as_text

from deepmemory.data import Document
from deepmemory.errors import InputError, LLMError
from deepmemory.synthesis import KINDS, FilterOptions, OpenAIChat, Prices, estimate, generate_queries, synthesize
from deepmemory.testing import ChatReply, Fault, OpenAIServer

ALL = FilterOptions(near_duplicate=None)


def test_every_document_is_asked_about_once_for_queries_of_every_kind(server, model):
    made = synthesize(documents(), model(), per_document=4, filters=ALL)
    assert made.generator == "openai:chat-test"
    assert [one.source_id for one in made.queries] == [f"d{place}" for place in range(12) for _ in range(4)]
    assert {one.kind for one in made.queries} == set(KINDS)
    assert made.counts["made"] == made.counts["kept"] == 48
    assert len(server.requests) == 12
    assert made.relevance[0] == [("d0", 1.0)]


def test_structured_output_is_asked_for(server, model):
    synthesize(documents(1), model(temperature=0.5), kinds=["claim"])
    body = server.requests[0].body
    assert body["temperature"] == 0.5
    wrapped = body["response_format"]["json_schema"]
    assert wrapped["strict"]
    entry = wrapped["schema"]["properties"]["queries"]["items"]
    assert entry["properties"]["kind"]["enum"] == ["claim"]
    assert entry["additionalProperties"] is False


def test_an_endpoint_without_response_format_is_asked_without_it():
    def old(request):
        if request.wants_json:
            raise RuntimeError("response_format is unknown")  # the server makes HTTP 500 of it; refuse below
        return write_as_text(request)

    with OpenAIServer(chat=old) as server:
        server.fail_next(Fault.http(400, "response_format is not supported"))
        llm = OpenAIChat("m", base_url=server.base_url, api_key="any", max_retries=0)
        made = synthesize(documents(4), llm, concurrency=1, filters=ALL)
    assert made.documents == {"used": 4}
    assert len(server.requests) == 5, "it is refused once, and not asked for again"
    assert "response_format" not in server.requests[-1].body


def test_the_users_own_queries_are_shown_and_not_made_again(server, model):
    echo = "question 0 wondering: ferns along spores"
    made = synthesize(documents(1), model(), examples=[echo, "how 2 fix jib??"], per_document=2, filters=ALL)
    assert json.dumps("how 2 fix jib??") in server.requests[0].body["messages"][-1]["content"]
    assert made.counts["duplicate"] == 1
    assert echo not in made.questions


def test_a_document_is_sent_with_its_title_and_cut_where_it_is_very_long(server, model):
    long = Document("long", "Räder " * 10_000, {"title": "Wheels"})
    synthesize([long], model(), filters=ALL)
    sent = server.requests[0].body["messages"][-1]["content"]
    assert "Title: Wheels\nRäder" in sent
    assert len(sent) < 13_000


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I'd rather talk about the weather.", "nonsense"),
        ('{"queries": "none"}', "nonsense"),
        ('{"queries": [{"kind": "question"}, 7, null]}', "nonsense"),
        ("", "nonsense"),
        ("[" * 100_000, "nonsense"),
        (ChatReply('{"queries": [{"kind": "question", "que', finish_reason="length"), "truncated"),
        (ChatReply(None, refusal="I can't help with that."), "refused"),
        (ChatReply(None, finish_reason="content_filter"), "refused"),
    ],
)
def test_one_document_that_a_model_fails_at_does_not_stop_the_others(answer, reason):
    def chat(request):
        return answer if "sourdough" in request.prompt else write(request)

    with OpenAIServer(chat=chat) as server:
        made = synthesize(documents(4), OpenAIChat("m", base_url=server.base_url, api_key="any"), filters=ALL)
    assert made.documents == {"used": 3, reason: 1}
    assert {one.source_id for one in made.queries} == {"d0", "d2", "d3"}
    assert len(server.requests) == 5, "it is asked twice, and no more"
    assert made.usage.replies == 5, "what was answered was paid for"


def test_of_an_answer_that_breaks_off_the_whole_queries_are_taken():
    half = '{"queries": [{"kind": "claim", "query": "a whole sail"}, {"kind": "claim", "query": "half a sa'
    with OpenAIServer(chat=lambda request: ChatReply(half, finish_reason="length")) as server:
        made = synthesize(documents(1), OpenAIChat("m", base_url=server.base_url, api_key="any"), filters=ALL)
    assert made.questions == ["a whole sail"]


def test_more_than_was_asked_for_and_unknown_kinds():
    many = {"queries": [{"kind": "haiku", "query": f"query number {number}"} for number in range(9)]}
    with OpenAIServer(chat=lambda request: many) as server:
        llm = OpenAIChat("m", base_url=server.base_url, api_key="any")
        made = synthesize(documents(1), llm, per_document=2, kinds=["symptom"], filters=ALL)
    assert [(one.query, one.kind) for one in made.queries] == [
        ("query number 0", "symptom"),
        ("query number 1", "symptom"),
    ]


def test_what_may_pass_is_tried_again(server, model):
    server.fail_next(
        None,  # an endpoint that has never answered is given up sooner
        Fault.http(429, retry_after=0.01),
        Fault.http(503),
        Fault.truncated(),
        Fault.broken_json(),
        Fault.altered(lambda reply: reply.pop("choices")),
    )
    made = synthesize(documents(6), model(max_retries=5), concurrency=2, filters=ALL)
    assert made.documents == {"used": 6}
    assert len(server.requests) == 11


def test_a_slow_answer_is_given_up_and_the_run_goes_on(server, model):
    server.fail_next(None, Fault.slow(30), Fault.slow(30))
    made = synthesize(documents(3), model(timeout=0.3, max_retries=1), concurrency=1, filters=ALL)
    assert made.documents == {"used": 2, "failed": 1}
    assert made.problems == (f"{server.base_url}/chat/completions did not answer within 0.3 seconds",)


def test_requests_at_once_are_limited():
    import time

    def chat(request):
        time.sleep(0.05)
        return write(request)

    with OpenAIServer(chat=chat) as server:
        synthesize(documents(), OpenAIChat("m", base_url=server.base_url, api_key="any"), concurrency=3, filters=ALL)
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault.http(401, "bad key"), r"no queries were made: .* refused the API key \(HTTP 401: bad key\)"),
        (Fault.http(404, "no model"), r"no queries were made: .* knows no model 'chat-test', or is no chat endpoint"),
        (Fault.http(429, "pay", code="insufficient_quota"), "the quota of the API key is used up"),
    ],
)
def test_a_refused_key_stops_the_run_at_once(server, model, fault, sentence):
    server.fail_next(*[fault] * 12)
    with pytest.raises(LLMError, match=sentence):
        synthesize(documents(), model(), concurrency=2)
    assert len(server.requests) <= 3


def test_a_dead_endpoint_stops_the_run_after_a_few_documents(server, model):
    server.fail_next(*[Fault.http(500, "down")] * 100)
    with pytest.raises(LLMError, match=r"no queries were made: .* still failed after 1 retries \(HTTP 500: down\)"):
        synthesize(documents(), model(max_retries=1), concurrency=1)
    assert len(server.requests) == 10, "five documents, each tried twice"


def test_a_model_that_never_answers_in_form_is_asked_about_a_few_documents_only():
    many = [Document(f"n{number}", f"text number {number}") for number in range(40)]
    with OpenAIServer(chat=lambda request: "la la la") as server:
        llm = OpenAIChat("m", base_url=server.base_url, api_key="any")
        with pytest.raises(LLMError, match="openai:m answered 10 documents with nothing usable"):
            synthesize(many, llm, concurrency=1)
    assert len(server.requests) == 20


def test_an_endpoint_that_dies_on_the_way_leaves_what_it_gave(server, model):
    server.fail_next(*[None] * 4, *[Fault.http(401, "expired")] * 8)
    made = synthesize(documents(), model(), concurrency=1, filters=ALL)
    assert made.documents == {"used": 4, "failed": 1, "not_asked": 7}
    assert "HTTP 401: expired" in made.problems[0]


def test_tokens_and_cost_are_those_that_the_endpoint_counts(server, model):
    made = synthesize(documents(3), model(), prices=Prices(2.0, 10.0), filters=ALL)
    assert made.usage.replies == 3
    assert made.usage.counted
    assert made.usage.cost == pytest.approx((2 * made.usage.tokens_in + 10 * made.usage.tokens_out) / 1e6)
    assert made.usage.tokens_in > 300


def test_an_endpoint_that_counts_nothing_is_estimated_and_marked(server, model):
    server.fail_next(Fault.altered(lambda reply: reply.pop("usage")))
    made = synthesize(documents(2), model(), concurrency=1, filters=ALL)
    assert not made.usage.counted
    assert made.usage.tokens_in > 200


def test_the_estimate_beforehand_asks_nothing_and_is_near(server, model):
    before = estimate(documents(), model(), prices=Prices(1.0, 1.0))
    assert server.requests == []
    after = synthesize(documents(), model(), prices=Prices(1.0, 1.0), filters=ALL).usage
    assert before.replies == after.replies == 12
    assert after.cost / 2 < before.cost < 2 * after.cost
    assert not before.counted


def test_a_budget_is_not_exceeded(server, model):
    prices = Prices(1000.0, 1000.0)
    one = synthesize(documents(1), model(), prices=prices, filters=ALL).usage.cost
    made = synthesize(documents(), model(), prices=prices, budget=4.5 * one, concurrency=2, filters=ALL)
    assert 0 < made.usage.cost <= 4.5 * one
    assert made.documents["over_budget"] + made.documents["used"] == 12


def test_the_tutorials_own_call(server, model):
    docs = [document.text for document in documents()]
    ids = [document.id for document in documents()]
    questions, relevances = generate_queries(docs, ids, 10, model(), filters=ALL)
    assert len(questions) == len(relevances) == 10
    assert all(isinstance(question, str) for question in questions)
    assert all(len(one) == 1 and one[0][0] in ids and one[0][1] == 1 for one in relevances)


def test_no_more_documents_are_asked_about_than_the_number_needs(server, model):
    many = [Document(f"m{number}", f"word{number} thing{number} matter{number}") for number in range(500)]
    made = synthesize(many, model(), n=20, filters=ALL)
    assert len(made.queries) == 20
    assert len(server.requests) <= 64


def test_everything_wrong_with_the_arguments_at_once(model):
    with pytest.raises(InputError) as caught:
        synthesize(
            documents(), model(), n=0, per_document=-1, kinds=["riddle"], examples=["fine", " "], prices=Prices(-1, 0)
        )
    assert len(caught.value.problems) == 5
    for wrong in ("openai:", "gpt-4", 7, object):
        with pytest.raises(InputError, match="unknown language model"):
            synthesize(documents(), wrong)
    with pytest.raises(InputError, match="a budget needs prices"):
        synthesize(documents(), model(), budget=1.0)
    with pytest.raises(InputError, match="there is no document with a text"):
        synthesize([Document("empty", " ")], model())
    with pytest.raises(InputError, match=r"source\[0\] must be a Document"):
        synthesize(["text"], model())


def test_the_documents_text_is_whole_in_the_prompt(server, model):
    synthesize(documents(2), model(), concurrency=1, filters=ALL)
    from deepmemory.testing import ChatRequest

    assert [
        text_in(ChatRequest(r.body)).endswith(d.text) for r, d in zip(server.requests, documents(2), strict=True)
    ] == [
        True,
        True,
    ]


def test_documents_that_the_endpoint_finds_too_large_do_not_stop_the_run(server, model):
    server.fail_next(None, *[Fault.http(413, "too large")] * 7)
    made = synthesize(documents(), model(), concurrency=1, filters=ALL)
    assert made.documents == {"used": 5, "failed": 7}
    assert len(server.requests) == 12


def test_nothing_at_all_is_one_sentence_whatever_the_reason(model):
    with OpenAIServer(chat=lambda request: "la la la") as server:
        llm = OpenAIChat("m", base_url=server.base_url, api_key="any")
        with pytest.raises(
            LLMError, match=r"no queries were made: openai:m answered with nothing usable \(2 nonsense\)"
        ):
            synthesize(documents(2), llm)
    with pytest.raises(LLMError, match="the budget is too small for a single document"):
        synthesize(documents(2), model(), prices=Prices(1, 1), budget=0.0)


def test_a_text_that_two_documents_share_is_paid_for_once(server, model):
    twins = [Document("a", "the same text about ferns"), Document("b", "the same text about ferns")]
    made = synthesize(twins, model(), concurrency=1, filters=ALL)
    assert len(server.requests) == 1
    assert (made.usage.replies, made.reused.replies) == (1, 0)
    assert made.documents == {"used": 2}
