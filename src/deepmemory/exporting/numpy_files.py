"""A layer as an ``.npz`` and a Python file beside it that needs NumPy alone."""

import io
import keyword
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmemory.errors import InputError
from deepmemory.exporting.facts import LayerFacts

__all__ = ["numpy_files"]


def numpy_files(facts: LayerFacts, name: str) -> tuple[dict[str, bytes], list[str]]:
    """The files' contents by ending, and what is to be said of them.

    Raises:
        InputError: the name is none that Python can import.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InputError(
            f"the file's name becomes a Python module and must be one that import takes, such as layer_v1; found {name}"
        )
    notes = _notes(facts)
    comment = "".join(f"# {line}\n" for line in [*facts.header(notes), "SPDX-License-Identifier: Apache-2.0"])
    code = (Path(__file__).with_name("numpy_module.py")).read_text(encoding="utf-8")
    packed = io.BytesIO()
    np.savez(packed, **_arrays(facts))  # type: ignore[arg-type]  # its stub takes the names for its one option
    return {".py": (comment + code).encode(), ".npz": packed.getvalue()}, notes


def _notes(facts: LayerFacts) -> list[str]:
    notes = ["Applied to any query it changes nothing but its length."] if facts.changes_nothing else []
    if facts.layer.words is not None:
        notes.append(
            "The layer trusts words too: they have their part only where text_scores are given, the scores of the same "
            "full-text search that it was trained with."
        )
    return notes


def _arrays(facts: LayerFacts) -> dict[str, NDArray[np.generic]]:
    """What the module's docstring lists."""
    layer = facts.layer
    arrays: dict[str, NDArray[np.generic]] = {
        "name": np.array(facts.info.name),
        "dimensions": np.array(layer.dimensions),
        "distance": np.array(layer.distance),
        "prior": np.array(layer.prior, dtype=np.float64),
    }
    if facts.offset is not None and facts.whole is not None:
        arrays |= {"whole": facts.whole, "offset": facts.offset}
    elif layer.matrix is not None:
        arrays["matrix"] = layer.matrix
    if facts.document_ids:
        encoded = [id.encode() for id in facts.document_ids]
        arrays["document_id_bytes"] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        arrays["document_id_ends"] = np.cumsum([len(each) for each in encoded], dtype=np.int64)
        assert layer.document_vectors is not None  # a layer with labelled documents carries their vectors
        arrays["document_vectors"] = layer.document_vectors
    if layer.memory is not None:
        memory = layer.memory
        arrays |= {
            "memory_centre": memory.centre,
            "memory_keys": memory.keys,
            "pair_key": memory.pair_key,
            "pair_document": memory.pair_document,
            "pair_weight": memory.pair_weight,
            "threshold": np.array(memory.threshold, dtype=np.float64),
            "gain": np.array(memory.gain, dtype=np.float64),
            "is_transformed": np.array(memory.is_transformed),
        }
    if layer.words is not None:
        arrays["words_weight"] = np.array(layer.words.weight, dtype=np.float64)
        arrays["words_depth"] = np.array(layer.words.depth)
    return arrays
