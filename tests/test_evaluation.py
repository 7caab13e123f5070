"""Evaluation through its public names: figures worked by hand, groups, leaks, context, words, and bad input."""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory.backends.base import Ranking
from deepmemory.data import LabelledQueries
from deepmemory.errors import InputError
from deepmemory.evaluation import (
    WITH,
    WITHOUT,
    Evaluation,
    decode_evaluation,
    depth_for,
    encode_evaluation,
    evaluate_rankings,
)


def ranking(*ids: str) -> Ranking:
    return Ranking(ids, np.linspace(1.0, 0.5, len(ids), dtype=np.float32))


def labelled(*qrels: Mapping[str, float]) -> LabelledQueries:
    return LabelledQueries(tuple(f"question {row}" for row in range(len(qrels))), qrels)


def hit_at(rank: int, *, right: str = "right", depth: int = 100) -> Ranking:
    """A ranking with the right answer at one rank (past the depth: nowhere) and wrong ones at all others."""
    ids = [f"wrong{place}" for place in range(depth)]
    if rank <= depth:
        ids[rank - 1] = right
    return ranking(*ids)


def one_answer(before: Sequence[int], after: Sequence[int], **options: object) -> Evaluation:
    """Evaluate queries with one right answer each, found at these ranks."""
    queries = labelled(*[{"right": 1.0}] * len(before))
    return evaluate_rankings(queries, [*map(hit_at, before)], [*map(hit_at, after)], **options)  # type: ignore[arg-type]


@pytest.fixture
def four() -> Evaluation:
    """Four queries with hand-made hits: a gain, a loss, no change, and two answers of which one more is found."""
    queries = labelled({"a": 1.0}, {"b": 1.0}, {"c": 1.0}, {"d": 1.0, "e": 0.5})
    baseline = [ranking("x", "y", "a"), ranking("b", "x", "y"), ranking("x", "c", "y"), ranking("d", "x", "y")]
    trained = [ranking("a", "x", "y"), ranking("x", "b", "y"), ranking("x", "c", "y"), ranking("d", "e", "y")]
    return evaluate_rankings(queries, baseline, trained, top_k=[1, 2, 3])


def test_figures_worked_by_hand(four: Evaluation) -> None:
    assert four[WITHOUT] == pytest.approx({"recall@1": 1.5 / 4, "recall@2": 2.5 / 4, "recall@3": 3.5 / 4})
    assert four[WITH] == pytest.approx({"recall@1": 1.5 / 4, "recall@2": 4 / 4, "recall@3": 4 / 4})
    third, half = 1 / np.log2(4), 1 / np.log2(3)
    graded = 1 / (1 + 0.5 * half)
    assert four.metrics["ndcg@10"].baseline == pytest.approx((third + 1 + half + graded) / 4)
    assert four.metrics["ndcg@10"].trained == pytest.approx((1 + half + half + 1) / 4)
    assert four.metrics["mrr@10"].lift == pytest.approx((1 + 0.5 + 0.5 + 1) / 4 - (1 / 3 + 1 + 0.5 + 1) / 4)
    assert list(four.metrics) == ["recall@1", "recall@2", "recall@3", "recall@10", "ndcg@10", "mrr@10"]


def test_each_query_tells_its_own_story(four: Evaluation) -> None:
    gained, lost, same, more = four.queries
    assert (gained.baseline_rank, gained.trained_rank) == (3, 1)
    assert (lost.baseline_rank, lost.trained_rank) == (1, 2)
    assert gained.baseline_ids == ("x", "y", "a")
    assert same.lift == 0
    assert more.lift > 0
    assert four.gained(10) == [gained, more]
    assert four.gained(1) == [gained]
    assert four.lost(10) == [lost]


def test_the_original_keys_are_a_mapping_that_serialises(four: Evaluation) -> None:
    assert list(four) == ["without model", "with model"]
    assert four["with model"]["recall@2"] == 1.0
    with pytest.raises(KeyError):
        four["recall@1"]
    loaded = json.loads(json.dumps(four.as_dict(), allow_nan=False))
    assert loaded["with model"] == four["with model"]
    assert loaded["n"] == 4
    assert loaded["overall"]["metrics"]["recall@2"]["lift"] == pytest.approx(1.5 / 4)
    assert loaded["queries"][3]["relevance"] == [["d", 1.0], ["e", 0.5]]


