"""Checks queries and relevance before any work starts, and reports every problem at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from deepmemory.data.model import LabelledQueries
from deepmemory.data.text import is_list, shown, text_problem
from deepmemory.errors import InputError

__all__ = ["check_labelled"]

_WANTED = "expected a list of (document id, grade) pairs such as [('doc-1', 1.0)]"
_LARGEST_GRADE = float(np.finfo(np.float32).max)


def check_labelled(
    queries: object,
    relevance: object,
    *,
    made: object = None,
    known_ids: Callable[[Sequence[str]], set[str]] | None = None,
    rows: Sequence[str] | None = None,
) -> LabelledQueries:
    """Align queries with their relevance, or say everything that is wrong with them.

    - A document that is named twice for one query counts once. With two different grades it is a problem, because
      nothing tells which one is meant.
    - A grade of 0 says that the document is not relevant; such pairs are allowed and dropped. A query that is left
      with no relevant document is a problem, because no metric is defined for it.
    - The same query may come several times (see `LabelledQueries.merged`).

    Args:
        queries: a list of texts.
        relevance: for each query a list of ``(document id, grade)`` pairs (`Relevance`); a grade is a number of 0 or
            more. Lists do for tuples, as JSON has no tuples.
        made: for each query whether it was made out of its document and not asked by anybody; None where all were
            asked.
        known_ids: given distinct ids, returns those that exist; called at most once. Without it any id will do.
        rows: what messages call each row, such as ``"queries.jsonl, line 3"``; by default its place in the argument.

    Raises:
        InputError: with every problem, in the order of the rows.

    Example:
        >>> check_labelled(["how?"], [[("a", 1.0), ("b", 0.0)]]).qrels
        ({'a': 1.0},)
    """
    texts, judged = _as_lists(queries, relevance)
    flags = _made_flags(made, len(texts))
    problems_by_row: list[list[str]] = []
    qrels: list[dict[str, float]] = []
    for position, (text, pairs) in enumerate(zip(texts, judged, strict=True)):
        query_at = rows[position] if rows else f"queries[{position}]"
        relevance_at = rows[position] if rows else f"relevance[{position}]"
        judgements, row_problems = _check_row(relevance_at, pairs)
        if problem := text_problem(text):
            row_problems.insert(0, f"{query_at}: the query {problem}.")
        problems_by_row.append(row_problems)
        qrels.append(judgements)
    if known_ids is not None:
        for position, problem in _unknown(qrels, known_ids, rows):
            problems_by_row[position].append(problem)
    problems = [problem for row_problems in problems_by_row for problem in row_problems]
    if problems:
        raise InputError(problems)
    relevant = ({id: grade for id, grade in judgements.items() if grade > 0} for judgements in qrels)
    return LabelledQueries(queries=tuple(texts), qrels=tuple(relevant), made=flags)


def _as_lists(queries: object, relevance: object) -> tuple[list[Any], list[Any]]:
    """The two arguments as lists of one length; nothing can be said by row before that holds."""
    problems = []
    if not is_list(queries):
        problems.append(f"queries must be a list of texts, but is {shown(queries)}.")
    if not is_list(relevance):
        problems.append(
            f"relevance must be a list with one entry for each query, but is {shown(relevance)}; each entry is "
            "a list of (document id, grade) pairs."
        )
    if problems:
        raise InputError(problems)
    texts, judged = list(queries), list(relevance)  # type: ignore[call-overload]  # is_list has seen to it
    if len(texts) != len(judged):
        raise InputError(
            "queries and relevance must have the same length, one entry of relevance for each query, "
            f"but there are {len(texts)} queries and {len(judged)} entries of relevance."
        )
    if not texts:
        raise InputError("queries is empty: at least one query with a relevant document is needed.")
    return texts, judged


def _made_flags(made: object, n: int) -> tuple[bool, ...]:
    if made is None:
        return ()
    if not is_list(made) or not all(isinstance(flag, bool | np.bool_) for flag in made):
        raise InputError(
            f"made must be a list of True (made out of its document) and False (asked), but is {shown(made)}"
        )
    flags = tuple(bool(flag) for flag in made)
    if len(flags) != n:
        raise InputError(f"made must have one entry for each query: there are {n} queries and {len(flags)} entries.")
    return flags


def _check_row(where: str, pairs: object) -> tuple[dict[str, float], list[str]]:
    """The grades of one query by id, zeros included, and what is wrong with them."""
    if misshapen := _shape_problem(pairs):
        return {}, [f"{where}: {misshapen}."]
    judgements: dict[str, float] = {}
    problems: list[str] = []
    for pair in pairs:  # type: ignore[attr-defined]  # it is a list, or it would be misshapen
        pair_problem = _pair_problem(pair)
        if pair_problem is None and judgements.get(pair[0], pair[1]) != pair[1]:
            first, second = judgements[pair[0]], pair[1]
            pair_problem = f"the id {pair[0]!r} is given twice with different grades, {first:g} and {second:g}"
        if pair_problem is not None:
            problems.append(f"{where}: {pair_problem}.")
        else:
            judgements[pair[0]] = float(pair[1])
    if not problems and not any(judgements.values()):
        why = "every grade is 0" if judgements else "its relevance is empty"
        problems.append(f"{where}: the query has no relevant document ({why}); give one a grade above 0, or drop it.")
    return judgements, problems


def _shape_problem(pairs: object) -> str | None:
    """What is wrong with the form of one query's relevance as a whole, with the mistakes that people make named."""
    if isinstance(pairs, str):
        return f"{_WANTED}, found the text {pairs!r}"
    if isinstance(pairs, Mapping):
        return f"{_WANTED}, found a dict; pass list(relevance.items()) for each query"
    if not is_list(pairs):
        return f"{_WANTED}, found {shown(pairs)}"
    entries = list(pairs)
    if len(entries) == 2 and isinstance(entries[0], str) and _is_number(entries[1]):
        return f"{_WANTED}, found a single pair that is not in a list: {tuple(entries)!r}"
    if entries and all(isinstance(entry, str) for entry in entries):
        return f"{_WANTED}, found a list of ids without grades, starting with {entries[0]!r}"
    return None


def _pair_problem(pair: object) -> str | None:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return f"expected a (document id, grade) pair, found {shown(pair)}"
    id, grade = pair
    if _is_number(id) and isinstance(grade, str):
        return f"the pair ({id!r}, {grade!r}) is in the wrong order; expected (document id, grade)"
    if problem := text_problem(id):
        return f"a document id {problem}"
    if problem := _grade_problem(grade):
        return f"the grade of {id!r} {problem}"
    return None


def _grade_problem(grade: Any) -> str | None:
    if not _is_number(grade):
        return f"must be a number, found {shown(grade)}"
    if not 0 <= grade <= _LARGEST_GRADE:  # false for NaN, too
        return f"must be 0 or more and finite, but is {grade}"
    if grade and not np.float32(grade):
        return f"is too small to be told from 0: {grade}"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _unknown(
    qrels: Sequence[Mapping[str, float]], known_ids: Callable[[Sequence[str]], set[str]], rows: Sequence[str] | None
) -> Iterator[tuple[int, str]]:
    distinct = list(dict.fromkeys(id for judgements in qrels for id in judgements))
    known = known_ids(distinct) if distinct else set()
    for position, judgements in enumerate(qrels):
        for id in judgements:
            if id not in known:
                where = rows[position] if rows else f"relevance[{position}]"
                yield position, f"{where}: there is no document with the id {id!r}."
