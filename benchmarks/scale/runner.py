"""All cells, one after the other, each in a process of its own; what is in the file already is not measured again."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.scale.cell import Cell, Step

__all__ = ["Results", "run"]

ROOT = Path(__file__).parents[2]


class Results:
    """A file with one JSON object a line, each a cell; a line that was cut off is left out."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.lines: list[dict[str, Any]] = []
        for line in file.read_text().splitlines() if file.exists() else []:
            try:
                self.lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue

    def has(self, cell: Cell) -> bool:
        """Whether the cell was measured."""
        return any(line["cell"] == asdict(cell) for line in self.lines)

    def add(self, line: dict[str, Any]) -> None:
        """Keep a cell, at once and for good."""
        self.lines.append(line)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+b") as file:
            # what a run that was killed left of its last line must not swallow this one
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(line).encode() + b"\n")


def run(cells: Iterable[Cell], results: Results, *, keep: Path | None = None) -> Iterator[dict[str, Any]]:
    """Measure the cells that are missing.

    Args:
        cells: in an order that keeps those with the same documents together: they share a store.
        results: where to add them.
        keep: a folder for the stores, which stay there; without one each is deleted after its last cell.

    Yields:
        each new line.
    """
    with TemporaryDirectory(prefix="deepmemory-scale-") as temporary:
        store: Path | None = None
        for cell in cells:
            if results.has(cell):
                continue
            figures: dict[str, Any] = {}
            folder = (keep or Path(temporary)) / f"{cell.documents}x{cell.dimensions}-{cell.seed}"
            if cell.through == "store":
                if store not in (None, folder) and keep is None:
                    shutil.rmtree(store, ignore_errors=True)
                store = folder
                if not (folder / "filled").exists():
                    shutil.rmtree(folder, ignore_errors=True)
                    figures |= _in_a_child(cell, "fill", folder)
                    (folder / "filled").touch()
            figures |= _in_a_child(cell, "train", folder)
            line = {"cell": asdict(cell), **figures, **_circumstances()}
            results.add(line)
            yield line


def _in_a_child(cell: Cell, step: Step, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale.cell", json.dumps(asdict(cell)), step, str(folder)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {f"{step}_process_seconds": time.perf_counter() - started}


def _circumstances() -> dict[str, Any]:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "commit": commit,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
