"""LangChain's own suites for vector stores and retrievers, as they are."""

from collections.abc import Iterator

import pytest

pytest.importorskip("langchain_core", reason="the langchain extra is not installed")
pytest.importorskip("langchain_tests", reason="LangChain's suites are not installed")

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from deepmemory.integrations.langchain import DeepLake, DeepLakeRetriever


class TestVectorStoreInAFolder(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path) -> Iterator[DeepLake]:
        db = DeepLake(str(tmp_path / "store"), embedding=self.get_embeddings())
        yield db
        db.vectorstore.close()


class TestVectorStoreInMemory(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> DeepLake:
        return DeepLake("mem://langchain", embedding=self.get_embeddings())


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return DeepLakeRetriever

    @property
    def retriever_constructor_params(self) -> dict:
        db = DeepLake("mem://langchain", embedding=DeterministicFakeEmbedding(size=6))
        db.add_texts([f"text {number}" for number in range(6)])
        return {"vectorstore": db}

    @property
    def retriever_query_example(self) -> str:
        return "text 3"
