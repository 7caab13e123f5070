"""The command line's walk with ``--store hub://...``."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import synonyms

from deepmemory import VectorStore
from deepmemory.cli.ending import run

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from deepmemory_world import vector_of, write_handbook

from deepmemory.testing import OpenAIServer


@pytest.fixture
def command(capsys, path, monkeypatch, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """Runs a command on the dataset of this test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPMEMORY_STORE", path)

    def ran(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return ran


def test_the_whole_walk(command, path, tmp_path, monkeypatch) -> None:
    handbook = write_handbook(tmp_path / "handbook")
    with OpenAIServer(embed=vector_of) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        code, out, err = command("ingest", handbook, "--embedder", "openai:words", "--store", path)
        assert (code, err) == (0, "")
        assert f"The store {path} holds 60 documents." in out
        [again] = json.loads(command("ingest", handbook, "--json")[1])
        assert (again["pages_unchanged"], again["chunks_added"]) == (60, 0)
        documents = json.loads(command("documents", "--json")[1])
        assert len(documents) == 60

        questions = tmp_path / "train.jsonl"
        lines = []
        for number in range(150):
            document = documents[number % 60]
            topics = document["text"].split("\n\n")[1].replace("term", "synonym")
            lines.append(json.dumps({"query": f"q{number} {topics}", "relevance": [[document["id"], 1.0]]}))
        questions.write_text("\n".join(lines))
        code, out, err = command("train", "--queries", questions)
        assert (code, err) == (0, "")
        assert "Layer v1 is on." in " ".join(out.split())

        found = json.loads(command("search", "synonym1", "synonym2", "--json")[1])
        assert (found["layer"], len(found["hits"])) == ("v1", 5)
        assert json.loads(command("search", "term1", "--mode", "words", "--k", "3", "--json")[1])["hits"]
        explained = json.loads(command("search", "synonym1", "synonym2", "--explain", "--json")[1])
        assert (explained["layer"], [hit["id"] for hit in explained["hits"]]) == (
            "v1",
            [h["id"] for h in found["hits"]],
        )
        diagnosis = json.loads(command("diagnose", "--queries", questions, "--test-queries", questions, "--json")[1])
        assert (diagnosis["n_queries"], diagnosis["n_documents"]) == (150, 60)
        assert "leaks" in {finding["kind"] for finding in diagnosis["findings"]}
        assert "completed" in command("status")[1]
        [job] = json.loads(command("jobs", "--json")[1])
        assert job["results"]["layer"] == "v1"
        code, out, err = command("cancel")
        assert (code, "ended already" in err) == (1, True)
        code, out, err = command("evaluate", "--queries", questions, "--report", "report.html")
        assert (code, "---- Evaluating with Deep Memory ----" in out) == (0, True)
        assert path in (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "v1" in command("layers")[1]
        assert json.loads(command("layers", "--off", "--json")[1])[0]["active"] is False
        info = json.loads(command("info", "--json")[1])
        assert (info["path"], info["documents"], info["layers"], info["layer"]) == (path, 60, ["v1"], None)


def test_ctrl_c_cancels_the_training_on_the_hub(path, tmp_path, until) -> None:
    ids, texts = synonyms.documents(600)
    queries, relevance = synonyms.questions(texts, ids, n=3_000)
    rows = zip(queries, relevance, strict=True)
    lines = [json.dumps({"query": query, "relevance": pairs}) for query, pairs in rows]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    with OpenAIServer(embed=lambda text: synonyms.word_vectors([text])[0].tolist()) as endpoint:
        environment = {**os.environ, "OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": "any"}
        with pytest.MonkeyPatch.context() as patch:
            for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
                patch.setenv(name, environment[name])
            store = VectorStore(path, "openai:words")
            store.add(texts, ids=ids)
        command = [sys.executable, "-m", "deepmemory", "train", "--queries", "train.jsonl", "--store", path]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as training:
            until(lambda: any(job.state == "training" for job in store.deep_memory.list_jobs(verbose=False)))
            training.send_signal(signal.SIGINT)
            assert "Training was cancelled" in training.communicate()[1]
            assert training.returncode == 130
        (job,) = store.deep_memory.list_jobs(verbose=False)
        assert store.deep_memory.wait(job.id).state == "cancelled"
        store.close()


def test_by_default_the_hub_embeds_what_is_ingested(command, tmp_path) -> None:
    (tmp_path / "ice.md").write_text("# Ice\n\nIce is frozen water.\n")
    (tmp_path / "bread.md").write_text("# Bread\n\nBread is baked in an oven.\n")
    assert command("ingest", tmp_path / "ice.md", tmp_path / "bread.md")[0] == 0
    assert "ice.md" in command("search", "what does water become when it freezes", "--k", "1")[1]


def test_mistakes_get_one_sentence(command, path, monkeypatch) -> None:
    code, out, err = command("search", "anything")
    assert (code, out) == (1, "")
    assert "there is no dataset" in err
    assert err.endswith(f"To make one: deepmemory ingest FOLDER_OR_URL --store {path}\n")
    code, out, err = command("info", "--store", "hub://acme")
    assert (code, "hub://ORGANISATION/NAME" in err) == (1, True)
    monkeypatch.setenv("DEEPMEMORY_TOKEN", "dm_unknown")
    code, out, err = command("info")
    assert (code, err.startswith("Error: the token is not known")) == (1, True)
    monkeypatch.delenv("DEEPMEMORY_TOKEN")
    code, out, err = command("jobs")
    assert (code, "needs a token" in err) == (1, True)
    monkeypatch.setenv("DEEPMEMORY_TOKEN", "dm_any")
    monkeypatch.setenv("DEEPMEMORY_HUB_URL", "http://127.0.0.1:9")
    code, out, err = command("info")
    assert (code, "no hub answers at http://127.0.0.1:9" in err) == (1, True)
    assert "Traceback" not in err
