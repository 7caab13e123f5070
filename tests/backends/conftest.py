import pytest

pytest.register_assert_rewrite("deepmemory.testing.backend_contract", "deepmemory.testing.backend_twins")
