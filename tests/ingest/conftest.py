"""Servers that pages are really fetched from."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_server import Site


@pytest.fixture(scope="session")
def pydoc_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running ``pydoc`` server, as the demo starts one."""
    folder: Path = tmp_path_factory.mktemp("pydoc")
    command = [sys.executable, "-I", "-u", "-m", "pydoc", "-n", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, text=True
    ) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        address = re.search(r"http://\S+", ready)
        assert address, ready
        yield address[0].rstrip("/") + "/"
        process.terminate()


@pytest.fixture
def site() -> Iterator[Site]:
    """A server without pages yet."""
    with Site() as server:
        yield server
