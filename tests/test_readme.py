"""What the README shows is run as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

import deepmemory

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def letters(texts):
    """Vectors of letter counts, so that texts with the same words are near."""
    return [[text.lower().count(letter) + 0.01 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


def test_the_first_store_finds_the_right_text(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="the local extra is not installed")
    monkeypatch.chdir(tmp_path)
    exec(blocks("python")[0], {})
    assert capsys.readouterr().out.strip() == "Ice is frozen water."


def test_training_and_measuring(capsys):
    words = ["lamp", "river", "glass", "motor", "bread", "cloud", "piano", "sugar", "tiger", "wheel", "zebra", "onion"]
    with deepmemory.VectorStore("memory://", embedder=letters) as store:
        ids = store.add([f"all about the {word}" for word in words])
        queries = [f"{word} {verb}" for verb in ("how", "why", "fix") for word in words]
        relevance = [[(ids[i % len(words)], 1.0)] for i in range(len(queries))]
        names = {
            "store": store,
            "train_queries": queries[:24],
            "train_relevance": relevance[:24],
            "test_queries": queries[24:],
            "test_relevance": relevance[24:],
        }
        exec(blocks("python")[1], names)
        store.deep_memory.wait(names["job_id"])
    printed = capsys.readouterr().out
    assert names["job_id"] in printed
    assert "Evaluating with Deep Memory" in printed


def test_arrays_without_a_store(capsys):
    exec(blocks("python")[2], {})
    assert capsys.readouterr().out.startswith(("True", "False"))


def test_a_table_in_postgresql(postgres, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="the local extra is not installed")
    import psycopg

    from deepmemory.embedders import LocalEmbedder

    url = postgres.database()
    texts = ["Ice is frozen water.", "Steam is water that has boiled.", "Un lac est calme."]
    vectors = LocalEmbedder().embed_documents(texts)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE chunks (id bigint PRIMARY KEY, body text, lang text, embedding vector(384))")
        rows = zip(range(3), texts, ["en", "en", "fr"], map(str, vectors.tolist()), strict=True)
        connection.cursor().executemany("INSERT INTO chunks VALUES (%s, %s, %s, %s)", rows)
    monkeypatch.chdir(tmp_path)
    block = next(block for block in blocks("python") if "deepmemory.attach" in block)
    names = {"train_queries": ["what is ice?", "what is steam?"], "train_relevance": [[("0", 1.0)], [("1", 1.0)]]}
    exec(block.replace("postgresql://me@localhost/app", url), names)
    assert capsys.readouterr().out.strip() == "Ice is frozen water."
    with deepmemory.VectorStore(tmp_path / "deepmemory-store") as store:
        assert [job.state for job in store.deep_memory.list_jobs(verbose=False)] == ["completed"]
        assert len(store) == 3


def test_every_command_shown_exists_with_its_options():
    from typer.main import get_command

    from deepmemory.cli.app import app

    commands = get_command(app).commands
    shown = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    calls = [shlex.split(line) for line in shown if line.startswith("deepmemory ")]
    assert len(calls) >= 4
    for _, name, *arguments in calls:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {a for a in arguments if a.startswith("-")} <= options


def test_make_targets_shown_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = set(re.findall(r"^make ([a-z]+)", "\n".join(blocks("sh")), flags=re.MULTILINE))
    assert shown >= {"demo", "test"}
    assert shown <= targets


def test_documents_that_it_links_to_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
