"""An embedder whose sums depend on their order, and a store's worth of texts: importable by workers."""

import hashlib

import numpy as np

DIMENSIONS = 48
_HASHED = 2_048
_PROJECTION = np.random.default_rng(5).normal(size=(_HASHED, DIMENSIONS)).astype(np.float32)


def hashed_words(texts):
    """Texts as hashed counts of words through one float32 matrix product: its last bits follow batch and threads."""
    counts = np.zeros((len(texts), _HASHED), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            counts[row, int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little") % _HASHED] += 0.37
    return counts @ _PROJECTION


def texts(n, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(f"word{word}" for word in random.integers(0, 400, 12)) for _ in range(n)]


ARTICLE = """# Resetting the {name} module

Reset the {name} module with the reset button when the {name} lamp is blinking. An error {name}Error is raised where the
cable of module {number} is missing. The {name} module is a device that measures the pressure of line {number}.

## Calibrating {name}

Calibrate the sensor {number} after every change of the {name} filter, or readings drift by {number} percent.
"""


def articles(n):
    names = ["alpha", "bravo", "carmine", "delta", "ember", "falcon", "granite", "harbour", "indigo", "juniper"]
    return [ARTICLE.format(name=f"{names[i % 10]}{i}", number=100 + i) for i in range(n)]