def test_prints_the_two_lists_of_the_original() -> None:
    evaluation = one_answer([1] * 9 + [60] * 91, [1] * 19 + [7] * 81, embedding_seconds=0.8123)
    out = io.StringIO()
    evaluation.print(out)
    assert out.getvalue().splitlines()[:15] == [
        "Embedding queries took 0.81 seconds",
        "---- Evaluating without Deep Memory ----",
        "Recall@1:\t  9.0%",
        "Recall@3:\t  9.0%",
        "Recall@5:\t  9.0%",
        "Recall@10:\t  9.0%",
        "Recall@50:\t  9.0%",
        "Recall@100:\t  100.0%",
        "---- Evaluating with Deep Memory ----",
        "Recall@1:\t  19.0%",
        "Recall@3:\t  19.0%",
        "Recall@5:\t  19.0%",
        "Recall@10:\t  100.0%",
        "Recall@50:\t  100.0%",
        "Recall@100:\t  100.0%",
    ]
    assert "Deep Memory found more: recall@10 rose from 9.0% to 100.0% (+91.0 points" in out.getvalue()
    assert "100 queries" in out.getvalue()


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([30] * 40, [2] * 40, "Deep Memory found more: recall@10 rose from 0.0% to 100.0% (+100.0 points"),
        ([2] * 40, [30] * 40, "Deep Memory found less: recall@10 fell from 100.0% to 0.0% (-100.0 points"),
        ([2, 30] * 20, [30, 2] * 20, "No difference in recall@10 beyond chance: 50.0% without, 50.0% with"),
        ([30] * 3, [2] * 3, "No difference in recall@10 beyond chance: 0.0% without, 100.0% with"),
        ([5, 9, 200] * 5, [5, 9, 200] * 5, "No change: both searches returned the same hits"),
        ([30], [2], "One query can't tell a lift from chance."),
    ],
)
def test_the_verdict_claims_no_more_than_the_evidence(before: list[int], after: list[int], verdict: str) -> None:
    assert verdict in str(one_answer(before, after))


def test_identical_searches_are_said_to_be_so_and_save_nothing() -> None:
    evaluation = one_answer([1, 8, 300], [1, 8, 300], document_text=lambda ids: dict.fromkeys(ids, "text"))
    assert evaluation.identical
    assert {(lift.lift, lift.interval, lift.p_value) for lift in evaluation.metrics.values()} == {
        (0.0, (0.0, 0.0), 1.0)
    }
    assert not evaluation.saving.saves
    assert evaluation.saving.tokens_saved is None
    assert "no context is saved" in str(evaluation)


def test_a_loss_at_the_top_is_told_beside_a_gain_below() -> None:
    evaluation = one_answer([1] * 10 + [40] * 90, [2] * 10 + [9] * 90)
    assert "Deep Memory found more" in str(evaluation)
    assert "Lower with Deep Memory: Recall@1 by 10.0 points." in str(evaluation)
    perhaps = one_answer([1] * 2 + [40] * 90, [2] * 2 + [9] * 90)
    assert "Lower with Deep Memory, though by chance perhaps: Recall@1 by 2.2 points." in str(perhaps)


def test_few_queries_are_warned_about() -> None:
    assert "With only 12 queries the intervals are rough" in str(one_answer([9] * 12, [1] * 12))
    assert "intervals are rough" not in str(one_answer([9] * 60, [1] * 60))


