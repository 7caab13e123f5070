"""The folder of a hub: made, recognised, and held by one process at a time."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Set
from pathlib import Path

from deepmemory.errors import NewerFormatError, NotAStoreError, StorageError, StoreError
from deepmemory.state import replace_file

__all__ = ["FORMAT", "HubFolder"]

FORMAT = 1
"""The version of the layout written here; a folder with a higher one is refused."""

_RECORD = "hub.json"


class HubFolder:
    """Where a hub keeps everything.

    Attributes:
        root: the folder, absolute.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the folder; nothing is read or written."""
        self.root = Path(path).absolute()

    @property
    def database(self) -> Path:
        """Organisations, tokens and the names of datasets."""
        return self.root / "hub.sqlite"

    @property
    def workflows(self) -> Path:
        """The durable workflows."""
        return self.root / "workflows.sqlite"

    @property
    def address(self) -> Path:
        """One line: where the hub that holds the folder is reached."""
        return self.root / "hub.url"

    @property
    def datasets(self) -> Path:
        """One folder for each dataset."""
        return self.root / "datasets"

    def dataset(self, dataset_id: str) -> Path:
        """The store of a dataset; its name is an id that we drew, so that no name leads anywhere else."""
        return self.datasets / dataset_id

    def prepare(self) -> None:
        """Make the folder a hub's, where it is new or empty.

        Raises:
            NotAStoreError: something else is there.
            NewerFormatError: a newer version made it.
            StorageError: it can't be written.
        """
        if self.root.exists() and not self.root.is_dir():
            raise NotAStoreError(f"{self.root} is a file, and a hub's data is a folder; choose another with --data")
        record = self.root / _RECORD
        with _failures(self.root):
            if record.exists():
                self._check(record.read_bytes())
            elif self.root.exists() and any(self.root.iterdir()):
                raise NotAStoreError(
                    f"{self.root} has something else in it and is no hub's data; choose an empty or new folder "
                    "with --data"
                )
            else:
                self.root.mkdir(parents=True, exist_ok=True)
                replace_file(record, json.dumps({"format": FORMAT}).encode())
            self.datasets.mkdir(exist_ok=True)
            probe = self.root / f".tmp-{uuid.uuid4().hex}"
            probe.write_bytes(b"")
            probe.unlink()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it however the process ends.

        Raises:
            StoreError: another process holds it.
        """
        import filelock

        lock = filelock.FileLock(self.root / "hub.lock", timeout=0)
        with _failures(self.root):
            try:
                lock.acquire()
            except filelock.Timeout:
                raise StoreError(
                    f"another hub is running on {self.root}; stop it first, or choose another folder with --data"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def sweep(self, known: Set[str]) -> None:
        """Remove the folders of datasets that nothing names: their making or their deletion was cut short."""
        with _failures(self.root):
            for entry in self.datasets.iterdir():
                if entry.name not in known:
                    shutil.rmtree(entry, ignore_errors=True)

    def _check(self, record: bytes) -> None:
        try:
            version = int(json.loads(record)["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.root / _RECORD} is damaged; restore it from a backup") from error
        if version > FORMAT:
            raise NewerFormatError(
                f"{self.root} was made by a newer Deep Memory (format {version}; this one reads up to {FORMAT}); "
                "upgrade with: pip install --upgrade 'deepmemory[server]'"
            )


@contextlib.contextmanager
def _failures(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the folder {root} can't be used for a hub's data ({error.strerror or error}); choose one that you may "
            "write with --data"
        ) from error
