"""Labelled queries from whatever file they are in, told by its content and not by its name."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deepmemory.data import LabelledQueries, check_labelled
from deepmemory.errors import InputError
from deepmemory.formats.beir import is_beir, read_beir
from deepmemory.formats.collection import Collection
from deepmemory.formats.files import atomic_file, open_text, parse_json
from deepmemory.formats.llama_index import collection_of, is_llama_index
from deepmemory.formats.qrels import finite_number

__all__ = ["read_labelled", "write_labelled"]

_FORMS = (
    'JSON Lines with {"query": "...", "relevance": [["document id", 1.0]]} on each line, CSV with the columns query, '
    "id and grade, a LlamaIndex dataset, or a BEIR folder"
)
_QUERY_KEYS = ("query", "question")
_COLUMNS = {
    "query": "query",
    "question": "query",
    "id": "id",
    "document_id": "id",
    "corpus-id": "id",
    "grade": "grade",
    "score": "grade",
}


class _Row(NamedTuple):
    """One query as a file has it, not yet checked."""

    where: str
    query: object
    relevance: object
    made: object = False


def read_labelled(
    path: str | Path,
    *,
    split: str | None = None,
    known_ids: Callable[[Sequence[str]], set[str]] | None = None,
) -> LabelledQueries:
    """Read queries with their relevance.

    The file may be

    - JSON Lines, or one JSON list, of ``{"query": "...", "relevance": [["document id", grade], ...]}``, with
      ``"made": true`` where the query was made out of its document; ``"question"`` does for ``"query"``, and other
      keys are ignored;
    - CSV (comma, semicolon or tab) with a header: ``query`` (or ``question``), ``id`` (or ``document_id``,
      ``corpus-id``) and, unless every grade is 1, ``grade`` (or ``score``). A line is one pair; lines with the same
      query make one query;
    - LlamaIndex's ``EmbeddingQAFinetuneDataset`` (`read_llama_index`);
    - a BEIR folder (`read_beir`), of which the queries without relevant documents are left out.

    Args:
        path: the file, compressed by gzip or not, or the folder.
        split: of a BEIR folder, the split to read ("train", "test" ...); all of it by default.
        known_ids: given distinct ids, returns those that exist (see `check_labelled`).

    Raises:
        InputError: it can't be read, is none of these, or has bad lines; all of them are named.
    """
    path = Path(path)
    if path.is_dir():
        return _of_collection(path, _read_folder(path), split, known_ids)
    if split is not None:
        raise InputError(f"{path} is a file and has no splits; a split can be chosen from a BEIR folder.")
    with open_text(path) as file:
        text = file.read()
    problems: list[str] = []
    parsed = _parse(path, text, problems)
    if isinstance(parsed, Collection):
        return _of_collection(path, parsed, None, known_ids)
    if not parsed:
        raise InputError(problems or f"{path} holds no query; expected {_FORMS}.")
    try:
        labelled = check_labelled(
            [row.query for row in parsed],
            [row.relevance for row in parsed],
            made=[row.made for row in parsed],
            known_ids=known_ids,
            rows=[row.where for row in parsed],
        )
    except InputError as error:
        raise InputError([*problems, *error.problems]) from error
    if problems:
        raise InputError(problems)
    return labelled


def write_labelled(path: str | Path, labelled: LabelledQueries) -> None:
    """Write queries with their relevance as JSON Lines, replacing the file; `read_labelled` reads the same back.

    Raises:
        StorageError: the disk refused.
    """
    with atomic_file(Path(path)) as file:
        for query, pairs, is_made in zip(labelled.queries, labelled.relevance, labelled.is_made, strict=True):
            record = {"query": query, "relevance": pairs} | ({"made": True} if is_made else {})
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def _read_folder(path: Path) -> Collection:
    if not is_beir(path):
        raise InputError(f"{path} is no BEIR folder: it lacks corpus.jsonl or queries.jsonl.")
    return read_beir(path)


def _of_collection(
    path: Path, collection: Collection, split: str | None, known_ids: Callable[[Sequence[str]], set[str]] | None
) -> LabelledQueries:
    positions = collection.labelled_positions.tolist()
    if split is not None:
        if split not in collection.splits:
            there_are = ", ".join(collection.splits) or "none"
            raise InputError(f"{path} has no split {split!r}; there are: {there_are}.")
        members = set(collection.splits[split].tolist())
        positions = [position for position in positions if position in members]
    if not positions:
        raise InputError(f"{path} has no query with a relevant document.")
    labelled = collection.labelled(positions)
    return check_labelled(
        labelled.queries,
        labelled.relevance,
        known_ids=known_ids,
        rows=[f"{path}, query {collection.query_ids[position]!r}" for position in positions],
    )


def _parse(path: Path, text: str, problems: list[str]) -> list[_Row] | Collection:
    """Tell the form by the first character, and JSON Lines from one JSON object by whether the first line is whole."""
    start = text.lstrip()[:1]
    if not start:
        raise InputError(f"{path} is empty; expected {_FORMS}.")
    if start == "[":
        return _json_list_rows(path, text, problems)
    if start == "{":
        return _json_rows(path, text, problems)
    return _csv_rows(path, text, problems)


def _json_rows(path: Path, text: str, problems: list[str]) -> list[_Row] | Collection:
    first_line, _, rest = text.strip().partition("\n")
    if not rest or not _is_json(first_line):
        try:
            whole = parse_json(text)
        except ValueError:
            whole = None  # not one object; line by line will tell what is wrong
        if is_llama_index(whole):
            return collection_of(path, whole)
        if isinstance(whole, dict):
            return _records_as_rows([(f"{path}, line 1", whole)], problems)
    records: list[tuple[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                records.append((where, parse_json(line)))
            except ValueError as error:
                problems.append(f"{where}: not valid JSON ({error}).")
    return _records_as_rows(records, problems)


def _json_list_rows(path: Path, text: str, problems: list[str]) -> list[_Row]:
    try:
        records = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}).") from error
    return _records_as_rows([(f"{path}, entry {n}", record) for n, record in enumerate(records, start=1)], problems)


def _is_json(line: str) -> bool:
    try:
        parse_json(line)
    except ValueError:
        return False
    return True


def _records_as_rows(records: Sequence[tuple[str, Any]], problems: list[str]) -> list[_Row]:
    rows = []
    for where, record in records:
        key = next((key for key in _QUERY_KEYS if isinstance(record, dict) and key in record), None)
        if key is None or "relevance" not in record:
            problems.append(f'{where}: expected {{"query": "...", "relevance": [["document id", 1.0]]}}.')
        elif not isinstance(record.get("made", False), bool):
            problems.append(f'{where}: "made" must be true or false, found {record["made"]!r}.')
        else:
            rows.append(_Row(where, record[key], record["relevance"], record.get("made", False)))
    return rows


def _csv_rows(path: Path, text: str, problems: list[str]) -> list[_Row]:
    """One row for each distinct query, at the place of its first line."""
    header_line = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header_line.count), strict=True)
    header: list[str] = []
    places: dict[str, str] = {}
    pairs: dict[str, list[tuple[str, float]]] = {}
    try:
        for fields in filter(any, reader):
            where = f"{path}, line {reader.line_num}"
            if not header:
                header = _csv_header(path, fields)
            elif len(fields) != len(header):
                problems.append(f"{where}: expected {len(header)} fields as in the header, found {len(fields)}.")
            else:
                record = {"grade": "1", **dict(zip(header, fields, strict=True))}
                grade = finite_number(record["grade"])
                if grade is None:
                    problems.append(f"{where}: the grade must be a finite number, found {record['grade']!r}.")
                else:
                    places.setdefault(record["query"], where)
                    pairs.setdefault(record["query"], []).append((record["id"], grade))
    except csv.Error as error:
        problems.append(f"{path}, line {reader.line_num}: not valid CSV ({error}).")
    return [_Row(places[query], query, relevance) for query, relevance in pairs.items()]


def _csv_header(path: Path, fields: list[str]) -> list[str]:
    """The names of the columns, with the accepted ones by the first of their names."""
    names = [_COLUMNS.get(field.strip().casefold(), field) for field in fields]
    if not {"query", "id"} <= set(names):
        raise InputError(f"{path} has none of the forms that are understood: expected {_FORMS}.")
    return names
