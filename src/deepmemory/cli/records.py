"""Jobs and layers as JSON values."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepmemory.artifacts import LayerInfo
    from deepmemory.jobs import Job

__all__ = ["job_record", "layer_record"]


def job_record(job: "Job") -> dict[str, Any]:
    """A job, with its held-out recall@10 on top."""
    return {**asdict(job), "recall@10": job.recall, "baseline_recall@10": job.baseline_recall}


def layer_record(info: "LayerInfo", *, active: bool) -> dict[str, Any]:
    """A saved layer; the embedder by its name, without the vector that tells it apart."""
    embedder = info.embedder and info.embedder["name"]
    return {**asdict(info), "embedder": embedder, "active": active}
