"""Work for the tests of executors, in a module of its own so that workers can import it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deepmemory.errors import InputError
from deepmemory.executors import Work


def numbers(n_batches: int, rows: int = 3):
    for start in range(0, n_batches * rows, rows):
        yield pa.RecordBatch.from_pydict({"n": pa.array(range(start, start + rows), pa.int64())})


def values(results) -> list[int]:
    return [value for batch in results for value in batch.column("n").to_pylist()]


@dataclass
class Doubled(Work):
    """Twice each number; how often the function was made, and each batch done, is in a folder."""

    folder: Path
    seconds: float = 0.0
    name: str = "doubling"

    def prepare(self):
        (self.folder / f"prepared-{os.getpid()}-{time.monotonic_ns()}").touch()

        def double(batch, tell):
            first = batch.column("n")[0].as_py()
            (self.folder / f"begun-{first}-{os.getpid()}-{time.monotonic_ns()}").touch()
            time.sleep(self.seconds)
            return pa.RecordBatch.from_pydict({"n": pc.multiply(batch.column("n"), 2)})

        return double


@dataclass
class Refusing(Work):
    """Raises for one number."""

    number: int
    name: str = "refusing"

    def prepare(self):
        def look(batch, tell):
            if self.number in batch.column("n").to_pylist():
                raise InputError([f"{self.number} is wrong", "and so is the rest"])
            return batch

        return look


@dataclass
class Deadly(Work):
    """Ends the process."""

    name: str = "ending"

    def prepare(self):
        def end(batch, tell):
            os._exit(1)

        return end
