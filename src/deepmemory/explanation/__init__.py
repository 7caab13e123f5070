"""What Deep Memory changed in one ranking: each score part by part, and the training queries that did it."""

from deepmemory.explanation.explain import DEPTH, explain
from deepmemory.explanation.model import Cause, ExplainedHit, Explanation, Part, decode_explanation

__all__ = ["DEPTH", "Cause", "ExplainedHit", "Explanation", "Part", "decode_explanation", "explain"]
