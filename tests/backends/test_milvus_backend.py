"""The Milvus backend keeps the contract through milvus-lite, the only way that is tested here."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from deepmemory.backends import Backend, open_backend
from deepmemory.testing.backend_contract import BackendContract


class TestMilvusLite(BackendContract):
    thousands = 1_200

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        self.path = f"milvus://{tmp_path}/vectors.db/documents"
        with ExitStack() as self.opened:
            yield self.opened.enter_context(closing(open_backend(self.path, create=True)))

    def reopened(self, backend: Backend) -> Backend:
        return self.opened.enter_context(closing(open_backend(self.path, create=False)))
