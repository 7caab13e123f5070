"""The hub's tables, in SQL that SQLite and PostgreSQL both speak."""

import sqlalchemy as sa

__all__ = ["SCHEMA_VERSION", "datasets", "hub", "jobs", "keys", "metadata", "orgs", "processes", "tokens", "upgrade"]

SCHEMA_VERSION = 2
"""Of what is here; a database with a higher one is refused."""

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
    # Raised by what changes a dataset's record, so that every process opens it anew.
    sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
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
    # How often it was begun and not handed over: a training that ends its process each time is not begun for ever.
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
)

# The one row says which hub this is, and where its data is: a folder that another hub's database knows is not touched.
hub = sa.Table(
    "hub",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("data", sa.Text),
)

# The servers and workers of a hub, and when each was last heard of, by the database's clock.
processes = sa.Table(
    "processes",
    metadata,
    sa.Column("id", sa.String(120), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("started", sa.Float, nullable=False),
    sa.Column("seen", sa.Float, nullable=False, index=True),
)

_ADDED = {"datasets": "generation", "open_jobs": "attempts"}
"""Columns of version 2 that the tables of version 1 lack."""


def upgrade(connection: sa.Connection, schema: str | None) -> None:
    """Give the tables that an earlier release made what they lack."""
    for table, column in _ADDED.items():
        if column not in {found["name"] for found in sa.inspect(connection).get_columns(table, schema=schema)}:
            name = table if schema is None else f'"{schema}".{table}'
            connection.execute(sa.text(f"ALTER TABLE {name} ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0"))
