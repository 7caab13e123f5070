"""The exact backend keeps the contract; `test_scoring.py` has its arithmetic."""

import pytest

from deepmemory.backends import Backend, open_backend
from deepmemory.testing.backend_contract import BackendContract


class TestExact(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return open_backend("memory://", create=True)
