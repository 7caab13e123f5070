"""A hub that began with a folder alone goes over to PostgreSQL: names, tokens, promises and unfinished trainings."""

import json
from pathlib import Path

import sqlalchemy as sa

from deepmemory.errors import StoreError
from deepmemory.server import tables
from deepmemory.server.database import HubDatabase, database_failures, lock_setup
from deepmemory.server.folder import FORMAT, RECORD, HubFolder
from deepmemory.state import replace_file

__all__ = ["move_to_database"]

_MOVED = (tables.orgs, tables.tokens, tables.datasets, tables.keys, tables.jobs)


def move_to_database(folder: HubFolder) -> bool:
    """Move what a folder's own files hold into the database that it is given with; the data stays where it is.

    The database has all of it, or nothing, before the folder is said to belong to it; where that was cut short, the
    next call goes on. The engine's rows stay behind: unfinished trainings begin again, with the queries' vectors that
    they had.

    Args:
        folder: with a database.

    Returns:
        whether there was something to move.

    Raises:
        StoreError: a hub runs on the folder, or the database is another hub's.
    """
    if not folder.is_folder or folder.is_of_database():
        return False
    before = HubFolder(folder.location)
    before.prepare()
    with before.held():
        hub_id = _copy(before.database, folder.database, folder.location)
        record = json.dumps({"format": FORMAT, "hub": hub_id}).encode()
        replace_file(Path(folder.location) / RECORD, record)
    return True


def _copy(source: HubDatabase, target: HubDatabase, location: str) -> str:
    """Copy all rows in one transaction, unless that was done before; return the hub's id."""
    there, here = target.open(), source.open()
    try:
        with database_failures(target.shown), there.begin() as writing, here.connect() as reading:
            lock_setup(writing)
            hub_id, data = writing.execute(sa.select(tables.hub.c.id, tables.hub.c.data)).one()
            if data == location:
                return str(hub_id)
            if data is not None or writing.execute(sa.select(tables.orgs)).first() is not None:
                raise StoreError(f"{target.shown} is another hub's database already; move {location} into a new one")
            for table in _MOVED:
                rows = [dict(row) for row in reading.execute(sa.select(table)).mappings()]
                if rows:
                    writing.execute(sa.insert(table), rows)
            writing.execute(sa.update(tables.hub).values(data=location))
            return str(hub_id)
    finally:
        there.dispose()
        here.dispose()
