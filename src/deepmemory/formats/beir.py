"""BEIR folders in and out.

A folder holds

- ``corpus.jsonl``: ``_id``, ``text`` and, where there are any, ``title`` and ``metadata``,
- ``queries.jsonl``: ``_id`` and ``text``,
- ``qrels.tsv``, or ``qrels/<split>.tsv`` for each split: ``query-id``, ``corpus-id``, ``score`` with a header,

and may hold, which BEIR itself knows nothing of,

- ``split.tsv``: ``query-id`` and ``split`` with a header, for one ``qrels.tsv`` of all queries,
- ``embeddings.npz``: the arrays ``documents`` and ``queries``, one row for each line of the two files.

Each text file may be compressed (``corpus.jsonl.gz``).
"""

import csv
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.data import Document, check_vectors
from deepmemory.errors import InputError
from deepmemory.formats.collection import Collection
from deepmemory.formats.files import atomic_file, atomic_folder, json_lines, open_text
from deepmemory.formats.qrels import Judgement, Qrels, collect_qrels, finite_number, grade_text

__all__ = ["is_beir", "read_beir", "write_beir"]

_EMBEDDINGS = "embeddings.npz"
_QRELS_HEADER = ("query-id", "corpus-id", "score")
_SPLIT_HEADER = ("query-id", "split")


def is_beir(folder: Path) -> bool:
    """Whether a folder holds what no BEIR folder lacks."""
    return _find(folder, "corpus.jsonl") is not None and _find(folder, "queries.jsonl") is not None


