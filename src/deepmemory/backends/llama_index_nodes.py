"""What LlamaIndex keeps of a node beside its metadata, in every database that it fills."""

import json
from typing import Any

__all__ = ["NODE", "is_node_part", "node_text"]

NODE = "_node_content"
"""The key under which a whole node is, as JSON."""

_PARTS = (NODE, "_node_type")


def is_node_part(key: str) -> bool:
    """Whether a key holds what LlamaIndex makes its node of again, which is no metadata of the document."""
    return key in _PARTS


def node_text(content: Any) -> str:
    """The text in a node's JSON; empty where it has none."""
    try:
        node = json.loads(content) if isinstance(content, str) else {}
    except ValueError:
        return ""
    text = node.get("text") if isinstance(node, dict) else None
    return text if isinstance(text, str) else ""