def test_seen_and_unseen_documents_are_told_apart() -> None:
    queries = labelled({"a": 1.0, "z": 1.0}, {"b": 1.0}, {"c": 1.0})
    baseline = [ranking("x", "a", "z"), ranking("x", "y", "b"), ranking("c", "x", "y")]
    trained = [ranking("a", "z", "x"), ranking("b", "x", "y"), ranking("x", "c", "y")]
    evaluation = evaluate_rankings(queries, baseline, trained, top_k=[1], seen_ids=["z", "b", "unrelated"])
    assert evaluation.seen is not None
    assert evaluation.unseen is not None
    assert (evaluation.seen.n, evaluation.unseen.n) == (2, 1)
    assert evaluation.seen["recall@1"].lift == pytest.approx((0.5 + 1) / 2)
    assert evaluation.unseen["recall@1"].lift == -1
    assert [result.seen for result in evaluation.queries] == [True, True, False]
    assert "Seen documents (2 queries): Recall@10" in str(evaluation)
    assert "Unseen documents (1 query): Recall@10" in str(evaluation)


def test_without_training_labels_there_is_no_split() -> None:
    evaluation = one_answer([5, 5], [1, 1])
    assert evaluation.seen is None
    assert evaluation.unseen is None
    assert {result.seen for result in evaluation.queries} == {None}
    all_unseen = one_answer([5, 5], [1, 1], seen_ids=())
    assert all_unseen.seen is None
    assert all_unseen.unseen is not None
    assert all_unseen.unseen.n == 2


def test_leaks_are_named_and_do_not_count_for_the_verdict() -> None:
    # Only the two leaked queries gain, so nothing is left to claim once they are taken out.
    evaluation = one_answer(
        [30, 30, 3, 3, 3],
        [1, 1, 3, 3, 3],
        seen_ids=["right"],
        training_queries=["  QUESTION\u00a00 ", "question 1", "another"],
    )
    assert evaluation.leaks == ("question 0", "question 1")
    assert evaluation.unleaked is not None
    assert evaluation.unleaked.n == 3
    assert evaluation.unleaked["recall@10"].lift == 0
    assert evaluation.seen is not None
    assert evaluation.seen.n == 3
    assert evaluation["with model"]["recall@10"] == 1.0
    text = str(evaluation)
    assert "2 of the 5 queries were trained on ('question 0', 'question 1')" in text
    assert "---- Lift, 3 queries not trained on ----" in text
    assert evaluation.gained(5) == []
    assert evaluation.saving.target == 1.0
    assert "No difference in recall@10" in text


def test_when_every_query_leaked_the_figures_are_called_memory() -> None:
    evaluation = one_answer([30, 30], [1, 1], training_queries=["question 0", "question 1"], seen_ids=["right"])
    assert len(evaluation.leaks) == evaluation.n == 2
    assert evaluation.unleaked is None
    assert evaluation.seen is not None
    assert evaluation.seen.n == 2
    assert "Every one of these queries was trained on" in str(evaluation)


def test_the_smallest_k_that_keeps_the_recall_and_the_tokens_it_saves() -> None:
    texts = {"right": "r" * 400, **{f"wrong{place}": "w" * 40 for place in range(100)}}
    lookups: list[int] = []

    def document_text(ids: Sequence[str]) -> dict[str, str]:
        lookups.append(len(ids))
        return {document: texts[document] for document in ids}

    evaluation = one_answer([10, 10, 50, 50], [4, 4, 90, 90], document_text=document_text)
    saving = evaluation.saving
    assert (saving.target, saving.baseline_k, saving.trained_k) == (0.5, 10, 4)
    assert saving.baseline_tokens == pytest.approx((2 * (9 * 10 + 100) + 2 * (10 * 10)) / 4)
    assert saving.trained_tokens == pytest.approx((2 * (3 * 10 + 100) + 2 * (4 * 10)) / 4)
    assert saving.tokens_saved == pytest.approx(145 - 85)
    assert saving.estimated
    assert "85 tokens of context a question instead of 145 (an estimate: characters / 4)" in str(evaluation)
    counted = one_answer([10], [4], document_text=document_text, count_tokens=len).saving
    assert (counted.baseline_tokens, counted.estimated) == (9 * 40 + 400, False)


