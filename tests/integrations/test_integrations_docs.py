"""What docs/integrations.md shows is run as it stands there."""

import json
import re
from pathlib import Path

import pytest
import synonyms

DOCS = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text()
WORDS = ["lamp", "river", "glass", "motor", "bread", "cloud", "piano", "sugar", "tiger", "wheel", "zebra", "onion"]
TEXTS = [f"all about the {word}" for word in WORDS]
QUESTIONS = [f"{verb} {word}" for verb in ("how", "why", "fix") for word in WORDS]


def code(section):
    """The Python of one section, in one piece."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", DOCS, flags=re.MULTILINE | re.DOTALL)[1]
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture
def names(words, tmp_path, monkeypatch):
    """What the page says is there."""
    monkeypatch.chdir(tmp_path)
    return {"texts": TEXTS, "questions": QUESTIONS, "embeddings": words}


def test_langchain(names, capsys):
    pytest.importorskip("langchain_core", reason="the langchain extra is not installed")
    add, train = code("LangChain").split("job_id = ")
    exec(add, names)
    assert names["docs"] == TEXTS
    names["relevance"] = [[(names["ids"][row % len(WORDS)], 1.0)] for row in range(len(QUESTIONS))]
    exec(f"job_id = {train}", names)
    assert "| status                     | completed" in capsys.readouterr().out
    assert len(names["found"]) == 10
    names["db"].vectorstore.close()


def test_llamaindex(names):
    pytest.importorskip("llama_index.core", reason="the llamaindex extra is not installed")
    from llama_index.core.base.embeddings.base import BaseEmbedding

    class WordModel(BaseEmbedding):
        def _get_text_embedding(self, text):
            return synonyms.word_vectors([text])[0].tolist()

        _get_query_embedding = _aget_query_embedding = _get_text_embedding

    ids = [f"node-{row}" for row in range(len(TEXTS))]
    dataset = {
        "queries": {str(row): query for row, query in enumerate(QUESTIONS)},
        "corpus": dict(zip(ids, TEXTS, strict=True)),
        "relevant_docs": {str(row): [ids[row % len(ids)]] for row in range(len(QUESTIONS))},
    }
    Path("qa_dataset.json").write_text(json.dumps(dataset))
    names["embed_model"] = WordModel(model_name="words")
    exec(code("LlamaIndex"), names)
    assert names["found"][0].node.node_id == "node-0"
    assert len(names["found"]) == 10


def test_coming_from_deep_lake(names, capsys):
    exec(code("Coming from Deep Lake 3"), names)
    assert capsys.readouterr().out.startswith("all about the lamp ")
    assert len(names["found"]["id"]) == 3
    names["store"].close()
