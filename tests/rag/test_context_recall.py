"""ragas' context recall, by ids and by a model's judgement, against figures that can be worked out by hand."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from deepmemory.errors import InputError, LLMError, MissingExtraError
from deepmemory.rag import ContextRecall, Source, context_recall, convert_relevance_to_ground_truth
from deepmemory.testing import Fault

FOUND = {"one": ["a", "x"], "two": ["x", "b"], "three": ["x", "y"], "four": []}
RELEVANCE = [[("a", 1.0)], [("b", 1.0), ("c", 2.0), ("x", 0.0)], [("c", 1.0)], [("a", 1.0)]]
TEXTS = {"a": "Ice is frozen. Ice is water.", "b": "Steam is hot.", "c": "Fog is wet. Dew is wet."}


def retrieve(question, k):
    return [Source(id, TEXTS.get(id, f"nothing about {id}")) for id in FOUND[question]][:k]


def judge(request):
    """An honest judge: a statement of the answer is attributed where the context has it, word for word."""
    asked = json.loads(request.prompt.rpartition("\ninput: ")[2].rpartition("\nOutput:")[0])
    statements = [part.strip() for part in asked["answer"].split(".") if part.strip()]
    return {
        "classifications": [
            {"statement": each, "reason": "looked it up", "attributed": int(each in asked["context"])}
            for each in statements
        ]
    }


def test_by_ids():
    recall = context_recall(retrieve, list(FOUND), RELEVANCE)
    assert recall.id_scores == (1.0, 0.5, 0.0, 0.0)
    assert recall.id_based == 0.375
    assert recall.llm_judged is None
    assert str(recall) == "id_based_context_recall: 0.375"


def test_by_ids_at_a_smaller_k():
    assert context_recall(retrieve, list(FOUND), RELEVANCE, k=1).id_scores == (1.0, 0.0, 0.0, 0.0)


def test_as_a_model_judges(server, script):
    script.answers = [judge] * 3
    truths = convert_relevance_to_ground_truth(TEXTS, RELEVANCE)
    recall = context_recall(retrieve, list(FOUND), RELEVANCE, llm="openai:judge", ground_truths=truths)
    # Both of two statements; one of three; none of two; and no context to ask about.
    assert recall.judged_scores == (1.0, 1 / 3, 0.0, 0.0)
    assert recall.llm_judged == pytest.approx(1 / 3)
    assert recall.id_scores == (1.0, 0.5, 0.0, 0.0)
    assert len(server.requests) == 3
    assert recall.usage.total_tokens > 0
    assert str(recall).splitlines()[0] == f"context_recall_score: {recall.llm_judged}"
    assert recall.as_dict()["context_recall_score"] == recall.llm_judged


def test_both_sides_of_a_store(store):
    """Without a layer both settings are the same search."""
    sides = {
        deep_memory: context_recall(
            lambda question, k, on=deep_memory: store.search(question, k, deep_memory=on),
            ["frozen solid", "near the ground"],
            [[("ice", 1.0)], [("steam", 1.0)]],
            k=1,
        ).id_based
        for deep_memory in (False, True)
    }
    assert sides == {False: 0.5, True: 0.5}


def test_queries_without_a_judgement_are_told_and_do_not_count(server, script):
    good = {"classifications": [{"statement": "s", "reason": "r", "attributed": 1}]}
    script.answers = [{"classifications": []}, good]
    recall = context_recall(
        retrieve, ["one", "two"], RELEVANCE[:2], llm="openai:judge", ground_truths=["s", "s"], concurrency=1
    )
    assert recall.judged_scores == (None, 1.0)
    assert recall.llm_judged == 1.0
    assert "named no statement" in recall.unjudged[0]
    assert "1 of 2 queries could not be judged" in str(recall)


def test_a_judge_of_nonsense_is_an_error(server, script):
    script.answers = ["I like ice."] * 20
    with pytest.raises(LLMError, match="none of the 1 queries could be judged"):
        context_recall(retrieve, ["one"], RELEVANCE[:1], llm="openai:judge", ground_truths=["s"])


def test_an_endpoint_that_refuses_ends_it_at_once(server):
    server.fail_next(*[Fault.http(401, "no")] * 4)
    with pytest.raises(LLMError, match="refused the API key"):
        context_recall(retrieve, list(FOUND), RELEVANCE, llm="openai:judge", ground_truths=["s"] * 4, concurrency=1)
    assert len(server.requests) == 1


def test_it_works_where_an_event_loop_is_running(server, script):
    script.answers = [judge]

    async def notebook():
        return context_recall(retrieve, ["one"], RELEVANCE[:1], llm="openai:judge", ground_truths=[["Ice is frozen."]])

    recall = asyncio.run(notebook())
    assert (recall.id_based, recall.llm_judged) == (1.0, 1.0)


def test_bad_input_is_one_sentence(server):
    with pytest.raises(InputError, match="relevance"):
        context_recall(retrieve, ["one"], [])
    with pytest.raises(InputError, match="queries is empty"):
        context_recall(retrieve, [], [])
    with pytest.raises(InputError, match="a judge needs ground_truths"):
        context_recall(retrieve, ["one"], RELEVANCE[:1], llm="openai:judge")
    with pytest.raises(InputError, match=r"each of the 1 queries, found 2"):
        context_recall(retrieve, ["one"], RELEVANCE[:1], llm="openai:judge", ground_truths=["a", "b"])
    with pytest.raises(InputError, match=r"ground_truths\[0\] is empty"):
        context_recall(retrieve, ["one"], RELEVANCE[:1], llm="openai:judge", ground_truths=[[]])
    with pytest.raises(InputError, match="no text for the document 'z'"):
        convert_relevance_to_ground_truth(TEXTS, [[("z", 1.0)]])
    assert server.requests == []


def test_ground_truths_are_texts_by_query():
    assert convert_relevance_to_ground_truth(TEXTS, RELEVANCE[:2]) == [[TEXTS["a"]], [TEXTS["b"], TEXTS["c"]]]


def test_ragas_is_loaded_only_where_it_is_used_and_tracks_nothing(tmp_path, server, script):
    script.answers = [judge]
    code = (
        "import os, sys\n"
        "from deepmemory.rag import context_recall\n"
        "assert 'ragas' not in sys.modules\n"
        "from deepmemory.rag import Source\n"
        "search = lambda question, k: [Source('a', 'Ice is cold.')]\n"
        "recall = context_recall(search, ['q'], [[('a', 1)]], llm='openai:judge', ground_truths=['Ice is cold.'])\n"
        "assert (recall.id_based, recall.llm_judged) == (1.0, 1.0)\n"
        "from ragas._analytics import do_not_track\n"
        "assert do_not_track()\n"
    )
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **home})
    assert not list(tmp_path.rglob("*ragas*"))


def test_without_ragas_the_pip_command_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepmemory\[rag\]'"):
        context_recall(retrieve, ["one"], RELEVANCE[:1])


def test_the_mean_of_what_there_is():
    assert ContextRecall(3, (1.0, 0.0), (None, None)).llm_judged is None
    assert ContextRecall(3, (1.0, 0.0), (0.5, None)).llm_judged == 0.5
