"""A layer as a TypeScript module without dependencies, and the layer's own safetensors file beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from deepmemory.artifacts import encode_layer
from deepmemory.exporting.facts import LayerFacts

__all__ = ["typescript_files"]


def typescript_files(facts: LayerFacts, name: str) -> tuple[dict[str, bytes], list[str]]:  # noqa: ARG001
    """The files' contents by ending, and what is to be said of them."""
    notes = ["Applied to any query it changes nothing but its length."] if facts.changes_nothing else []
    if facts.layer.words is not None:
        notes.append(
            "The layer trusts words too: they have their part only where textScores are given, the scores of the same "
            "full-text search that it was trained with."
        )
    comment = "".join(f"// {line}\n" for line in [*facts.header(notes), "SPDX-License-Identifier: Apache-2.0"])
    code = Path(__file__).with_name("typescript_module.ts").read_text(encoding="utf-8")
    return {".ts": (comment + code).encode(), ".safetensors": _weights(facts)}, notes


def _weights(facts: LayerFacts) -> bytes:
    """The layer's own file, unless queries go through a map, which that can't hold."""
    if facts.whole is None or facts.offset is None:
        return encode_layer(facts.layer, facts.info)
    from safetensors.numpy import save

    arrays = replace(facts.layer, matrix=None).to_arrays() | {"whole": facts.whole, "offset": facts.offset}
    return save({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())})
