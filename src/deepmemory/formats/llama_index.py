"""LlamaIndex's ``EmbeddingQAFinetuneDataset``, as its ``save_json`` writes it."""

from pathlib import Path
from typing import Any

from deepmemory.data import Document
from deepmemory.errors import InputError
from deepmemory.formats.collection import Collection
from deepmemory.formats.files import open_text, parse_json

__all__ = ["collection_of", "is_llama_index", "read_llama_index"]


def read_llama_index(path: str | Path) -> Collection:
    """Read a dataset: one JSON object with ``queries``, ``corpus`` and ``relevant_docs``.

    Every relevant document gets the grade 1, as LlamaIndex has no grades.

    Raises:
        InputError: the file can't be read or has another form, or entries are bad; all of them are named.
    """
    path = Path(path)
    with open_text(path) as file:
        text = file.read()
    try:
        record = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}).") from error
    if not is_llama_index(record):
        raise InputError(
            f"{path} is no LlamaIndex dataset: expected a JSON object with the keys queries, corpus and relevant_docs."
        )
    return collection_of(path, record)


def is_llama_index(record: object) -> bool:
    """Whether parsed JSON has the keys of a dataset."""
    return isinstance(record, dict) and {"queries", "corpus", "relevant_docs"} <= record.keys()


def collection_of(path: Path, record: dict[str, Any]) -> Collection:
    """The collection that parsed JSON describes.

    Raises:
        InputError: with every problem.
    """
    queries, corpus, relevant = record["queries"], record["corpus"], record["relevant_docs"]
    if not all(isinstance(part, dict) for part in (queries, corpus, relevant)):
        raise InputError(f"{path}: queries, corpus and relevant_docs must be JSON objects by id.")
    problems = [
        f"{path}, query {id!r}: expected a text, found {text!r}."
        for id, text in queries.items()
        if not isinstance(text, str) or not text.strip()
    ]
    problems += [
        f"{path}, document {id!r}: expected a text, found {text!r}."
        for id, text in corpus.items()
        if not isinstance(text, str)
    ]
    for query_id, document_ids in relevant.items():
        where = f"{path}, relevant_docs of query {query_id!r}"
        if query_id not in queries:
            problems.append(f"{where}: there is no such query.")
        if not isinstance(document_ids, list):
            problems.append(f"{where}: expected a list of document ids, found {document_ids!r}.")
            continue
        problems += [
            f"{where}: there is no document with the id {id!r}."
            for id in document_ids
            if not isinstance(id, str) or id not in corpus
        ]
    if problems:
        raise InputError(problems)
    return Collection(
        name=path.stem,
        documents=tuple(Document(id=id, text=text) for id, text in corpus.items()),
        query_ids=tuple(queries),
        queries=tuple(queries.values()),
        qrels=tuple(dict.fromkeys(relevant.get(id, []), 1.0) for id in queries),
    )
