"""An evaluation as JSON values, whole, so that what one process measured another holds as the same object.

`Evaluation.as_dict` is for people's programs: it leaves out what only plots and examples need. Here nothing is left
out: ``decode_evaluation(encode_evaluation(evaluation)) == evaluation`` in all its fields, also through JSON.
"""

from collections.abc import Mapping
from typing import Any

from deepmemory.errors import InputError
from deepmemory.evaluation.result import ContextSaving, CurvePoint, Evaluation, Group, QueryResult
from deepmemory.significance import PairedLift

__all__ = ["decode_evaluation", "encode_evaluation"]

_PARTS = ("seen", "unseen", "unleaked")


def encode_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that an evaluation is made of, as JSON values."""
    curve = [[point.k, point.baseline, point.trained, *point.interval] for point in evaluation.curve]
    return {**evaluation.as_dict(), "curve": curve, "texts": dict(evaluation.texts)}


def decode_evaluation(values: Mapping[str, Any]) -> Evaluation:
    """Read what `encode_evaluation` wrote.

    Raises:
        InputError: the values are no evaluation.
    """
    try:
        return Evaluation(
            top_k=tuple(int(k) for k in values["top_k"]),
            overall=_group(values["overall"]),
            **{name: values[name] and _group(values[name]) for name in _PARTS},
            curve=tuple(
                CurvePoint(k, baseline, trained, (low, high)) for k, baseline, trained, low, high in values["curve"]
            ),
            saving=_saving(values["saving"]),
            queries=tuple(map(_query, values["queries"])),
            identical=bool(values["identical"]),
            embedding_seconds=values["embedding_seconds"],
            n_documents=values["n_documents"],
            seed=int(values["seed"]),
            texts=dict(values["texts"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is no evaluation: {type(error).__name__}: {error}") from error


def _group(values: Mapping[str, Any]) -> Group:
    return Group(int(values["n"]), {name: _lift(lift) for name, lift in values["metrics"].items()})


def _lift(values: Mapping[str, Any]) -> PairedLift:
    low, high = values["interval"]
    return PairedLift(
        n_queries=int(values["n_queries"]),
        baseline=values["baseline"],
        trained=values["trained"],
        lift=values["lift"],
        interval=(low, high),
        p_value=values["p_value"],
    )


def _saving(values: Mapping[str, Any]) -> ContextSaving:
    return ContextSaving(
        target=values["recall@10"],
        baseline_k=int(values["baseline_k"]),
        trained_k=values["trained_k"],
        baseline_tokens=values["baseline_tokens"],
        trained_tokens=values["trained_tokens"],
        estimated=bool(values["estimated"]),
    )


def _query(values: Mapping[str, Any]) -> QueryResult:
    return QueryResult(
        query=str(values["query"]),
        qrels={str(id): float(grade) for id, grade in values["relevance"]},
        baseline_ids=tuple(values["baseline_ids"]),
        trained_ids=tuple(values["trained_ids"]),
        baseline_rank=values["baseline_rank"],
        trained_rank=values["trained_rank"],
        baseline=values["baseline_ndcg@10"],
        trained=values["trained_ndcg@10"],
        seen=values["seen"],
        leaked=bool(values["leaked"]),
    )
