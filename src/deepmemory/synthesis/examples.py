"""Queries of real users, whose manner a model is to take on."""

import json
from pathlib import Path

from deepmemory.errors import InputError
from deepmemory.formats import read_labelled
from deepmemory.formats.files import lines, parse_json

__all__ = ["read_examples"]

_KEYS = ("query", "question", "text")


def read_examples(path: str | Path) -> list[str]:
    """Read queries: one on each line, as text or as JSON with the key ``query``; or anything `read_labelled` reads.

    Raises:
        InputError: the file can't be read, or holds none.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in (".csv", ".tsv", ".json"):
        return list(dict.fromkeys(read_labelled(path).queries))
    problems: list[str] = []
    found = [_query(where, line, problems) for where, line in lines(path)]
    if problems:
        raise InputError(problems)
    queries = list(dict.fromkeys(query for query in found if query))
    if not queries:
        raise InputError(f"{path} holds no query: expected one on each line")
    return queries


def _query(where: str, line: str, problems: list[str]) -> str:
    if line[0] not in '{"':
        return line
    try:
        record = parse_json(line)
    except ValueError as error:
        if line[0] == '"':
            return line  # a query may begin with a quotation
        problems.append(f"{where}: not valid JSON ({error}).")
        return ""
    value = next((record[key] for key in _KEYS if key in record), None) if isinstance(record, dict) else record
    if not isinstance(value, str) or not value.strip():
        problems.append(f"{where}: expected a text, or JSON such as {json.dumps({'query': '...'})}.")
        return ""
    return value.strip()
