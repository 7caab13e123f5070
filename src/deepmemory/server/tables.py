"""The hub's tables, in SQL that SQLite and PostgreSQL both speak."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

__all__ = ["datasets", "jobs", "keys", "open_database", "orgs", "tokens"]

metadata = sa.MetaData()

orgs = sa.Table(
    "orgs",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("created", sa.Float, nullable=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(24), primary_key=True),
    sa.Column("org", sa.ForeignKey("orgs.name"), nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("scope", sa.String(8), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("expires", sa.Float),
    sa.Column("revoked", sa.Float),
    sa.Column("last_used", sa.Float),
)

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("org", sa.ForeignKey("orgs.name"), nullable=False),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.UniqueConstraint("org", "name"),
)

# What an Idempotency-Key stands for: decided and written down before anything is done under it.
keys = sa.Table(
    "idempotency",
    metadata,
    sa.Column("dataset", sa.String(32), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False, index=True),
)

# The trainings that are not finished: what a hub that starts has to take up again.
jobs = sa.Table(
    "open_jobs",
    metadata,
    sa.Column("id", sa.String(24), primary_key=True),
    sa.Column("dataset", sa.String(32), nullable=False),
    sa.Column("org", sa.String(63), nullable=False, index=True),
    sa.Column("created", sa.Float, nullable=False),
)


def open_database(path: Path) -> sa.Engine:
    """The database in a file, with the tables that it lacks."""
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Readers never wait for a writer; what was committed is on the disk.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    metadata.create_all(engine)
    return engine
