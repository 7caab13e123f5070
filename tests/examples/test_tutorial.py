"""The tutorial runs, on a real hub and a real documentation site, and prints what its document says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "examples" / "tutorial.py"
NUMBER = r"(\d+(?:\.\d+)?)"


@pytest.fixture(scope="module")
def printed():
    """What a small run prints; it starts the hub, the site and the language model itself."""
    for extra in ("fastapi", "torch", "ragas", "langchain_classic", "langchain_openai", "html2text"):
        pytest.importorskip(extra)
    given = ("DEEPMEMORY_HUB_URL", "DEEPMEMORY_TOKEN", "OPENAI_BASE_URL", "OPENAI_API_KEY")
    environment = {name: value for name, value in os.environ.items() if name not in given}
    command = [sys.executable, str(TUTORIAL), "--pages", "2", "--queries", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_says_what_it_runs_on(printed):
    assert re.search(r"The hub is http://127\.0\.0\.1:\d+, started for this run", printed)
    assert re.search(r"The site is http://127\.0\.0\.1:\d+/, Python's own documentation server", printed)
    assert "The language model is a small stand-in" in printed


def test_the_steps_come_in_the_tutorials_order(printed):
    heads = ["1. Dataset creation", "2. Generating synthetic queries", "3. Evaluating", "3.1", "3.2", "3.3", "3.4"]
    places = [printed.index(f"\n{head}") for head in heads]
    assert places == sorted(places)


def test_documents_of_the_site_went_to_the_hub(printed):
    assert re.search(r"^2 pages of http://127", printed, re.MULTILINE)
    found = re.search(r"^(\d+) documents in hub://tutorial/python-docs$", printed, re.MULTILINE)
    assert int(found[1]) > 15
    asked = re.search(r"^(\d+) questions about (\d+) documents, (\d+) of them to train", printed, re.MULTILINE)
    questions, documents, trained = map(int, asked.groups())
    assert (documents, trained) == (int(found[1]), questions // 2)
    assert 25 <= questions <= 40


def test_the_training_is_shown_as_the_tutorial_shows_it(printed):
    lines = printed.splitlines()
    assert lines.count("-" * 62) == 5
    assert any(re.match(r"\| status +\| completed", line) for line in lines)
    assert any(line.startswith("| results") for line in lines)


def test_recall_is_listed_without_and_with(printed):
    listed = printed.partition("3.1 Recall")[2].partition("3.2")[0]
    without, _, trained = listed.partition("---- Evaluating with Deep Memory")
    for side in (without, trained.partition("---- Lift")[0]):
        found = re.findall(rf"Recall@(\d+):\s+{NUMBER}%", side)
        assert [int(k) for k, _ in found] == [1, 3, 5, 10, 50, 100]
        values = [float(percent) for _, percent in found]
        assert values == sorted(values)
        assert 0 < values[3] <= 100


def test_context_recall_is_measured_for_both_settings(printed):
    measured = re.findall(
        rf"Evaluating with deep_memory = (False|True)\n=+\ncontext_recall_score = {NUMBER}\n"
        rf"id_based_context_recall = {NUMBER}\n",
        printed,
    )
    assert [setting for setting, _, _ in measured] == ["False", "True"]
    for _, judged, by_ids in measured:
        assert 0 < float(by_ids) <= float(judged) <= 1  # a context may support a statement whose document it isn't


def test_one_question_is_answered_both_ways(printed):
    inference = printed.partition("3.3 Inference")[2]
    assert re.search(r"^Question: \S.*\nWith Deep Memory: \S.*\nWithout Deep Memory: \S", inference, re.MULTILINE)
    assert "The same with its sources:" in inference


def test_the_document_shows_the_code_that_runs():
    code = {line.partition("  # noqa")[0].strip() for line in TUTORIAL.read_text(encoding="utf-8").splitlines()}
    document = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    assert len(blocks) >= 8
    shown = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    assert [line for line in shown if line not in code] == []
