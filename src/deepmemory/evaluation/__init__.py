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
from deepmemory.evaluation.wire import decode_evaluation, encode_evaluation

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
    "decode_evaluation",
    "depth_for",
    "encode_evaluation",
    "evaluate_rankings",
]
