"""How much shorter a question's context may be for the same recall, and what that is in tokens."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from deepmemory import metrics
from deepmemory.backends.base import Ranking
from deepmemory.evaluation.result import ContextSaving

__all__ = ["Texts", "context_saving"]

Texts: TypeAlias = Callable[[Sequence[str]], Mapping[str, str]]
"""Looks up the texts of documents by id; ids that are gone are left out of the answer."""

_TOP = 10
_CHARACTERS_PER_TOKEN = 4  # of English prose in common tokenizers; hence "estimate"
_LOOKUP = 1000  # texts held at once
_TIE = 1e-9  # means of the same recalls may differ by a rounding error


def context_saving(
    before: metrics.Judged,
    after: metrics.Judged,
    runs: tuple[Sequence[Ranking], Sequence[Ranking]],
    document_text: Texts | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> ContextSaving:
    """Find the smallest number of hits that keeps the baseline's recall@10, and count what their texts weigh.

    Args:
        before: the n queries' hits without Deep Memory, judged.
        after: their hits with it.
        runs: the same rankings by id, without and with.
        document_text: without it, hits are counted and tokens are not.
        count_tokens: a tokenizer's count for one text; characters / 4 where None.
    """
    target = float(metrics.recall(before, _TOP).mean())
    baseline_k = _smallest_k(before, target) or _TOP
    trained_k = _smallest_k(after, target)
    estimated = count_tokens is None
    if document_text is None or trained_k is None:
        return ContextSaving(target, baseline_k, trained_k, estimated=estimated)
    contexts = [[ranking.ids[:k] for ranking in run] for run, k in zip(runs, (_TOP, trained_k), strict=True)]
    tokens = _tokens({document for side in contexts for ids in side for document in ids}, document_text, count_tokens)
    baseline_tokens, trained_tokens = (_mean_tokens(side, tokens) for side in contexts)
    return ContextSaving(target, baseline_k, trained_k, baseline_tokens, trained_tokens, estimated)


def _smallest_k(judged: metrics.Judged, target: float) -> int | None:
    """The smallest k whose mean recall is at least the target; None where none is, or there is nothing to reach."""
    if target <= 0:
        return None
    depths = range(1, judged.grades.shape[1] + 1)
    return next((k for k in depths if metrics.recall(judged, k).mean() >= target - _TIE), None)


def _tokens(ids: Iterable[str], document_text: Texts, count_tokens: Callable[[str], int] | None) -> dict[str, float]:
    ordered = sorted(ids)
    tokens: dict[str, float] = {}
    for start in range(0, len(ordered), _LOOKUP):
        for document, text in document_text(ordered[start : start + _LOOKUP]).items():
            tokens[document] = count_tokens(text) if count_tokens else len(text) / _CHARACTERS_PER_TOKEN
    return tokens


def _mean_tokens(contexts: Sequence[Sequence[str]], tokens: Mapping[str, float]) -> float:
    return float(np.mean([sum(tokens.get(document, 0.0) for document in ids) for ids in contexts]))
