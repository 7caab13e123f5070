"""Attached to a collection that LangChain filled: trained and searched in place, by the same store as any other."""

from pathlib import Path

import chromadb
import numpy as np
import synonyms
from langchain_chroma import Chroma
from langchain_core.embeddings import Embeddings

import deepmemory
from deepmemory import VectorStore

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)
HELD_OUT, HELD_OUT_RELEVANCE = synonyms.questions(TEXTS, IDS, n=60, seed=5)


def unit_vectors(texts):
    vectors = synonyms.word_vectors(texts)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Words(Embeddings):
    def embed_documents(self, texts):
        return unit_vectors(texts).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def right_at_first(store: VectorStore, **options) -> int:
    hits = store.search_many(HELD_OUT, k=1, **options)
    return sum(found[0].id == answers[0][0] for found, answers in zip(hits, HELD_OUT_RELEVANCE, strict=True))


def test_what_langchain_filled_is_trained_and_searched_in_place(tmp_path: Path) -> None:
    with chromadb.PersistentClient(tmp_path / "vectors") as client:
        theirs = Chroma("docs", Words(), client=client)
        theirs.add_texts(TEXTS, [{"length": len(text)} for text in TEXTS], IDS)
        before = client.get_collection("docs").get(include=["embeddings", "metadatas", "documents"])
        url = f"chroma://{tmp_path}/vectors"
        with deepmemory.attach(url, collection="docs", path=tmp_path / "store", embedder=unit_vectors) as store:
            without = right_at_first(store, deep_memory=False)
            store.deep_memory.train(QUERIES, RELEVANCE, wait=True)
            assert right_at_first(store) > 40 > 10 > without
        with VectorStore(tmp_path / "store", unit_vectors) as again:
            assert right_at_first(again) > 40
            hit = again.search(TEXTS[3], k=1, filter={"length": len(TEXTS[3])}, deep_memory=False)[0]
            assert (hit.text, hit.metadata) == (TEXTS[3], {"length": len(TEXTS[3])})
        after = client.get_collection("docs").get(include=["embeddings", "metadatas", "documents"])
    assert (after["ids"], after["metadatas"], after["documents"]) == (
        before["ids"],
        before["metadatas"],
        before["documents"],
    )
    np.testing.assert_array_equal(after["embeddings"], before["embeddings"])
