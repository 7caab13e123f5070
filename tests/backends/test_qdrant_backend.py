"""The Qdrant backend keeps the contract in the client's local mode, the only one that is tested here."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from deepmemory.backends import Backend, open_backend
from deepmemory.testing.backend_contract import BackendContract


class TestQdrantLocally(BackendContract):
    thousands = 1_200

    @pytest.fixture
    def backend(self, in_memory_folder: Path) -> Iterator[Backend]:
        self.path = f"qdrant://{in_memory_folder}/vectors/documents"
        with ExitStack() as self.opened:
            yield self.opened.enter_context(closing(open_backend(self.path, create=True)))

    def reopened(self, backend: Backend) -> Backend:
        return self.opened.enter_context(closing(open_backend(self.path, create=False)))
