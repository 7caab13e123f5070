"""The PostgreSQL backend keeps the contract, with exact search and with its graph."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from deepmemory.backends import Backend
from deepmemory.backends.pgvector import PgvectorBackend
from deepmemory.testing.backend_contract import BackendContract


class TestPgvector(BackendContract):
    @pytest.fixture
    def backend(self, own_url: str) -> Iterator[Backend]:
        self.url = own_url
        with closing(PgvectorBackend(own_url)) as backend:
            yield backend

    def reopened(self, backend: Backend) -> Backend:
        return PgvectorBackend(self.url)


class TestPgvectorWithGraph(BackendContract):
    """A graph from the first rows on, and a planner that would rather use an index than read a few rows."""

    @pytest.fixture
    def backend(self, own_url: str) -> Iterator[Backend]:
        self.url = f"{own_url}&options=-c%20enable_seqscan%3Doff"
        with closing(PgvectorBackend(self.url, index_threshold=1)) as backend:
            yield backend

    def reopened(self, backend: Backend) -> Backend:
        return PgvectorBackend(self.url, index_threshold=1)