def read_beir(folder: str | Path) -> Collection:
    """Read a BEIR folder.

    Judgements of 0 and below say not relevant and are dropped. Queries that have no relevant document are kept without
    qrels: they are the ones that another split or nobody judged. Documents may be empty, as some of BEIR's are.

    Raises:
        InputError: a file is missing or can't be read, or has bad lines; all bad lines of all files are named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    problems: list[str] = []
    documents = _read_documents(_required(folder, "corpus.jsonl"), problems)
    queries = _read_queries(_required(folder, "queries.jsonl"), problems)
    rows = {id: row for row, id in enumerate(queries)}
    document_ids = {document.id for document in documents}
    qrels_by_split = {
        split: collect_qrels(
            _judgements(path, problems),
            problems,
            # Ids that only a bad line defines would be reported twice over.
            query_ids=None if problems else rows.keys(),
            document_ids=None if problems else document_ids,
        )
        for split, path in _qrels_files(folder).items()
    }
    qrels = _united(qrels_by_split, problems)
    splits = _read_splits(folder, qrels_by_split, rows, problems)
    vectors = _read_vectors(folder / _EMBEDDINGS, len(documents), len(queries), problems)
    if problems:
        raise InputError(problems)
    return Collection(
        name=folder.resolve().name,
        documents=tuple(documents),
        query_ids=tuple(queries),
        queries=tuple(queries.values()),
        qrels=tuple({id: grade for id, grade in qrels.get(query, {}).items() if grade > 0} for query in queries),
        splits=splits,
        document_vectors=vectors.get("documents"),
        query_vectors=vectors.get("queries"),
    )


def write_beir(folder: str | Path, collection: Collection, *, compress: bool = False) -> None:
    """Write a new BEIR folder, all or nothing, that `read_beir` reads back the same.

    Judgements go to one ``qrels.tsv``, or to ``qrels/<split>.tsv`` where the collection's splits cover every labelled
    query exactly once; splits that don't go to ``split.tsv`` beside it. Grades that are not whole numbers are written
    as they are; some tools refuse them.

    Args:
        folder: new, or empty.
        collection: what to write.
        compress: write the two ``.jsonl`` files as ``.jsonl.gz``.

    Raises:
        InputError: the folder exists and isn't empty.
        StorageError: the disk refused.
    """
    suffix = ".gz" if compress else ""
    with atomic_folder(Path(folder)) as temporary:
        with atomic_file(temporary / f"corpus.jsonl{suffix}") as file:
            file.writelines(map(_document_line, collection.documents))
        with atomic_file(temporary / f"queries.jsonl{suffix}") as file:
            file.writelines(
                _json_line({"_id": id, "text": text})
                for id, text in zip(collection.query_ids, collection.queries, strict=True)
            )
        _write_judgements(temporary, collection)
        if collection.document_vectors is not None and collection.query_vectors is not None:
            with (temporary / _EMBEDDINGS).open("xb") as raw:
                np.savez(raw, documents=collection.document_vectors, queries=collection.query_vectors)
                raw.flush()
                os.fsync(raw.fileno())


# --- reading ----------------------------------------------------------------------------------------------------------


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _required(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise InputError(f"{folder} is no BEIR folder: there is neither {name} nor {name}.gz in it.")
    return path


def _qrels_files(folder: Path) -> dict[str, Path]:
    """The files of judgements by split; the split is called "" where there is but one file for all."""
    single = _find(folder, "qrels.tsv")
    by_split = {
        path.name.removesuffix(".gz").removesuffix(".tsv"): path
        for path in sorted((folder / "qrels").glob("*"))
        if path.name.endswith((".tsv", ".tsv.gz"))
    }
    if single is not None and by_split:
        raise InputError(f"{folder} has both {single.name} and a folder qrels; keep the one that is meant.")
    if single is None and not by_split:
        raise InputError(f"{folder} is no BEIR folder: there is neither qrels.tsv nor qrels/<split>.tsv in it.")
    return {"": single} if single is not None else by_split


def _read_documents(path: Path, problems: list[str]) -> list[Document]:
    documents: dict[str, Document] = {}
    for where, record in json_lines(path, problems):
        id, text, title = record.get("_id"), record.get("text"), record.get("title") or ""
        metadata = record.get("metadata") or {}
        if not isinstance(metadata, dict) or not isinstance(title, str):
            problems.append(f"{where}: title must be text and metadata an object.")
        elif _is_entry(where, id, text, documents, problems):
            titled = {**metadata, "title": title} if title else metadata
            documents[str(id)] = Document(id=str(id), text=str(text), metadata=titled)
    return list(documents.values())


def _read_queries(path: Path, problems: list[str]) -> dict[str, str]:
    queries: dict[str, str] = {}
    for where, record in json_lines(path, problems):
        id, text = record.get("_id"), record.get("text")
        if _is_entry(where, id, text, queries, problems):
            queries[str(id)] = str(text)
            if not queries[str(id)].strip():
                problems.append(f"{where}: the query {id!r} is empty.")
    return queries


def _is_entry(where: str, id: object, text: object, taken: Mapping[str, Any], problems: list[str]) -> bool:
    """Whether a line has a new id and a text; otherwise what is wrong is added to the problems."""
    if not isinstance(id, str) or not id:
        problems.append(f"{where}: _id must be text that isn't empty, found {id!r}.")
    elif id in taken:
        problems.append(f"{where}: the _id {id!r} is used already by a line above.")
    elif not isinstance(text, str):
        problems.append(f"{where}: text must be text, found {text!r}.")
    else:
        return True
    return False


def _tsv_rows(path: Path, columns: int, is_header: Callable[[list[str]], bool]) -> Iterator[tuple[str, list[str]]]:
    """The rows of a tab-separated file with their places, without its header."""
    with open_text(path) as text:
        reader = csv.reader(text, delimiter="\t")
        try:
            for number, row in enumerate(reader):
                where = f"{path}, line {reader.line_num}"
                if row and not (number == 0 and len(row) == columns and is_header(row)):
                    yield where, row
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: not tab-separated text ({error}).") from error


def _judgements(path: Path, problems: list[str]) -> Iterator[Judgement]:
    for where, row in _tsv_rows(path, 3, lambda row: finite_number(row[2]) is None):
        if len(row) == 3:
            yield Judgement(where, *row)
        else:
            problems.append(f"{where}: expected {', '.join(_QRELS_HEADER)} separated by tabs, found {len(row)} fields.")


def _united(qrels_by_split: Mapping[str, Qrels], problems: list[str]) -> Qrels:
    """All judgements, whatever split they come from."""
    return collect_qrels(
        (
            Judgement(f"qrels of the split {split!r}", query_id, document_id, repr(grade))
            for split, qrels in qrels_by_split.items()
            for query_id, judgements in qrels.items()
            for document_id, grade in judgements.items()
        ),
        problems,
    )


def _read_splits(
    folder: Path, qrels_by_split: Mapping[str, Qrels], rows: Mapping[str, int], problems: list[str]
) -> dict[str, NDArray[np.int64]]:
    path = _find(folder, "split.tsv")
    if path is None:
        members = {split: list(qrels) for split, qrels in qrels_by_split.items() if split}
    else:
        members = {}
        for where, row in _tsv_rows(path, 2, lambda row: row[0] == _SPLIT_HEADER[0]):
            if len(row) != 2 or not row[1]:
                problems.append(f"{where}: expected {' and '.join(_SPLIT_HEADER)} separated by a tab.")
            elif row[0] not in rows:
                problems.append(f"{where}: there is no query with the id {row[0]!r}.")
            else:
                members.setdefault(row[1], []).append(row[0])
    return {
        split: np.unique(np.array([rows[id] for id in ids if id in rows], dtype=np.int64))
        for split, ids in members.items()
    }


def _read_vectors(path: Path, n_documents: int, n_queries: int, problems: list[str]) -> dict[str, NDArray[np.float32]]:
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            arrays = {name: _array(archive, name) for name in ("documents", "queries")}
    except KeyError:
        problems.append(f"{path} must hold the arrays documents and queries.")
        return {}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error):
        problems.append(f"{path} is no NumPy archive, or is truncated or damaged.")
        return {}
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, n in (("documents", n_documents), ("queries", n_queries)):
        try:
            vectors[name] = check_vectors(arrays[name], n, None, f"{path} {name}")
        except InputError as error:
            problems += error.problems
    if len({array.shape[1] for array in vectors.values()}) > 1:
        shapes = " and ".join(f"{name} {array.shape}" for name, array in vectors.items())
        problems.append(f"{path}: documents and queries must have the same dimensions, found {shapes}.")
    return vectors


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


# --- writing ----------------------------------------------------------------------------------------------------------


def _json_line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _document_line(document: Document) -> str:
    metadata = dict(document.metadata)
    title = metadata.get("title")
    title = metadata.pop("title") if isinstance(title, str) and title else ""
    record = {"_id": document.id, "title": title, "text": document.text}
    return _json_line({**record, "metadata": metadata} if metadata else record)


def _write_judgements(folder: Path, collection: Collection) -> None:
    members = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *collection.splits.values()]))
    by_file = all(re.fullmatch(r"\w[\w.-]*", split) for split in collection.splits)
    if collection.splits and by_file and np.array_equal(members, collection.labelled_positions):
        (folder / "qrels").mkdir()
        for split, positions in collection.splits.items():
            _write_qrels(folder / "qrels" / f"{split}.tsv", collection, positions.tolist())
        return
    _write_qrels(folder / "qrels.tsv", collection, range(len(collection.queries)))
    if collection.splits:
        rows = [
            (collection.query_ids[position], split)
            for split, positions in collection.splits.items()
            for position in positions
        ]
        _write_tsv(folder / "split.tsv", [_SPLIT_HEADER, *rows])


def _write_qrels(path: Path, collection: Collection, positions: Sequence[int]) -> None:
    rows = [
        (collection.query_ids[position], id, grade_text(grade))
        for position in positions
        for id, grade in collection.qrels[position].items()
    ]
    _write_tsv(path, [_QRELS_HEADER, *rows])


def _write_tsv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with atomic_file(path) as file:
        file.writelines("\t".join(map(_tsv_field, row)) + "\n" for row in rows)


def _tsv_field(field: str) -> str:
    """Quoted only where it must be, for many tools split at tabs; `csv.writer` forgets to quote a carriage return."""
    return '"' + field.replace('"', '""') + '"' if re.search(r'[\t\r\n"]', field) else field
