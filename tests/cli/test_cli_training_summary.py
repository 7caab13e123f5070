"""What `deepmemory train` says it measured is what it measured."""

import pytest

from deepmemory.cli.train import training_summary


@pytest.mark.parametrize(
    ("n_queries", "n_measured", "said"),
    [(120, 120, "the 120 questions themselves"), (100_000, 4_000, "4,000 of the 100,000 questions themselves")],
)
def test_the_summary_names_the_questions_that_were_left_out_of_training(n_queries, n_measured, said):
    figures = {"n_queries": n_measured, "baseline": 0.4, "trained": 0.5, "lift": 0.1, "interval": [0.08, 0.12]}
    results = {
        "active": True,
        "layer": "layer-1",
        "n_queries": n_queries,
        "by_query": {"ndcg@10": {**figures, "p_value": 0.0001}},
        "settings": {},
    }
    assert f"Measured on {said}, each while it was left out of training" in training_summary(results)
