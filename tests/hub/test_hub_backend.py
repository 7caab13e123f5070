"""The one contract of all backends, over HTTP against a real hub process."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from deepmemory import VectorStore
from deepmemory.backends import Backend
from deepmemory.testing import BackendContract


class TestHubBackend(BackendContract):
    @pytest.fixture
    def backend(self, path) -> Iterator[Backend]:
        self.path = path
        with closing(VectorStore(path, embedder=None)) as store:
            yield store.backend

    def reopened(self, backend: Backend) -> Backend:
        return VectorStore(self.path, embedder=None, create=False).backend
