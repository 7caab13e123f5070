"""The queries that were trained on and evaluated, each time kept anew beside the vectors."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from deepmemory.data import LabelledQueries
from deepmemory.state import State

__all__ = ["History", "HistoryEntry", "data_hash"]

Kind: TypeAlias = Literal["train", "evaluate"]

_FOLDER = "history"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Queries with their right answers, as they were given once.

    Attributes:
        kind: ``"train"`` or ``"evaluate"``.
        at: when, ISO 8601 in UTC.
        labelled: the queries and their relevance.
        details: JSON values: the ``job`` that trained on them, or what their evaluation found.
    """

    kind: Kind
    at: str
    labelled: LabelledQueries
    details: Mapping[str, Any] = field(default_factory=dict)


class History:
    """What was trained on and evaluated in one store; nothing in it is ever replaced."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add(self, kind: Kind, labelled: LabelledQueries, details: Mapping[str, Any]) -> str:
        """Keep queries; return the name of the entry."""
        now = datetime.now(UTC)
        # The time comes first, so that the order of names is the order of time.
        name = f"{_FOLDER}/{now:%Y%m%dT%H%M%S%f}-{kind}-{secrets.token_hex(4)}.json"
        entry = {
            "kind": kind,
            "at": now.isoformat(),
            "queries": labelled.queries,
            "relevance": labelled.relevance,
            **({"made": labelled.made} if labelled.made else {}),
            "details": details,
        }
        self._state.write(name, json.dumps(entry, ensure_ascii=False).encode())
        return name

    def read(self, name: str) -> HistoryEntry | None:
        """One entry; None where there is none of that name, or it can't be read."""
        try:
            values = json.loads(self._state.read(name) or b"")
            qrels = tuple({str(id): float(grade) for id, grade in pairs} for pairs in values["relevance"])
            labelled = LabelledQueries(tuple(values["queries"]), qrels, tuple(map(bool, values.get("made", ()))))
            return HistoryEntry(values["kind"], values["at"], labelled, values["details"])
        except (ValueError, KeyError, TypeError):
            return None

    def remove(self, name: str) -> None:
        """Take back an entry that was added for something that then did not happen."""
        self._state.delete(name)

    def __iter__(self) -> Iterator[HistoryEntry]:
        for name in self._state.list(_FOLDER):
            if (entry := self.read(name)) is not None:
                yield entry


def data_hash(labelled: LabelledQueries) -> str:
    """SHA-256 of queries and relevance: two trainings on the same data have the same."""
    hashed = [labelled.queries, labelled.relevance, *([labelled.made] if labelled.made else [])]
    return hashlib.sha256(json.dumps(hashed).encode()).hexdigest()