def test_texts_are_looked_up_in_bounded_batches_and_gone_ones_weigh_nothing() -> None:
    n = 400
    queries = labelled(*[{f"{row}-0": 1.0} for row in range(n)])
    run = [ranking(*[f"{row}-{place}" for place in reversed(range(10))]) for row in range(n)]
    better = [ranking(*[f"{row}-{place}" for place in range(10)]) for row in range(n)]
    lookups: list[int] = []

    def document_text(ids: Sequence[str]) -> dict[str, str]:
        lookups.append(len(ids))
        return {document: "four" for document in ids if not document.endswith("-9")}

    saving = evaluate_rankings(queries, run, better, document_text=document_text).saving
    assert saving.trained_k == 1
    assert (saving.baseline_tokens, saving.trained_tokens) == (9.0, 1.0)
    assert sum(lookups) >= 10 * n
    assert max(lookups) <= 1000


@pytest.mark.parametrize(
    ("before", "after", "trained_k", "words"),
    [
        ([2, 2], [90, 2], 90, "it takes the top 90 to reach the recall@10"),
        ([2, 2], [200, 2], None, "no number of hits reaches the recall@10"),
        ([50, 50], [1, 1], None, "nothing relevant is in the top 10"),
        ([3, 3], [3, 3], 3, "so no context is saved"),
        (
            [7, 7],
            [1, 1],
            1,
            "the top hit reaches the recall@10 of the search without it (100.0%); without it, the top 7",
        ),
    ],
)
def test_no_saving_is_claimed_that_is_not_there(
    before: list[int], after: list[int], trained_k: int | None, words: str
) -> None:
    evaluation = one_answer(before, after)
    assert evaluation.saving.trained_k == trained_k
    assert evaluation.saving.tokens_saved is None
    assert words in str(evaluation)


def test_fewer_documents_than_k() -> None:
    queries = labelled({"a": 1.0}, {"b": 1.0})
    evaluation = evaluate_rankings(queries, [ranking("b", "a"), ranking("a", "b")], [ranking("a", "b"), ranking("b")])
    assert evaluation["without model"]["recall@1"] == 0
    assert evaluation["without model"]["recall@100"] == 1
    assert evaluation["with model"]["recall@100"] == 1
    assert [point.k for point in evaluation.curve] == [1, 2]


def test_searches_that_find_nothing_at_all() -> None:
    evaluation = evaluate_rankings(labelled({"a": 1.0}, {"b": 1.0}), [ranking()] * 2, [ranking()] * 2)
    assert set(evaluation["with model"].values()) == {0.0}
    assert evaluation.queries[0].trained_rank is None
    assert evaluation.identical


def test_one_query_has_no_interval_in_words() -> None:
    assert "95% interval" not in str(one_answer([7], [1]))
    assert "one query, no interval" in str(one_answer([7], [1]))


def test_texts_of_the_examples_are_kept_and_no_others() -> None:
    asked: set[str] = set()

    def document_text(ids: Sequence[str]) -> dict[str, str]:
        asked.update(ids)
        return {document: f"text of {document}" for document in ids}

    queries = labelled({"a": 1.0}, {"b": 1.0})
    baseline = [ranking("x", "a"), ranking("b", "quiet")]
    evaluation = evaluate_rankings(
        queries, baseline, [ranking("a", "x"), ranking("b", "quiet")], document_text=document_text
    )
    assert evaluation.texts == {"a": "text of a", "x": "text of x"}
    assert "quiet" in asked  # its length counts as context all the same


def test_duplicate_hits_count_once() -> None:
    queries = labelled({"a": 1.0, "b": 1.0})
    evaluation = evaluate_rankings(queries, [ranking("a", "a", "x")], [ranking("a", "b", "x")], top_k=[2])
    assert evaluation["without model"] == {"recall@2": 0.5}


def test_depths_are_sorted_and_counted_once() -> None:
    evaluation = one_answer([3], [1], top_k=[5, np.int64(1), 5])
    assert evaluation.top_k == (1, 5)
    assert list(evaluation["with model"]) == ["recall@1", "recall@5"]
    assert depth_for([1, 5]) == 100
    assert depth_for([250, 5]) == 250


@pytest.mark.parametrize("top_k", [[], [0], [1, -3], [1.5], ["10"], [True]])
def test_depths_that_are_none(top_k: list[object]) -> None:
    with pytest.raises(InputError, match="top_k must list whole numbers of 1 or more"):
        one_answer([3], [1], top_k=top_k)


