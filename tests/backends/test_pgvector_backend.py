"""The PostgreSQL backend keeps the contract, with exact search and with its graph."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from deepmemory.backends import Backend
from deepmemory.backends.pgvector import PgvectorBackend
from deepmemory.testing.backend_contract import BackendContract
from deepmemory.testing.backend_twins import corpus


class TestPgvector(BackendContract):
    @pytest.fixture
    def backend(self, own_url: str) -> Iterator[Backend]:
        self.url = own_url
        with closing(PgvectorBackend(own_url)) as backend:
            yield backend

    def reopened(self, backend: Backend) -> Backend:
        return PgvectorBackend(self.url)


class TestPgvectorWithGraph:
    """What of the contract a graph could break: one from the first rows on, which the planner prefers to few rows."""

    @pytest.fixture
    def backend(self, own_url: str) -> Iterator[Backend]:
        self.url = f"{own_url}&options=-c%20enable_seqscan%3Doff"
        with closing(PgvectorBackend(self.url, index_threshold=1)) as backend:
            backend.upsert(*corpus(1))
            backend.optimize()
            backend.delete()
            yield backend

    def reopened(self, backend: Backend) -> Backend:
        return PgvectorBackend(self.url, index_threshold=1)

    _needs = BackendContract._needs
    test_an_existing_id_is_replaced = BackendContract.test_an_existing_id_is_replaced
    test_what_was_deleted_is_found_no_more_and_can_return = (
        BackendContract.test_what_was_deleted_is_found_no_more_and_can_return
    )
    test_filters_compare_json_values = BackendContract.test_filters_compare_json_values
    test_search_agrees_with_the_definition = BackendContract.test_search_agrees_with_the_definition
    test_a_filter_leaves_k_hits_where_k_pass = BackendContract.test_a_filter_leaves_k_hits_where_k_pass
    test_a_vector_of_zeros_has_no_direction = BackendContract.test_a_vector_of_zeros_has_no_direction
    test_optimize_changes_no_answer = BackendContract.test_optimize_changes_no_answer
    test_random_histories_agree_with_the_exact_backend = (
        BackendContract.test_random_histories_agree_with_the_exact_backend
    )
    test_a_collection_dropped_and_made_again_elsewhere = (
        BackendContract.test_a_collection_dropped_and_made_again_elsewhere
    )
