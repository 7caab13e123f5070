"""A layer as a TypeScript module without dependencies, and the layer's own safetensors file beside it."""

from pathlib import Path

from deepmemory.artifacts import encode_layer
from deepmemory.exporting.facts import LayerFacts

__all__ = ["typescript_files"]


def typescript_files(facts: LayerFacts, name: str) -> tuple[dict[str, bytes], list[str]]:  # noqa: ARG001
    """The files' contents by ending, and what is to be said of them."""
    notes = ["Applied to any query it changes nothing but its length."] if facts.layer.is_identity else []
    if facts.layer.words is not None:
        notes.append(
            "The layer trusts words too: they have their part only where textScores are given, the scores of the same "
            "full-text search that it was trained with."
        )
    comment = "".join(f"// {line}\n" for line in [*facts.header(notes), "SPDX-License-Identifier: Apache-2.0"])
    code = Path(__file__).with_name("typescript_module.ts").read_text(encoding="utf-8")
    return {".ts": (comment + code).encode(), ".safetensors": encode_layer(facts.layer, facts.info)}, notes
