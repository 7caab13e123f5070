"""Without the client of a database, the sentence names what to install."""

import sys

import pytest

from deepmemory.backends import open_backend
from deepmemory.errors import MissingExtraError

PACKAGES = {"chroma": "chromadb", "qdrant": "qdrant_client", "milvus": "pymilvus"}


@pytest.mark.parametrize("engine", PACKAGES)
def test_a_missing_client(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[engine], None)
    expected = rf"a collection in {engine.capitalize()} needs .*pip install 'deepmemory\[{engine}\]'"
    with pytest.raises(MissingExtraError, match=expected):
        open_backend(f"{engine}://localhost/docs", create=True)
