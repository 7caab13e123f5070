"""The LanceDB backend keeps the contract, with exact search and with its graph."""

from pathlib import Path

import pytest

from deepmemory.backends import Backend, open_backend
from deepmemory.backends.lance import LanceBackend
from deepmemory.testing.backend_contract import BackendContract


class TestLance(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        self.path = tmp_path / "store"
        return open_backend(self.path, create=True)

    def reopened(self, backend: Backend) -> Backend:
        return open_backend(self.path, create=False)


class TestLanceWithGraph(BackendContract):
    """A graph from the first rows on, so that every path of the contract goes through it."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        self.path = tmp_path
        return LanceBackend(str(tmp_path), index_threshold=1)

    def reopened(self, backend: Backend) -> Backend:
        return LanceBackend(str(self.path), index_threshold=1)
