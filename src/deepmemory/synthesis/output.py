"""Writes queries and relevance in the forms that other tools read."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from deepmemory.data import Document
from deepmemory.errors import InputError
from deepmemory.formats import Collection, write_beir, write_trec_qrels
from deepmemory.formats.files import atomic_file, atomic_folder
from deepmemory.synthesis.model import Synthesis

__all__ = ["FORMATS", "OutputFormat", "check_output", "write_queries"]

OutputFormat: TypeAlias = Literal["jsonl", "beir", "trec", "llamaindex"]
"""JSON Lines for ``deepmemory train``; a BEIR folder; a folder of TREC topics and qrels; LlamaIndex's dataset."""

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)

_FOLDERS = ("beir", "trec")


def check_output(path: str | Path, form: OutputFormat) -> None:
    """See that there is room for the output, before anything is paid for.

    Raises:
        InputError: the format is unknown, or the path is taken.
    """
    path = Path(path)
    if form not in FORMATS:
        raise InputError(f"the format is one of {', '.join(FORMATS)}; found {form!r}")
    if form in _FOLDERS and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} exists already; give a new or empty folder.")
    if form not in _FOLDERS and path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write to.")


def write_queries(
    path: str | Path, synthesis: Synthesis, form: OutputFormat = "jsonl", *, documents: Sequence[Document] = ()
) -> None:
    """Write queries with their relevance, all or nothing.

    Args:
        path: a file, or for ``beir`` and ``trec`` a new or empty folder.
        synthesis: what to write.
        form: see `OutputFormat`.
        documents: the corpus, which ``beir`` and ``llamaindex`` hold, too.

    Raises:
        InputError: the path is taken; the format needs documents; ids that TREC can't hold.
        StorageError: the disk refused.
    """
    path = Path(path)
    check_output(path, form)
    if form in ("beir", "llamaindex"):
        there = {document.id for document in documents}
        missing = [one.source_id for one in synthesis.queries if one.source_id not in there]
        if missing:
            raise InputError(f"the format {form} holds the documents, too: {missing[0]!r} is not among them")
    writers: Mapping[OutputFormat, Callable[[], None]] = {
        "jsonl": lambda: _write_jsonl(path, synthesis),
        "beir": lambda: write_beir(path, _collection(path, synthesis, documents)),
        "trec": lambda: _write_trec(path, synthesis),
        "llamaindex": lambda: _write_llama_index(path, synthesis, documents),
    }
    writers[form]()


def _ids(synthesis: Synthesis) -> list[str]:
    return [f"q{number}" for number in range(len(synthesis.queries))]


def _write_jsonl(path: Path, synthesis: Synthesis) -> None:
    """What `deepmemory.formats.read_labelled` reads; it passes over the kind and the generator."""
    with atomic_file(path) as file:
        for one in synthesis.queries:
            record = {
                "query": one.query,
                "relevance": [[one.source_id, 1.0]],
                "made": True,
                "kind": one.kind,
                "generator": synthesis.generator,
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _collection(path: Path, synthesis: Synthesis, documents: Sequence[Document]) -> Collection:
    return Collection(
        name=path.name,
        documents=tuple(documents),
        query_ids=tuple(_ids(synthesis)),
        queries=tuple(synthesis.questions),
        qrels=tuple({one.source_id: 1.0} for one in synthesis.queries),
    )


def _write_trec(path: Path, synthesis: Synthesis) -> None:
    """``topics.tsv``, an id and a query on each line, and ``qrels.txt``."""
    with atomic_folder(path) as folder:
        with atomic_file(folder / "topics.tsv") as file:
            for id, one in zip(_ids(synthesis), synthesis.queries, strict=True):
                file.write(f"{id}\t{' '.join(one.query.split())}\n")
        qrels = zip(_ids(synthesis), synthesis.queries, strict=True)
        write_trec_qrels(folder / "qrels.txt", {id: {one.source_id: 1.0} for id, one in qrels})


def _write_llama_index(path: Path, synthesis: Synthesis, documents: Sequence[Document]) -> None:
    ids = _ids(synthesis)
    dataset = {
        "queries": dict(zip(ids, synthesis.questions, strict=True)),
        "corpus": {document.id: document.text for document in documents},
        "relevant_docs": {id: [one.source_id] for id, one in zip(ids, synthesis.queries, strict=True)},
        "mode": "text",
    }
    with atomic_file(path) as file:
        json.dump(dataset, file, ensure_ascii=False)
