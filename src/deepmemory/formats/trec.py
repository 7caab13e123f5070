"""TREC's qrels and run files, as trec_eval reads them.

A qrels line is ``query-id iteration document-id grade`` and a run line is ``query-id Q0 document-id rank score tag``,
separated by white space; so ids can't have any.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from deepmemory.errors import InputError
from deepmemory.formats.files import atomic_file, lines
from deepmemory.formats.qrels import Judgement, Qrels, collect_qrels, finite_number, grade_text

__all__ = ["Run", "read_trec_qrels", "read_trec_run", "write_trec_qrels", "write_trec_run"]

Run: TypeAlias = Mapping[str, Sequence[tuple[str, float]]]
"""By query id, the ``(document id, score)`` pairs found, best first."""


def read_trec_qrels(path: str | Path) -> Qrels:
    """Read judgements.

    Returns:
        By query id, the grade of each judged document by its id, in the order of the file. As in trec_eval, grades of
        0 and below say not relevant; they are kept.

    Raises:
        InputError: the file can't be read, or lines are not of this form; all of them are named.
    """
    problems: list[str] = []
    qrels = collect_qrels(_judgements(Path(path), problems), problems)
    if problems:
        raise InputError(problems)
    return qrels


def write_trec_qrels(path: str | Path, qrels: Mapping[str, Mapping[str, float]]) -> None:
    """Write judgements, replacing the file.

    Raises:
        InputError: an id is empty or has white space, or a grade is not a whole number: trec_eval would silently cut
            it down to one.
        StorageError: the disk refused.
    """
    problems = [f"TREC files can't hold the id {id!r}: it is empty or has white space." for id in _unwritable(qrels)]
    problems += [
        f"TREC grades are whole numbers, but document {document_id!r} has {grade} for query {query_id!r}; scale them."
        for query_id, judgements in qrels.items()
        for document_id, grade in judgements.items()
        if not float(grade).is_integer()
    ]
    if problems:
        raise InputError(problems)
    with atomic_file(Path(path)) as file:
        for query_id, judgements in qrels.items():
            file.writelines(f"{query_id} 0 {id} {grade_text(grade)}\n" for id, grade in judgements.items())


def read_trec_run(path: str | Path) -> dict[str, list[tuple[str, float]]]:
    """Read what a system found.

    Returns:
        By query id, the ``(document id, score)`` pairs by descending score. Ranks are ignored, as trec_eval does;
        equal scores keep the order of the file, where trec_eval would order them by id.

    Raises:
        InputError: the file can't be read, or lines are not of this form, or a document comes twice for a query; all
            of them are named.
    """
    problems: list[str] = []
    scores: dict[str, dict[str, float]] = {}
    for where, line in lines(Path(path)):
        fields = line.split()
        if len(fields) != 6:
            problems.append(f"{where}: expected 6 fields (query, Q0, document, rank, score, tag), found {len(fields)}.")
            continue
        query_id, _, document_id, _, written, _ = fields
        hits = scores.setdefault(query_id, {})
        score = finite_number(written)
        if score is None:
            problems.append(f"{where}: the score must be a finite number, found {written!r}.")
        elif document_id in hits:
            problems.append(f"{where}: document {document_id!r} is found twice for query {query_id!r}.")
        else:
            hits[document_id] = score
    if problems:
        raise InputError(problems)
    return {query_id: sorted(hits.items(), key=lambda hit: -hit[1]) for query_id, hits in scores.items()}


def write_trec_run(path: str | Path, run: Run, *, tag: str = "deepmemory") -> None:
    """Write what a system found, replacing the file. Ranks start at 1.

    Raises:
        InputError: an id or the tag is empty or has white space; a document comes twice for a query; or scores are not
            finite or grow from hit to hit, which would put the hits in another order when they are read.
        StorageError: the disk refused.
    """
    problems = [f"TREC files can't hold the id {id!r}: it is empty or has white space." for id in _unwritable_run(run)]
    if not _is_writable(tag):
        problems.append(f"TREC files can't hold the tag {tag!r}: it is empty or has white space.")
    for query_id, hits in run.items():
        scores = [score for _, score in hits]
        if len({document_id for document_id, _ in hits}) < len(hits):
            problems.append(f"The run of query {query_id!r} has a document twice.")
        if not all(map(math.isfinite, scores)) or scores != sorted(scores, reverse=True):
            problems.append(f"The run of query {query_id!r} needs finite scores that descend from hit to hit.")
    if problems:
        raise InputError(problems)
    with atomic_file(Path(path)) as file:
        for query_id, hits in run.items():
            file.writelines(
                f"{query_id} Q0 {document_id} {rank} {float(score)!r} {tag}\n"
                for rank, (document_id, score) in enumerate(hits, start=1)
            )


def _judgements(path: Path, problems: list[str]) -> Iterator[Judgement]:
    for where, line in lines(path):
        fields = line.split()
        if len(fields) == 4:
            yield Judgement(where, fields[0], fields[2], fields[3])
        else:
            problems.append(f"{where}: expected 4 fields (query, iteration, document, grade), found {len(fields)}.")


def _is_writable(id: str) -> bool:
    return len(id.split()) == 1 and id == id.strip()


def _unwritable(qrels: Mapping[str, Mapping[str, float]]) -> list[str]:
    ids = dict.fromkeys([*qrels, *(id for judgements in qrels.values() for id in judgements)])
    return [id for id in ids if not _is_writable(id)]


def _unwritable_run(run: Run) -> list[str]:
    return _unwritable({query_id: dict(hits) for query_id, hits in run.items()})
