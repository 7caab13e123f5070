"""Without the client of a database, the sentence names what to install."""

import sys

import pytest

from deepmemory.backends import open_backend
from deepmemory.errors import MissingExtraError


@pytest.mark.parametrize(
    ("engine", "package"), [("chroma", "chromadb"), ("qdrant", "qdrant_client"), ("milvus", "pymilvus")]
)
def test_a_missing_client(engine: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtraError, match=rf"in {engine.capitalize()} needs .*pip install 'deepmemory\[{engine}\]'"
    ):
        open_backend(f"{engine}://localhost/docs", create=True)
