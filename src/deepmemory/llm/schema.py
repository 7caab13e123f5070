"""Structured answers: JSON out of a text, compared with the schema that was asked for."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deepmemory.llm.base import UnusableAnswerError, Usage

__all__ = ["in_words", "structured"]

_FENCED = re.compile(r"\A\s*```[a-z]*\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_SHOWN_CHARACTERS = 100
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def in_words(schema: Mapping[str, Any]) -> str:
    """What to tell a model that can't be held to a schema by its endpoint."""
    return (
        "Answer with one JSON value that follows this JSON schema, and nothing else:\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )


def structured(text: str, schema: Mapping[str, Any], source: str, usage: Usage) -> Any:
    """The JSON value in an answer.

    Args:
        text: the answer; a Markdown fence around the JSON is taken off.
        schema: what it must follow. Types, required properties, items, ``enum`` and ``$ref`` are looked at.
        source: who answered, as the subject of a sentence.
        usage: what it cost, for the error.

    Raises:
        UnusableAnswerError: it is no JSON, or does not follow the schema.
    """
    fenced = _FENCED.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        raise UnusableAnswerError(
            f"{source} answered with no JSON, which was asked for ({_shown(text)})", usage
        ) from None
    problem = next(_problems(value, schema, schema, "the answer"), None)
    if problem:
        raise UnusableAnswerError(f"{source} answered with JSON of another shape: {problem} ({_shown(text)})", usage)
    return value


def _problems(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = root.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else list(wanted or ())
    if names and not any(_is(value, name) for name in names):
        yield f"{where} must be {' or '.join(names)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} must be one of {schema['enum']}"
    if isinstance(value, dict):
        yield from (f"{where} lacks {name!r}" for name in schema.get("required", ()) if name not in value)
        for name, part in schema.get("properties", {}).items():
            if name in value:
                yield from _problems(value[name], part, root, f"{name!r}")
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, item in enumerate(value):
            yield from _problems(item, schema["items"], root, f"item {number} of {where}")


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES.get(name, object))


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return f"{line[:_SHOWN_CHARACTERS]}..." if len(line) > _SHOWN_CHARACTERS else line or "nothing"
