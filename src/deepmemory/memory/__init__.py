"""Deep Memory of one store: train a layer, watch the job, choose the active layer, measure what it is worth."""

from deepmemory.memory.deep_memory import DeepMemory, EmbedderSpec
from deepmemory.memory.history import HistoryEntry
from deepmemory.memory.local import LocalDeepMemory
from deepmemory.memory.tables import NO_JOBS, jobs_table, status_table

__all__ = ["NO_JOBS", "DeepMemory", "EmbedderSpec", "HistoryEntry", "LocalDeepMemory", "jobs_table", "status_table"]
