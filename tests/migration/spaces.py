"""Small embedding models that are cheap, deterministic, and know of words as people do: some alike, most not."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

LATENT = 24


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def texts(n: int, seed: int = 0) -> list[str]:
    """Texts of six words of a vocabulary of 120."""
    random = np.random.default_rng(seed)
    return [f"text {row}: " + " ".join(f"word{w}" for w in random.integers(0, 120, 6)) for row in range(n)]


def meaning(words: Sequence[str]) -> np.ndarray:
    """The mean of a random vector for each word."""
    return np.stack([np.mean([_vector(word) for word in text.lower().split()], axis=0) for text in words])


@cache
def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=LATENT)


def model(dimensions: int, seed: int, *, noise: float = 0.0, bend: float = 0.0) -> Callable[[list[str]], np.ndarray]:
    """A model that sees the meaning through axes of its own, each stretched otherwise, then bent and blurred."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(dimensions, LATENT)))[0].T
    matrix = np.geomspace(0.5, 2, LATENT)[random.permutation(LATENT), None] * axes

    def embed(words: list[str]) -> np.ndarray:
        seen = meaning(words)
        blur = np.stack([_vector(f"{seed} {text}") for text in words])
        made = (seen + noise * blur) @ matrix
        return made + bend * np.tanh(3 * made)

    embed.__qualname__ = f"model-{dimensions}-{seed}"
    return embed
