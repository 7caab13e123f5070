"""One Ray cluster of two workers for all tests of a run, started when the first asks for it."""

import pytest

from deepmemory.executors import InProcessExecutor, open_executor


@pytest.fixture(scope="session")
def ray_executor():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with open_executor("ray:2") as executor:
            yield executor


@pytest.fixture
def in_process():
    return InProcessExecutor()
