"""Batches as bytes on their way from one process to another, and work with a name that says what it is."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from deepmemory.errors import InputError

if TYPE_CHECKING:
    from deepmemory.executors.base import Work

__all__ = ["Parcel", "packed", "parcel", "unpacked"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Work, pickled.

    Attributes:
        key: names the content; workers keep by it what they prepared.
        content: the pickle.
    """

    key: str
    content: bytes


def packed(batch: pa.RecordBatch) -> bytes:
    """A batch in Arrow's stream format: only its own rows, also where it is a part of something larger."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def unpacked(content: bytes) -> pa.RecordBatch:
    """The batch that `packed` made bytes of."""
    return pa.ipc.open_stream(content).read_next_batch()


def parcel(work: "Work") -> Parcel:
    """Pickle work; functions and classes of the program itself, and of a notebook, go along.

    Raises:
        InputError: something in it can't be pickled.
    """
    from ray import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(work)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever an object's own pickling raises
        raise InputError(
            f"{work.name} can't be sent to Ray's workers, because it holds what can't be pickled "
            f"({type(error).__name__}: {error}); make that when it is first used, or do the work in-process"
        ) from error
    return Parcel(hashlib.sha256(content).hexdigest(), content)
