"""Ingest a site into a store on disk, in a process that ends itself at a given step: ``URL STORE STEP COUNT``."""

import os
import signal
import sys
from typing import Any

from site_server import quick
from store_for_ingest import Store

from deepmemory.ingest import IngestOptions, ingest
from deepmemory.state import FolderState, State


class Steps:
    """Counts the steps, and ends the process with no chance to tidy up when the one that was asked for is there."""

    def __init__(self, step: str, count: int) -> None:
        self._step = step
        self._left = count

    def reach(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class DyingState(FolderState):
    def __init__(self, root: str, steps: Steps) -> None:
        super().__init__(root)
        self._steps = steps

    def write(self, name: str, data: bytes) -> None:
        self._steps.reach("before note")
        super().write(name, data)
        self._steps.reach("after note")


class DyingStore(Store):
    def __init__(self, path: str, steps: Steps) -> None:
        super().__init__(path)
        self._steps = steps
        self._dying_state = DyingState(path, steps)

    @property
    def state(self) -> State:
        return self._dying_state

    def add(self, *arguments: Any, **options: Any) -> list[str]:
        self._steps.reach("before add")
        ids = super().add(*arguments, **options)
        self._steps.reach("after add")
        return ids

    def delete(self, *arguments: Any, **options: Any) -> int:
        count = super().delete(*arguments, **options)
        self._steps.reach("after delete")
        return count


if __name__ == "__main__":
    url, path, step, count = sys.argv[1:]
    print("started", flush=True)
    report = ingest(
        url,
        DyingStore(path, Steps(step, int(count))),
        options=IngestOptions(crawl=quick(timeout=60), name="site"),
        on_page=lambda done, total: print(f"page {done} of {total}", flush=True),
    )
    print(report)