def test_no_queries_and_lengths_that_differ() -> None:
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate_rankings(LabelledQueries((), ()), [], [])
    with pytest.raises(InputError, match="each of the 2 queries, but there are 2 without Deep Memory and 1 with it"):
        evaluate_rankings(labelled({"a": 1.0}, {"b": 1.0}), [ranking("a")] * 2, [ranking("a")])


ranks = st.lists(st.integers(1, 120), min_size=2, max_size=30)


@settings(max_examples=25, deadline=None)
@given(ranks.flatmap(lambda before: st.tuples(st.just(before), st.permutations(before))), st.randoms())
def test_the_order_of_queries_changes_no_figure(pair: tuple[list[int], list[int]], random: object) -> None:
    before, after = pair
    order = sorted(range(len(before)), key=lambda _: random.random())  # type: ignore[attr-defined]
    one = one_answer(before, after)
    other = one_answer([before[row] for row in order], [after[row] for row in order])
    for name, lift in one.metrics.items():
        assert other.metrics[name].baseline == pytest.approx(lift.baseline)
        assert other.metrics[name].trained == pytest.approx(lift.trained)
    assert one.saving.trained_k == other.saving.trained_k


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 120), st.integers(1, 120), st.booleans()), min_size=1, max_size=30))
def test_groups_add_up_and_curves_rise(rows: list[tuple[int, int, bool]]) -> None:
    queries = labelled(*[{f"right{row}": 1.0} for row in range(len(rows))])
    baseline = [hit_at(rank, right=f"right{row}") for row, (rank, _, _) in enumerate(rows)]
    trained = [hit_at(rank, right=f"right{row}") for row, (_, rank, _) in enumerate(rows)]
    seen_ids = [f"right{row}" for row, (_, _, seen) in enumerate(rows) if seen]
    evaluation = evaluate_rankings(queries, baseline, trained, seen_ids=seen_ids)
    groups = [group for group in (evaluation.seen, evaluation.unseen) if group is not None]
    assert sum(group.n for group in groups) == evaluation.n
    for name, lift in evaluation.metrics.items():
        assert sum(group.n * group[name].trained for group in groups) == pytest.approx(evaluation.n * lift.trained)
        assert lift.interval[0] - 1e-12 <= lift.lift <= lift.interval[1] + 1e-12
        assert 0 < lift.p_value <= 1
    for side in ("baseline", "trained"):
        curve = [getattr(point, side) for point in evaluation.curve]
        assert curve == sorted(curve)
    assert evaluation.curve[-1].k == 100


def test_the_same_seed_gives_the_same_figures() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.integers(1, 120, 50).tolist(), rng.integers(1, 60, 50).tolist()
    assert one_answer(before, after, seed=3).as_dict() == one_answer(before, after, seed=3).as_dict()
    assert one_answer(before, after, seed=3).metrics != one_answer(before, after, seed=4).metrics


def parts(evaluation: Evaluation) -> dict[str, object]:
    return {field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)}


def test_an_evaluation_goes_through_json_whole(four: Evaluation) -> None:
    leaky = evaluate_rankings(
        labelled({"a": 1.0}, {"b": 0.5}),
        [ranking("x", "a"), ranking("b", "x")],
        [ranking("a", "x"), ranking("b", "x")],
        seen_ids={"a"},
        training_queries=["question 1"],
        embedding_seconds=0.5,
        n_documents=3,
        document_text=lambda ids: {id: f"text of {id}" for id in ids},
        seed=7,
    )
    for evaluation in (four, leaky):
        again = decode_evaluation(json.loads(json.dumps(encode_evaluation(evaluation), allow_nan=False)))
        assert parts(again) == parts(evaluation)
        assert str(again) == str(evaluation)


@pytest.mark.parametrize("values", [{}, {"overall": None}, [], {"overall": {"n": 1, "metrics": []}}])
def test_what_is_no_evaluation_is_refused(values: object) -> None:
    with pytest.raises(InputError, match="no evaluation"):
        decode_evaluation(values)  # type: ignore[arg-type]
