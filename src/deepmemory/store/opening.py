"""How a store is opened or made: its record first, then the embedder that the record allows."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

from deepmemory.backends.base import Backend, Distance
from deepmemory.embedders import Fingerprint
from deepmemory.errors import EmbedderMismatchError, InputError
from deepmemory.executors import Executor
from deepmemory.memory import EmbedderSpec
from deepmemory.state import FolderState, State
from deepmemory.store.embedder import ChosenEmbedder, StoreEmbedder, refuse_other_embedder
from deepmemory.store.migrated import MigratedEmbedder, bind_migrated
from deepmemory.store.record import StoreRecord, open_record, replace_record

__all__ = [
    "DEFAULT_SPEC",
    "RECORDED",
    "Recorded",
    "bind_embedder",
    "bind_in_state",
    "check_distance",
    "choose_embedder",
    "open_or_make",
    "refuse_other_distance",
    "start_anew",
]


class Recorded(Enum):
    """The type of `RECORDED`."""

    RECORDED = "the embedder on record; in a new store, the local one"


RECORDED: Final = Recorded.RECORDED
"""The embedder that the store has on record; in a new store, ``"local"``."""

DEFAULT_SPEC = "local"
_CACHE_FILE = Path("cache") / "queries.sqlite"
_BLOBS_OF_USE = ("layers", "layers/active", "jobs", "history", "migrations")


def choose_embedder(given: EmbedderSpec | Recorded | None) -> ChosenEmbedder | Recorded | None:
    """Make the embedder that was asked for by name or given as an object; the other two are decided by the record."""
    return given if given is None or given is RECORDED else ChosenEmbedder(given)


def open_or_make(
    state: State,
    chosen: ChosenEmbedder | Recorded | None,
    *,
    create: bool,
    distance: Distance | None,
) -> StoreRecord:
    """Read the record of the store at a place, or make a store there.

    Args:
        state: the place.
        chosen: the embedder to put on record in a new store.
        create: whether a store may be made.
        distance: what it must be, or be in a new store; None for what there is, or cosine.

    Raises:
        NotAStoreError: something else is there, or nothing and ``create`` is False. Nothing was written.
        InputError: the store compares vectors by another distance.
    """
    check_distance(distance)
    record = open_record(state, (lambda: _new_record(chosen, distance or "cosine")) if create else None)
    refuse_other_distance(record, distance, state.location)
    return record


def check_distance(distance: object) -> None:
    """Raise `InputError` unless it is a distance, or None."""
    if distance not in (None, "cosine", "dot"):
        raise InputError(f"distance is 'cosine' or 'dot'; found {distance!r}")


def refuse_other_distance(record: StoreRecord, distance: Distance | None, location: str) -> None:
    """Raise `InputError` where a store compares vectors otherwise than asked."""
    if distance not in (None, record.distance):
        raise InputError(
            f"{location} compares vectors by {record.distance}, which can't be changed to {distance}: fill a new store"
        )


def start_anew(
    state: State, backend: Backend, chosen: ChosenEmbedder | Recorded | None, distance: Distance | None
) -> StoreRecord:
    """Remove everything that a store holds, and give it a new record."""
    record = _new_record(chosen, distance or "cosine")
    backend.drop()
    for folder in _BLOBS_OF_USE:
        for name in state.list(folder):
            state.delete(name)
    replace_record(state, record)
    return record


def _new_record(chosen: ChosenEmbedder | Recorded | None, distance: Distance) -> StoreRecord:
    """What a new store has on record.

    An embedder that can't be made again from its name gives its fingerprint at once: nothing else tells it apart.
    """
    record = StoreRecord(distance=distance)
    if chosen is None:
        return record
    made = ChosenEmbedder(DEFAULT_SPEC) if isinstance(chosen, Recorded) else chosen
    if made.spec is None:
        return record.pinned(made.fingerprint, None)
    return StoreRecord(distance=distance, embedder=made.embedder.name, spec=made.spec)


def bind_in_state(
    chosen: ChosenEmbedder | Recorded | None,
    record: StoreRecord,
    state: State,
    *,
    dimensions: Callable[[], int | None],
    read_only: bool,
    executor: Executor | None = None,
) -> StoreEmbedder | MigratedEmbedder | None:
    """The embedder of a store whose record and cache are in a state; see `bind_embedder`.

    Args:
        chosen: what was asked for.
        record: of the store.
        state: where the record is.
        dimensions: of the vectors in the store.
        read_only: write neither record nor cache.
        executor: embeds batches of texts; None embeds in this process.
    """

    def pin(fingerprint: Fingerprint) -> None:
        if not read_only:
            replace_record(state, record.pinned(fingerprint, record.spec))

    cache_file = state.root / _CACHE_FILE if isinstance(state, FolderState) and not read_only else None
    if record.migration is not None:
        return bind_migrated(
            chosen if isinstance(chosen, ChosenEmbedder) else chosen is not None, record, state, cache_file
        )
    return bind_embedder(
        chosen,
        record,
        location=state.location,
        dimensions=dimensions,
        pin=pin,
        cache_file=cache_file,
        executor=executor,
    )


def bind_embedder(
    chosen: ChosenEmbedder | Recorded | None,
    record: StoreRecord,
    *,
    location: str,
    dimensions: Callable[[], int | None],
    pin: Callable[[Fingerprint], None],
    cache_file: Path | None,
    executor: Executor | None = None,
) -> StoreEmbedder | None:
    """The embedder to work with; None where vectors must be given.

    One of the name on record is compared by its fingerprint when it embeds its first text; any other at once.

    Args:
        chosen: what was asked for.
        record: of the store.
        location: of the store, for messages.
        dimensions: of the vectors in the store.
        pin: puts on record the fingerprint of the embedder that embeds the first text.
        cache_file: where vectors of queries are kept; None to keep none.
        executor: embeds batches of texts; None embeds in this process.

    Raises:
        EmbedderMismatchError: the store was filled, or made to be filled, with another.
    """
    if chosen is None:
        return None
    if isinstance(chosen, Recorded):
        spec = record.spec
        if record.embedder is None or spec is None:
            return None
        name, make = record.embedder, lambda: ChosenEmbedder(spec)
    else:
        _refuse_other(chosen, record, location, dimensions)
        name, make = chosen.embedder.name, lambda: chosen

    def pin_ours(fingerprint: Fingerprint) -> None:
        # Vectors that were given may come from anywhere: no embedder is claimed for them afterwards.
        if record.embedder is not None:
            pin(fingerprint)

    return StoreEmbedder(
        name, make, record.fingerprint, location=location, pin=pin_ours, cache_file=cache_file, executor=executor
    )


def _refuse_other(
    chosen: ChosenEmbedder, record: StoreRecord, location: str, dimensions: Callable[[], int | None]
) -> None:
    if record.embedder is None:
        stored = dimensions()
        if stored is not None and chosen.fingerprint.dimensions != stored:
            raise EmbedderMismatchError(
                f"the vectors in {location} have {stored} dimensions, and those of {chosen.embedder.name} have "
                f"{chosen.fingerprint.dimensions}; open it with the embedder that made them, or with embedder=None"
            )
        return
    if chosen.spec is not None and chosen.spec == record.spec:
        return
    if record.fingerprint is None:
        raise EmbedderMismatchError(
            f"{location} was made for the embedder {record.embedder} and not for {chosen.embedder.name}; "
            f"open it with {record.embedder}, or make a new store"
        )
    refuse_other_embedder(record.fingerprint, chosen.fingerprint, location)
