"""What can be set about a hub, and how it is read from the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from deepmemory.errors import InputError

__all__ = ["PREFIX", "HubSettings"]

PREFIX = "DEEPMEMORY_HUB_"
"""Of the environment variables: ``DEEPMEMORY_HUB_MAX_BODY_MB`` is `HubSettings.max_body_mb`."""


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Limits of a hub; every number is 0 or more, and 0 switches off what says so.

    Attributes:
        max_body_mb: largest request body, in MiB.
        max_documents: documents that one request may add.
        max_ids: ids that one request may get or delete.
        max_queries: queries that one search may hold; a training or evaluation may hold a hundred times as many.
        max_k: hits that one query may ask for.
        rate: requests that one token may make each second, in the long run; 0 for any number.
        burst: requests that a token may make at once before `rate` counts.
        training_jobs: trainings that this process runs at once; 0 leaves them to workers, which share a database.
        training_jobs_per_org: trainings that run at once for one organisation.
        waiting_jobs_per_org: trainings of one organisation that are not finished, running ones among them.
        threads: requests that are worked on at once; more wait.
        open_stores: datasets that are kept open.
        grace_seconds: how long a hub that is stopped waits for requests in flight.
        drain_seconds: how long a hub that is asked to stop by SIGTERM goes on with requests while it says that it is
            not ready, so that a load balancer sends it no more.
        silent_seconds: after this long without a sign of life another server or worker takes up the trainings of one.
        workflow_days: how long the engine's rows of trainings that have ended are kept.
        idempotency_hours: how long an ``Idempotency-Key`` is remembered.
        embedders: what the hub itself may embed with, separated by commas: ``local``, ``openai``; ``none`` for nothing.
            With ``openai`` whoever may write spends what the hub's own key pays for, so it is off by default.
        log_queries: whether logs show the texts of queries.
    """

    max_body_mb: float = 64.0
    max_documents: int = 1_000
    max_ids: int = 10_000
    max_queries: int = 1_000
    max_k: int = 10_000
    rate: float = 1_000.0
    burst: int = 2_000
    training_jobs: int = 1
    training_jobs_per_org: int = 1
    waiting_jobs_per_org: int = 20
    threads: int = 32
    open_stores: int = 64
    grace_seconds: float = 20.0
    drain_seconds: float = 0.0
    silent_seconds: float = 30.0
    workflow_days: float = 7.0
    idempotency_hours: float = 24.0
    embedders: str = "local"
    log_queries: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "HubSettings":
        """The defaults, with what the variables ``DEEPMEMORY_HUB_*`` say instead.

        Raises:
            InputError: naming every variable that is no number where one is wanted.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, object] = {}
        problems: list[str] = []
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            if name in environment:
                try:
                    values[field.name] = _read(environment[name], field.default)
                except ValueError as error:
                    problems.append(f"{name} {error}; found {environment[name]!r}.")
        if problems:
            raise InputError(problems)
        return cls(**values).checked()  # type: ignore[arg-type]  # each was read as its default's type

    def replaced(self, **values: object) -> "HubSettings":
        """The same with those of the values that are not None.

        Raises:
            InputError: a value can't be.
        """
        given = {name: value for name, value in values.items() if value is not None}
        return replace(self, **given).checked()  # type: ignore[arg-type]

    def checked(self) -> "HubSettings":
        """The settings themselves, where each is a value that a hub can work with.

        Raises:
            InputError: naming each that isn't.
        """
        least = dict.fromkeys(("rate", "training_jobs", "grace_seconds", "drain_seconds", "idempotency_hours"), 0)
        problems = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                low = least.get(field.name, 1 if isinstance(field.default, int) else 0.001)
                if not low <= value < float("inf"):
                    problems.append(f"{field.name} must be {low:g} or more; found {value:g}.")
        if unknown := self.hub_embedders - {"local", "openai"}:
            problems.append(f"embedders may name local, openai or none; found {', '.join(sorted(unknown))}.")
        if problems:
            raise InputError(problems)
        return self

    @property
    def max_body(self) -> int:
        """Largest request body in bytes."""
        return int(self.max_body_mb * 1024 * 1024)

    @property
    def max_labelled(self) -> int:
        """Queries that one training or evaluation may hold."""
        return self.max_queries * 100

    @property
    def hub_embedders(self) -> frozenset[str]:
        """What the hub itself may embed with."""
        named = {name.strip() for name in self.embedders.split(",")}
        return frozenset(named - {"", "none"})


def _read(text: str, default: object) -> object:
    if isinstance(default, bool):
        if text.lower() in {"1", "true", "yes", "on"}:
            return True
        if text.lower() in {"", "0", "false", "no", "off"}:
            return False
        raise ValueError("must be 1 or 0")
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            raise ValueError("must be a whole number" if isinstance(default, int) else "must be a number") from None
    return text
