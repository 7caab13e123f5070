import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_servers import ChromaServer, chroma_server

pytest.register_assert_rewrite("deepmemory.testing.backend_contract", "deepmemory.testing.backend_twins")


@pytest.fixture(scope="session")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """A Chroma server that all tests share; each takes collections of its own."""
    with chroma_server(tmp_path_factory.mktemp("chroma")) as server:
        yield server


@pytest.fixture
def in_memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: Qdrant's local mode flushes the disk for each document."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)
