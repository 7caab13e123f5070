"""Where a hub keeps its data: made, recognised, held by one process or shared by several."""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import sqlalchemy as sa

from deepmemory.errors import InputError, NewerFormatError, NotAStoreError, StorageError, StoreError
from deepmemory.server import tables
from deepmemory.server.database import HubDatabase, database_failures, lock_setup
from deepmemory.state import State, open_state, replace_file

__all__ = ["FORMAT", "RECORD", "HubFolder"]

FORMAT = 2
"""The version of the layout written here; a folder with a higher one is refused. 1 is a folder with a database of its
own in it, 2 one whose database is elsewhere, which a hub that expects its own must not touch."""

RECORD = "hub.json"
"""The blob that says what kind of hub it is."""

_SWEPT_SECONDS = 24 * 3_600.0


class HubFolder:
    """Where a hub keeps everything.

    Attributes:
        location: the folder, absolute, or the URL of a prefix in a bucket.
        database: where names, tokens and the state of trainings are.
    """

    def __init__(self, path: str | os.PathLike[str], database: str | None = None) -> None:
        """Name the folder; nothing is read or written.

        Args:
            path: a folder, or, where there is a database, the URL of a bucket such as ``s3://bucket/hub``.
            database: the URL of a PostgreSQL database, which several servers and workers may share; None for files in
                the folder, which one process holds.

        Raises:
            InputError: the database's URL can't be one, or a bucket comes without.
        """
        text = os.fspath(path)
        self._in_bucket = "://" in text
        if self._in_bucket and database is None:
            raise InputError(
                f"a hub whose data is in a bucket ({text}) needs a database beside it: give --database postgresql://..."
            )
        self.location = text.rstrip("/") if self._in_bucket else str(Path(text).absolute())
        self.database = HubDatabase(None if self._in_bucket else Path(self.location), database)

    @property
    def root(self) -> Path:
        """The folder, where it is one."""
        assert not self._in_bucket
        return Path(self.location)

    @property
    def is_shared(self) -> bool:
        """Whether several servers and workers may work with it."""
        return self.database.is_shared

    @property
    def address(self) -> Path:
        """One line: where the hub that holds the folder is reached."""
        return self.root / "hub.url"

    def dataset(self, dataset_id: str) -> str:
        """The store of a dataset; its name is an id that we drew, so that no name leads anywhere else."""
        return f"{self.location}/datasets/{dataset_id}"

    @property
    def is_folder(self) -> bool:
        """Whether the data is in a folder, and not in a bucket."""
        return not self._in_bucket

    def is_of_database(self) -> bool:
        """Whether the data is that of a database elsewhere, or there is none yet."""
        record = self._state().read(RECORD)
        return record is None or b'"hub"' in record

    def is_there(self) -> bool:
        """Whether a hub's data is there, or its database is."""
        return self.is_shared or self.database.file.exists() or (self.root / RECORD).exists()

    def prepare(self) -> None:
        """Make the folder a hub's, where it is new or empty.

        Raises:
            NotAStoreError: something else is there.
            NewerFormatError: a newer version made it.
            StorageError: it can't be written.
            StoreError: it is another hub's, or kept with another kind of database.
        """
        if not self._in_bucket:
            self._prepare_folder()
        if self.is_shared:
            self._bind()
        elif not (record := self.root / RECORD).exists():
            with self._failures():
                replace_file(record, json.dumps({"format": 1}).encode())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process, unless its database lets several share it.

        The system lets go of it however the process ends.

        Raises:
            StoreError: another process holds it.
        """
        if self.is_shared:
            yield
            return
        import filelock

        lock = filelock.FileLock(self.root / "hub.lock", timeout=0)
        with self._failures():
            try:
                lock.acquire()
            except filelock.Timeout:
                raise StoreError(
                    f"another hub is running on {self.root}; stop it first, choose another folder with --data, or give "
                    "all servers of one hub the same PostgreSQL with --database"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def check(self) -> None:
        """Look whether the data can be reached.

        Raises:
            StorageError: it can't.
        """
        if self._in_bucket:
            self._state().read(RECORD)
        elif not (self.root / "datasets").is_dir():
            raise StorageError(f"{self.root / 'datasets'} is gone")

    def remove(self, dataset_id: str, folders: tuple[str, ...]) -> None:
        """Remove what a dataset has left, as far as that goes.

        Args:
            dataset_id: its name is given away, or never was.
            folders: the folders of blobs that a store may have.
        """
        if not self._in_bucket:
            shutil.rmtree(self.dataset(dataset_id), ignore_errors=True)
            return
        from deepmemory.backends import open_backend

        with contextlib.suppress(StorageError, NotAStoreError):
            backend = open_backend(self.dataset(dataset_id), create=True)
            backend.drop()
            backend.close()
        state = open_state(self.dataset(dataset_id))
        for folder in (*folders, ""):
            for blob in state.list(folder):
                state.delete(blob)

    def sweep(self, known: Callable[[], Set[str]]) -> None:
        """Remove the folders of datasets that nothing names: their making or their deletion was cut short.

        Where other processes may be making some at this moment, only those of yesterday; in a bucket, none.
        """
        if self._in_bucket:
            return
        with self._failures():
            entries = list((self.root / "datasets").iterdir())
            ids = known()
            for entry in entries:
                if entry.name not in ids and not (self.is_shared and _is_recent(entry)):
                    shutil.rmtree(entry, ignore_errors=True)

    def _prepare_folder(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise NotAStoreError(f"{self.root} is a file, and a hub's data is a folder; choose another with --data")
        with self._failures():
            if (self.root / RECORD).exists():
                self._check_record((self.root / RECORD).read_bytes())
            elif self.root.exists() and any(self.root.iterdir()) and not self._is_being_made():
                raise NotAStoreError(
                    f"{self.root} has something else in it and is no hub's data; choose an empty or new folder "
                    "with --data"
                )
            (self.root / "datasets").mkdir(parents=True, exist_ok=True)
            probe = self.root / f".tmp-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()

    def _is_being_made(self) -> bool:
        """Whether another server is making this folder at this moment, or was cut short in it."""
        return all(
            entry.name.startswith(".tmp-") or (entry.name == "datasets" and not any(entry.iterdir()))
            for entry in self.root.iterdir()
        )

    def _bind(self) -> None:
        """See to it that the folder and the database are of the same hub, one process after the other.

        Raises:
            StoreError: they aren't.
        """
        engine = self.database.open()
        try:
            with database_failures(self.database.shown), engine.begin() as connection:
                lock_setup(connection)
                hub_id, data = connection.execute(sa.select(tables.hub.c.id, tables.hub.c.data)).one()
                record = self._state().read(RECORD)
                if record is not None:
                    found = self._check_record(record)
                    if found != hub_id:
                        raise StoreError(
                            f"{self.location} is the data of another hub than the one in {self.database.shown}; name "
                            "the folder and the database that belong together"
                        )
                elif data is not None:
                    raise StoreError(
                        f"the hub in {self.database.shown} has its data in {data}, and {self.location} has none of it: "
                        "give every server and worker the same --data, on a disk or in a bucket that all of them reach"
                    )
                else:
                    self._state().write(RECORD, json.dumps({"format": FORMAT, "hub": hub_id}).encode())
                connection.execute(sa.update(tables.hub).values(data=self.location))
        finally:
            engine.dispose()

    def _check_record(self, record: bytes) -> str | None:
        """The id of the hub whose data it is; None where its database is in the folder."""
        try:
            values = json.loads(record)
            version, hub_id = int(values["format"]), str(values["hub"]) if "hub" in values else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{self.location}/{RECORD} is damaged; restore it from a backup") from error
        if version > FORMAT:
            raise NewerFormatError(
                f"{self.location} was made by a newer Deep Memory (format {version}; this one reads up to {FORMAT}); "
                "upgrade with: pip install --upgrade 'deepmemory[server]'"
            )
        if hub_id is None and self.is_shared:
            raise StoreError(
                f"the names and tokens of {self.location} are in its own hub.sqlite, and not in "
                f"{self.database.shown}; move them with: deepmemory serve --move, leave out --database, or choose a "
                "new folder with --data"
            )
        if hub_id is not None and not self.is_shared:
            raise StoreError(
                f"the names and tokens of {self.location} are in a PostgreSQL database: name it with --database"
            )
        return hub_id

    def _state(self) -> State:
        return open_state(self.location)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"the folder {self.location} can't be used for a hub's data ({error.strerror or error}); choose one "
                "that you may write with --data"
            ) from error


def _is_recent(entry: Path) -> bool:
    try:
        return entry.stat().st_mtime > time.time() - _SWEPT_SECONDS
    except FileNotFoundError:
        return True
