"""What docs/databases.md shows is run as it stands there."""

import asyncio
import re
import shlex
from pathlib import Path

import lancedb
import synonyms
from typer.main import get_command

from deepmemory.backends.attaching import ADDRESSES
from deepmemory.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "databases.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_page_on_a_table_of_lancedb(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ids, texts = synonyms.documents()
    rows = zip(ids, texts, synonyms.word_vectors(texts).tolist(), strict=True)
    table = [{"id": id, "text": text, "vector": vector, "lang": "en"} for id, text, vector in rows]
    lancedb.connect("lancedb").create_table("chunks", table)
    queries, relevance = synonyms.questions(texts, ids)
    names = {"embedder": synonyms.word_vectors, "train_queries": queries, "train_relevance": relevance}
    for block in blocks("python"):
        exec(block, names)
    assert len(names["hits"]) == len(asyncio.run(names["answers"](queries[0]))) == 5
    assert capsys.readouterr().out == f"chunks in {tmp_path}/lancedb 60 v1\n"


def test_every_command_shown_exists_with_its_options():
    commands = get_command(app).commands
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    for _, name, *arguments in map(shlex.split, lines):
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= options


def test_every_kind_of_address_is_on_the_page():
    for scheme in ADDRESSES:
        assert f"{scheme}://" in PAGE
