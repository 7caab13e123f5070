"""With and without: what Deep Memory is worth on queries with known answers, and how sure that is."""

from deepmemory.evaluation.compare import ANSWERS_SHOWN, EXAMPLES, HITS_SHOWN, TOP_K, depth_for, evaluate_rankings
from deepmemory.evaluation.result import (
    WITH,
    WITHOUT,
    ContextSaving,
    CurvePoint,
    Evaluation,
    Group,
    QueryResult,
)

__all__ = [
    "ANSWERS_SHOWN",
    "EXAMPLES",
    "HITS_SHOWN",
    "TOP_K",
    "WITH",
    "WITHOUT",
    "ContextSaving",
    "CurvePoint",
    "Evaluation",
    "Group",
    "QueryResult",
    "depth_for",
    "evaluate_rankings",
]
