from collections.abc import Iterator

import pytest
from engine_servers import ChromaServer, chroma_server

pytest.register_assert_rewrite("deepmemory.testing.backend_contract", "deepmemory.testing.backend_twins")


@pytest.fixture(scope="session")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """A Chroma server that all tests share; each takes collections of its own."""
    with chroma_server(tmp_path_factory.mktemp("chroma")) as server:
        yield server
