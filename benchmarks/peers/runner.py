"""Run what is not yet in the results, and write each line as it comes."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from deepmemory.errors import InputError

from .measure import ndcg, result
from .peers import BASELINE, Peer, Settings
from .problem import Problem, Split, load
from .work import Outcome, PeerError, work

__all__ = ["Key", "Results", "Task", "run"]

HERE = Path(__file__).parent

Key: TypeAlias = tuple[str, str, int, int | None, str, bool]


@dataclass(frozen=True)
class Task:
    """A problem to be loaded, and who shall work on it.

    Attributes:
        folder: of the collection.
        split: how test queries are held out.
        seed: of the split.
        size: training queries; None for all.
        peers: who.
        searched: with settings chosen on training queries instead of the defaults; who has no choice is left out.
    """

    folder: Path
    split: Split
    seed: int
    size: int | None
    peers: Sequence[Peer]
    searched: bool

    def key(self, peer: Peer) -> Key:
        """Names one line of results."""
        return self.folder.name, self.split, self.seed, self.size, peer.key, self.searched


class Results:
    """A file with one JSON object on each line; a line cut off by an interruption is dropped."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: list[dict[str, Any]] = []
        if file.exists():
            for line in file.read_text().splitlines():
                try:
                    self.lines.append(json.loads(line))
                except json.JSONDecodeError:
                    print(f"{file}: a line that was cut off is measured again", flush=True)

    def find(self, key: Key) -> dict[str, Any] | None:
        """The line of this name."""
        return next((line for line in self.lines if _key(line) == key), None)

    def add(self, line: dict[str, Any]) -> None:
        """Keep one more, on disk as well."""
        self.lines.append(line)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        cut_off = self.file.exists() and not self.file.read_bytes().endswith(b"\n") and self.file.stat().st_size > 0
        with self.file.open("a") as out:
            out.write(("\n" if cut_off else "") + json.dumps(line) + "\n")


def run(tasks: Sequence[Task], results: Results) -> Iterator[dict[str, Any]]:
    """Do the tasks in their order, passing over what the results have; yields each new line.

    A peer that fails is said so and passed over; the next run tries it again.
    """
    commit, machine = _commit(), _machine()
    for task in tasks:
        missing = [
            peer for peer in task.peers if (peer.grid or not task.searched) and results.find(task.key(peer)) is None
        ]
        if not missing:
            continue
        problem = load(task.folder, task.split, task.seed, task.size)
        if task.size is not None and len(problem.train) < task.size:
            continue
        baseline = work(BASELINE, problem, [{}])[0]
        for peer in missing:
            try:
                line = _one(task, problem, peer, baseline, results)
            except (PeerError, InputError) as error:
                print(f"passed over {'/'.join(map(str, task.key(peer)))}: {error}", flush=True)
                continue
            line |= {"commit": commit, "machine": machine}
            results.add(line)
            yield line


def _one(task: Task, problem: Problem, peer: Peer, baseline: Outcome, results: Results) -> dict[str, Any]:
    if not task.searched:
        outcome = work(peer, problem, [peer.defaults])[0]
        return result(
            problem,
            peer,
            searched=False,
            settings=peer.defaults,
            outcome=outcome,
            baseline=baseline,
            search_seconds=0.0,
        )
    settings, seconds = _search(peer, problem)
    known = results.find((*task.key(peer)[:-1], False))
    if known is not None and known["settings"] == dict(settings):
        return {**known, "searched": True, "search_seconds": seconds}
    return result(
        problem,
        peer,
        searched=True,
        settings=settings,
        outcome=work(peer, problem, [settings])[0],
        baseline=baseline,
        search_seconds=seconds,
    )


def _search(peer: Peer, problem: Problem) -> tuple[Settings, float]:
    """The best settings by nDCG@10 on the held-out fifth of the training queries; the first of equals."""
    candidates = peer.candidates()
    inner = problem.held_out()
    outcomes = work(peer, inner, candidates)
    values = [ndcg(inner, outcome.rows) for outcome in outcomes]
    return candidates[values.index(max(values))], sum(outcome.fit_seconds for outcome in outcomes)


def _key(line: dict[str, Any]) -> Key:
    return line["collection"], line["split"], line["seed"], line["size"], line["peer"], line["searched"]


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    return done.stdout.strip()


def _machine() -> str:
    """Times depend on it, and on the threads that the libraries were allowed."""
    threads = os.environ.get("OMP_NUM_THREADS")
    allowed = f", OMP_NUM_THREADS={threads}" if threads else ""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}{allowed}"
