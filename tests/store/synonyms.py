"""A small world with something to learn: people ask with other words than the documents use, always the same ones."""

import hashlib
from collections.abc import Sequence

import numpy as np

DIMENSIONS = 32
_TOPICS = 24

TRAINER = """
import time
import synonyms
from deepmemory import VectorStore

slow, wait = sys.argv[2] == "slow", sys.argv[3] == "wait"

def embed(texts):
    if slow and any("synonym" in text for text in texts):
        print("embedding", flush=True)
        time.sleep(0.05)
    return synonyms.word_vectors(texts)

class OneByOne:
    embed_documents = staticmethod(embed)

    def embed_query(self, text):
        return embed([text])[0]

ids, texts = synonyms.documents()
queries, relevance = synonyms.questions(texts, ids)
store = VectorStore(sys.argv[1], embedder=synonyms.word_vectors)
print(store.deep_memory.train(queries, relevance, OneByOne() if slow else None, wait=wait), flush=True)
"""
"""A program that trains the store it is given, ``fast`` or ``slow``, and may ``wait`` for the end."""


def word_vectors(texts: Sequence[str]) -> np.ndarray:
    """Texts as the sum of a random vector for each word; cheap, and the same everywhere."""
    return np.stack([sum(map(_word_vector, text.lower().split())) for text in texts])


def _word_vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=DIMENSIONS)


def other_vectors(texts: Sequence[str]) -> np.ndarray:
    """Another embedder of the same dimensions."""
    return word_vectors([f"{text} {text[::-1]}" for text in texts])


def documents(n: int = 60, seed: int = 0) -> tuple[list[str], list[str]]:
    """Ids and texts of documents about three topics each."""
    random = np.random.default_rng(seed)
    topics = [random.choice(_TOPICS, 3, replace=False) for _ in range(n)]
    return [f"doc-{row}" for row in range(n)], [" ".join(f"term{topic}" for topic in row) for row in topics]


def questions(texts: Sequence[str], ids: Sequence[str], n: int = 120, seed: int = 1) -> tuple[list[str], list[list]]:
    """Queries that name a document's topics by other words, and their relevance."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(texts), n)
    queries = [
        f"question {number} about " + texts[row].replace("term", "synonym") for number, row in enumerate(rows.tolist())
    ]
    return queries, [[(ids[row], 1.0)] for row in rows.tolist()]
