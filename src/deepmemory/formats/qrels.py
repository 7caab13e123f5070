"""What BEIR's and TREC's judgements have in common: query, document and grade on a line."""

import math
from collections.abc import Container, Iterable
from typing import NamedTuple, TypeAlias

__all__ = ["Judgement", "Qrels", "collect_qrels", "finite_number", "grade_text"]

Qrels: TypeAlias = dict[str, dict[str, float]]
"""By query id, the grade of each judged document by its id; 0 and below say not relevant."""


class Judgement(NamedTuple):
    """One line, not yet checked."""

    where: str
    query_id: str
    document_id: str
    grade: str


def collect_qrels(
    judgements: Iterable[Judgement],
    problems: list[str],
    *,
    query_ids: Container[str] | None = None,
    document_ids: Container[str] | None = None,
) -> Qrels:
    """Gather judgements by query; what can't be one is added to the problems.

    A pair that is judged twice counts once; with two different grades it is a problem.

    Args:
        judgements: in the order of the file.
        problems: gets one sentence for each bad line.
        query_ids: those that exist; None where any will do.
        document_ids: those that exist; None where any will do.
    """
    qrels: Qrels = {}
    for where, query_id, document_id, written in judgements:
        grade = finite_number(written)
        if not query_id or not document_id:
            problems.append(f"{where}: an id is empty.")
        elif grade is None:
            problems.append(f"{where}: the grade must be a finite number, found {written!r}.")
        elif query_ids is not None and query_id not in query_ids:
            problems.append(f"{where}: there is no query with the id {query_id!r}.")
        elif document_ids is not None and document_id not in document_ids:
            problems.append(f"{where}: there is no document with the id {document_id!r}.")
        elif (first := qrels.setdefault(query_id, {}).setdefault(document_id, grade)) != grade:
            problems.append(
                f"{where}: query {query_id!r} and document {document_id!r} are judged twice with different grades, "
                f"{first:g} and {grade:g}."
            )
    return qrels


def grade_text(grade: float) -> str:
    """A grade as files have it: whole numbers without a point."""
    return str(int(grade)) if float(grade).is_integer() else repr(float(grade))


def finite_number(written: str) -> float | None:
    """The number that a field holds; None where it holds something else, NaN or an infinity."""
    try:
        number = float(written)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
