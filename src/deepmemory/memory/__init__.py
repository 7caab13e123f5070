"""Deep Memory of one store: train a layer, watch the job, choose the active layer, measure what it is worth."""

from deepmemory.memory.deep_memory import DeepMemory, EmbedderSpec, EvaluationRequest, GivenQueries
from deepmemory.memory.history import HistoryEntry
from deepmemory.memory.local import LocalDeepMemory
from deepmemory.memory.tables import NO_JOBS, jobs_table, status_table
from deepmemory.memory.training_work import embed_checked, embed_held_out

__all__ = [
    "NO_JOBS",
    "DeepMemory",
    "EmbedderSpec",
    "EvaluationRequest",
    "GivenQueries",
    "HistoryEntry",
    "LocalDeepMemory",
    "embed_checked",
    "embed_held_out",
    "jobs_table",
    "status_table",
]
