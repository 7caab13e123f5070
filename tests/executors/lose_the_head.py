"""Kill the head of a Ray cluster in the middle of work, and print what the work says to it."""

import sys
import threading
import time
from pathlib import Path

import ray._private.worker as internals
from works import Doubled, numbers, values

from deepmemory import EngineError
from deepmemory.executors.ray import RayExecutor

folder = Path(sys.argv[1])
executor = RayExecutor(workers=2, patience=2.0)


def kill() -> None:
    """Wait until a worker has begun."""
    while not list(folder.glob("begun-*")):
        time.sleep(0.02)
    internals._global_node.all_processes["gcs_server"][0].process.kill()


threading.Thread(target=kill, daemon=True).start()
try:
    values(executor.map(Doubled(folder, seconds=300), numbers(20)))
except EngineError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
executor.close()
