"""A residual linear adapter trained with a triplet loss, in the manner of SantanderAI's linear-adapter-trainer.

That package is published as source only, not on the package index, so this is written from its description: ``y = x +
W x + b`` from zero, unit output; loss ``max(0, d(a, p) - d(a, n) + margin)`` with the cosine distance; one negative
for each pair, drawn once from a pool around the positive (``opposite``: the least similar documents, its default;
``hard``: the most similar); Adam, gradients clipped at 1, and early stopping on the MRR@10 of a fifth of the training
queries, the untrained adapter being the first candidate. Where its splits keep the documents of the two sides apart,
ours draws queries.
"""

import copy
from typing import Any

import numpy as np
import torch
from exchange import Fitted, Given, best, main
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

VALIDATION = 0.2
PATIENCE = 5
POOL = 10


class Residual(nn.Module):
    """The adapter."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        """Shift, and make unit again."""
        return normalize(queries + self.linear(queries), dim=-1)


def fit(given: Given, settings: dict[str, Any]) -> Fitted:
    """Train the adapter.

    Settings: ``negatives`` opposite or hard, ``margin``, ``rate``, ``epochs``, ``batch_size``.
    """
    torch.manual_seed(given.seed)
    kept, validation = given.kept_and_validation(VALIDATION)
    anchors, positives, negatives = _triplets(given, kept, settings["negatives"])
    model = Residual(given.documents.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["rate"])
    most, state, waited = _mrr(model, given, validation), copy.deepcopy(model.state_dict()), 0
    for _ in range(settings["epochs"]):
        for batch in torch.randperm(len(anchors)).split(settings["batch_size"]):
            adapted = model(anchors[batch])
            # d(a, p) - d(a, n) in cosine distances
            gap = cosine_similarity(adapted, negatives[batch]) - cosine_similarity(adapted, positives[batch])
            optimizer.zero_grad()
            torch.relu(gap + settings["margin"]).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        reached = _mrr(model, given, validation)
        if reached > most + 1e-6:
            most, state, waited = reached, copy.deepcopy(model.state_dict()), 0
        elif (waited := waited + 1) >= PATIENCE:
            break
    model.load_state_dict(state)
    return Fitted(transform=lambda queries: _apply(model, queries))


def _triplets(given: Given, kept: list[int], kind: str) -> list[torch.Tensor]:
    rng = np.random.default_rng(given.seed)
    sign = 1 if kind == "hard" else -1
    rows = []
    for query in kept:
        for positive, _ in given.relevance[query]:
            nearness = sign * (given.documents @ given.documents[positive])
            pool = np.argpartition(-nearness, POOL)[: POOL + 1]
            rows.append((query, positive, int(rng.choice(pool[pool != positive][:POOL]))))
    queries, positives, negatives = np.array(rows).T
    return [
        torch.from_numpy(vectors)
        for vectors in (given.train[queries], given.documents[positives], given.documents[negatives])
    ]


def _mrr(model: nn.Module, given: Given, validation: list[int]) -> float:
    hits = best(_apply(model, given.train[validation]), given.documents)[:, :10]
    total = 0.0
    for rows, query in zip(hits, validation, strict=True):
        found = np.flatnonzero(np.isin(rows, [document for document, _ in given.relevance[query]]))
        total += 1 / (1 + found[0]) if len(found) else 0.0
    return total / len(validation)


def _apply(model: nn.Module, queries: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(queries)).numpy()


if __name__ == "__main__":
    main(fit)
