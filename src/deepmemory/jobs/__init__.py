"""Training jobs: their records and states, kept beside the vectors, and the thread that runs one.

A record is written by the process that owns the job and by no other, so two writers never meet. What must be
decided between processes, whether a job was cancelled or completed, is decided by one blob that only the first of
them can create. A job whose process has ended is never seen as running: the record says which process that was.
"""

from deepmemory.jobs.durable import DurableJobStore, DurableRun, EndedElsewhere, HandedOver
from deepmemory.jobs.owner import Owner
from deepmemory.jobs.records import CANCELLED, COMPLETED, FAILED, FINISHED, ON_REQUEST, PENDING, TRAINING, Job, JobStore
from deepmemory.jobs.run import JobRun, Work, join, start

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "FINISHED",
    "ON_REQUEST",
    "PENDING",
    "TRAINING",
    "DurableJobStore",
    "DurableRun",
    "EndedElsewhere",
    "HandedOver",
    "Job",
    "JobRun",
    "JobStore",
    "Owner",
    "Work",
    "join",
    "start",
]
