"""The peers' own environments, made on first use with pinned versions."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["FOLDER", "interpreter"]

HERE = Path(__file__).parent
FOLDER = HERE / ".envs"


def interpreter(name: str | None) -> Path:
    """The Python of an environment; None is the one that Deep Memory runs in.

    The pins are in ``environments/NAME.txt``. PyTorch comes first and alone: its plain pin takes a CPU build where one
    is offered. An environment whose making was interrupted is made anew.
    """
    if name is None:
        return Path(sys.executable)
    folder = FOLDER / name
    pins = HERE / "environments" / f"{name}.txt"
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists() and ready.read_text() == pins.read_text():
        return python
    print(f"making the environment {folder} (some minutes)", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    torch = next(line for line in pins.read_text().splitlines() if line.startswith("torch=="))
    for wanted in ([torch], ["--requirement", str(pins)]):
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *wanted],
            check=True,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": ""},
        )
    ready.write_text(pins.read_text())
    return python
