"""Writes the documents of `synonyms` with LangChain's and LlamaIndex's own classes: ``postgres_frameworks.py URL``."""

import sys

import synonyms
from langchain_core.embeddings import Embeddings
from langchain_postgres import Column, PGEngine, PGVector, PGVectorStore
from langchain_postgres.v2.indexes import HNSWIndex
from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore as LlamaStore


class Words(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return synonyms.word_vectors(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def main() -> None:
    url = sys.argv[1]
    ids, texts = synonyms.documents()
    metadatas = [{"topic": text.split()[0], "row": row} for row, text in enumerate(texts)]
    psycopg = url.replace("postgresql://", "postgresql+psycopg://")

    PGVector(Words(), connection=psycopg, collection_name="my docs").add_texts(texts, metadatas, ids=ids)
    others = [f"other {text}" for text in texts]
    PGVector(Words(), connection=psycopg, collection_name="others").add_texts(others, ids=[f"o{id}" for id in ids])

    engine = PGEngine.from_connection_string(psycopg)
    engine.init_vectorstore_table(
        "v2_docs",
        synonyms.DIMENSIONS,
        id_column=Column("langchain_id", "TEXT"),
        metadata_columns=[Column("topic", "TEXT")],
    )
    store = PGVectorStore.create_sync(engine, Words(), "v2_docs", metadata_columns=["topic"])
    store.add_texts(texts, metadatas, ids=ids)
    store.apply_vector_index(HNSWIndex())

    llama = LlamaStore(
        connection_string=url.replace("postgresql://", "postgresql+psycopg2://"),
        async_connection_string=url.replace("postgresql://", "postgresql+asyncpg://"),
        table_name="docs",
        embed_dim=synonyms.DIMENSIONS,
        hybrid_search=True,
        hnsw_kwargs={"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 40},
    )
    vectors = synonyms.word_vectors(texts).tolist()
    llama.add(
        [
            TextNode(id_=id, text=text, metadata=metadata, embedding=vector)
            for id, text, metadata, vector in zip(ids, texts, metadatas, vectors, strict=True)
        ]
    )


if __name__ == "__main__":
    main()
