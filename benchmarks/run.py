"""Every figure of docs/benchmarks.md, one after the other (`make benchmark`).

The collections are taken from the folder that BENCHMARK_DATA names (default `../shared/data`); what is absent is said
to be skipped. SEEDS (default "0 1 2 3 4") are those of the splits.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(*command: str) -> None:
    """Run one benchmark in a process of its own: a file beside this one, or a module by ``-m``."""
    written = " ".join(command) if command[0] == "-m" else f"benchmarks/{' '.join(command)}"
    print(f"\n$ python {written}", flush=True)
    first = command[0] if command[0] == "-m" else str(HERE / command[0])
    subprocess.run([sys.executable, first, *command[1:]], check=True, cwd=HERE.parent)


def main() -> None:
    """Name the machine and the commit, then run."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, commit {commit.stdout.strip()}")
    data = Path(os.environ.get("BENCHMARK_DATA", HERE.parent.parent / "shared" / "data")).resolve()
    if data.is_dir():
        seeds = os.environ.get("SEEDS", "0 1 2 3 4").split()
        run("lift.py", str(data), "--seeds", *seeds)
        run("lift.py", str(data), "--no-words", "--seeds", *seeds)
    else:
        print(f"skipped lift.py: there is no folder {data}; name one in BENCHMARK_DATA")
    if (data / "deeplake_docs").is_dir():
        for seed in ("0", "1", "2"):
            run("synthesis.py", str(data / "deeplake_docs"), "--seed", seed, "--hub")
    if data.is_dir():
        run("migrate.py", str(data))
        run("-m", "benchmarks.perfect", str(data))
    run("latency.py")
    sizes = ("--documents", "1e6", "--queries", "5e3", "--dimensions", "384")
    run("-m", "benchmarks.scale", "--again", "--through", "store", *sizes)


if __name__ == "__main__":
    main()
