"""What the tests of the integrations share."""

import inspect
import sys
from pathlib import Path

import pytest

# The world of the store's own tests: queries with other words than the documents, always the same ones.
sys.path.append(str(Path(__file__).parents[1] / "store"))


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(name: str, obj: object) -> None:
    """Mark the asynchronous tests, also those of LangChain's suites, which bear no mark of their own."""
    if name.startswith("test_") and inspect.iscoroutinefunction(obj) and not hasattr(obj, "pytestmark"):
        pytest.mark.asyncio(obj)
