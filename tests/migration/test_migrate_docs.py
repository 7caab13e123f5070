"""What docs/migrate.md shows is run as it stands there."""

import re
from pathlib import Path

import pytest
import spaces

import deepmemory

PAGE = (Path(__file__).parents[2] / "docs" / "migrate.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(capsys):
    in_store, in_arrays = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    old, new = spaces.model(48, 2, noise=0.25), spaces.model(32, 1)
    texts, queries = spaces.texts(120), [f"question {text.split(': ')[1][:20]}" for text in spaces.texts(60)]
    with deepmemory.VectorStore("memory://", embedder=old) as store:
        ids = store.add(texts)
        relevance = [[(id, 1.0)] for id in ids[:60]]
        names = {"store": store, "new_model": new}
        for side, rows in (("train", slice(0, 60, 2)), ("test", slice(1, 60, 2))):
            names |= {f"{side}_queries": queries[rows], f"{side}_relevance": relevance[rows]}
        exec(in_store, names)
        assert store.summary()["migrated_from"] is None
    assert float(capsys.readouterr().out.splitlines()[-1]) == pytest.approx(names["result"].comparison.share)
    arrays = {"new_vectors": new(texts), "old_vectors": old(texts), "new_query_vectors": new(queries)}
    exec(in_arrays, arrays)
    assert arrays["mapped"].shape == (60, 48)
