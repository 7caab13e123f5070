"""Vectors of a small world: what documents call a term, questions call a synonym."""

from pathlib import Path

import numpy as np

DIMENSIONS = 32
_TOPICS = 24


def _word_vector(word: str) -> np.ndarray:
    return np.random.default_rng(int.from_bytes(word.encode()[:8].ljust(8), "little")).normal(size=DIMENSIONS)


def vector_of(text: str) -> list[float]:
    """The sum of a random vector for each word; `term3` and `synonym3` have nothing in common before training."""
    words = [word for word in text.lower().split() if word.startswith(("term", "synonym"))] or ["none"]
    return list(sum(map(_word_vector, words)))


def write_handbook(folder: Path) -> Path:
    """Sixty pages, each about three topics."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(60):
        words = " ".join(f"term{topic}" for topic in random.choice(_TOPICS, 3, replace=False))
        (folder / f"page{number}.md").write_text(f"# Page {number}\n\n{words}\n")
    return folder
