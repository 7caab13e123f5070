"""The Chroma backend keeps the contract, on a real server and in a folder of this process."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from engine_servers import ChromaServer

from deepmemory.backends import Backend, open_backend
from deepmemory.testing.backend_contract import BackendContract


class TestChromaServer(BackendContract):
    thousands = 2_500

    @pytest.fixture
    def backend(self, chroma: ChromaServer) -> Iterator[Backend]:
        self.path = f"{chroma.url}/documents-{uuid.uuid4().hex}"
        with ExitStack() as self.opened:
            backend = self.opened.enter_context(closing(open_backend(self.path, create=True)))
            yield backend
            backend.drop()

    def reopened(self, backend: Backend) -> Backend:
        return self.opened.enter_context(closing(open_backend(self.path, create=False)))


class TestChromaInAFolder(BackendContract):
    thousands = 2_500

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[Backend]:
        self.path = f"chroma://{tmp_path}/vectors/documents"
        with ExitStack() as self.opened:
            yield self.opened.enter_context(closing(open_backend(self.path, create=True)))

    def reopened(self, backend: Backend) -> Backend:
        return self.opened.enter_context(closing(open_backend(self.path, create=False)))
