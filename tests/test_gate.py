"""What the gate lets through, from folds whose ranks are written by hand."""

import numpy as np
import pytest

from deepmemory.training.crossvalidation import FoldRun
from deepmemory.training.evidence import WITNESS, gather
from deepmemory.training.folds import Fold
from deepmemory.training.labels import Labels
from deepmemory.training.scoring import Ranks, ideal_gain
from deepmemory.training.settings import IDENTITY, Linear, Settings

N = 200
CANDIDATE = Settings((Linear(10.0, has_standins=True),))


def ranks(rank):
    rows = np.arange(len(rank))
    labels = Labels(len(rank), rows, rows, np.ones(len(rank), dtype=np.float32))
    return Ranks(labels, np.asarray(rank, dtype=np.int64), ideal_gain(labels))


def folds(kind, identity, witness, candidate):
    """Two folds of one kind, that judge half of the queries each."""
    return [
        FoldRun(
            Fold(kind, np.setdiff1d(np.arange(N), rows), rows),
            {IDENTITY: ranks(identity[rows]), WITNESS: ranks(witness[rows]), CANDIDATE: ranks(candidate[rows])},
        )
        for rows in (np.arange(0, N, 2), np.arange(1, N, 2))
    ]


def all_at(rank, *, first=()):
    """All queries' documents at one rank, but for those that are named."""
    found = np.full(N, rank)
    for row, there in first:
        found[row] = there
    return found


def test_what_finds_new_documents_is_let_through_where_known_ones_lose_less_than_noise():
    by_query = folds(
        "queries",
        all_at(30, first=[(0, 2), (1, 2)]),
        all_at(29, first=[(0, 2), (1, 2)]),
        all_at(20, first=[(0, 3), (1, 3)]),
    )
    by_document = folds("documents", all_at(30), all_at(29), all_at(5))
    evidence = gather(by_query + by_document, seed=0)
    assert evidence.winner == CANDIDATE
    assert -0.003 < evidence.by_query["ndcg@10"].lift < 0
    assert evidence.passes
    assert evidence.reason() == (
        "on queries for held-out documents nDCG@10 rose from 0.000 to 0.387, on held-out queries it fell from 0.006 "
        "to 0.005 (cross-validated, n = 200)"
    )


def test_a_winner_that_loses_on_both_kinds_together_is_kept_out():
    # without a fold's own queries the candidate looks good; on them it loses
    identity = all_at(8)
    candidate = np.where(np.arange(N) % 2, 1, 30)
    runs = folds("queries", identity, all_at(7), candidate) + folds("documents", identity, all_at(7), candidate)
    evidence = gather(runs, seed=0)
    assert evidence.winner == CANDIDATE
    assert evidence.by_query["ndcg@10"].lift < 0
    assert not evidence.passes
    assert "no candidate beat the plain search by more than noise" in evidence.reason()


@pytest.mark.parametrize(("climbing", "passes"), [(12, True), (2, False)])
def test_witness_and_winner_must_be_sure_together(climbing, passes):
    """A few relevant documents come a little nearer; the others stay where they are."""
    nearer = np.full(N, 9)
    nearer[: 5 * climbing : 5] = 8
    runs = [run for kind in ("queries", "documents") for run in folds(kind, all_at(9), nearer, nearer)]
    evidence = gather(runs, seed=0)
    assert evidence.by_query["ndcg@10"].lift > 0
    assert evidence.passes == passes
