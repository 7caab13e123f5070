"""Organisations, tokens and the names of datasets."""

import contextlib
import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from deepmemory.errors import InputError
from deepmemory.server import tables
from deepmemory.server.database import database_failures
from deepmemory.server.folder import HubFolder

__all__ = ["SCOPES", "DatasetName", "Registry", "Scope", "Token", "check_name", "iso_time"]

Scope: TypeAlias = Literal["read", "write", "admin"]
"""What a token may do; each includes those before it."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

_PREFIX = "dm_"
# Written out: with re.IGNORECASE, [a-z] also matches a long s and the Kelvin sign.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_USE_SECONDS = 60.0
_LONGEST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret.

    Attributes:
        id: names it, for listing and revoking.
        org: the organisation that it is for.
        name: what people call it.
        scope: what it may do.
        created: in seconds since 1970, as are the others.
        expires: when it ends; None for never.
        revoked: when it was revoked.
        last_used: to the minute.
    """

    id: str
    org: str
    name: str
    scope: Scope
    created: float
    expires: float | None
    revoked: float | None
    last_used: float | None

    @property
    def ended(self) -> str | None:
        """Why it is of no use any more; None where it is."""
        if self.revoked is not None:
            return "was revoked"
        if self.expires is not None and self.expires <= time.time():
            return f"expired at {iso_time(self.expires)}"
        return None

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs a scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "id": self.id,
            "name": self.name,
            "scope": self.scope,
            "created": iso_time(self.created),
            "expires": iso_time(self.expires),
            "revoked": iso_time(self.revoked),
            "last_used": iso_time(self.last_used),
        }


@dataclass(frozen=True, slots=True)
class DatasetName:
    """What the database knows of a dataset.

    Attributes:
        id: of its folder; 32 hexadecimal digits.
        org: whose it is.
        name: what people call it.
        created: in seconds since 1970.
        generation: raised whenever its record changes: whoever has it open opens it anew.
    """

    id: str
    org: str
    name: str
    created: float
    generation: int = 0

    @property
    def path(self) -> str:
        """``org/name``."""
        return f"{self.org}/{self.name}"


def iso_time(seconds: float | None) -> str | None:
    """A time as replies have it, ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def check_name(value: str, what: str) -> str:
    """A name of an organisation or dataset in lower case.

    Raises:
        InputError: it can't be one.
    """
    if not _NAME.fullmatch(value):
        raise InputError(
            f"the name of {what} is 1 to 63 letters a-z, digits, '_' and '-', beginning with a letter or digit; "
            f"found {value[:80]!a}"
        )
    return value.lower()


class Registry:
    """The hub's database; every method may be called from several threads, and other processes may write meanwhile."""

    def __init__(self, folder: HubFolder) -> None:
        """Open the database of a hub.

        Raises:
            StorageError: it can't be opened.
        """
        self._engine = folder.database.open()
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def is_shared(self) -> bool:
        """Whether other servers and workers may work with it."""
        return self._engine.dialect.name == "postgresql"

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def check(self) -> None:
        """Ask the database something.

        Raises:
            StorageError: it doesn't answer.
        """
        with self._reading() as connection:
            connection.execute(sa.select(sa.literal(1)))

    # Tokens

    def create_token(
        self, org: str, scope: str = "write", name: str = "", expires_in_days: float | None = None
    ) -> tuple[str, Token]:
        """Make a token, and the organisation where it is new.

        Returns:
            the secret, which is kept nowhere, and the token.

        Raises:
            InputError: an argument is wrong.
        """
        org = check_name(org, "an organisation")
        if scope not in SCOPES:
            raise InputError(f"the scope is read, write or admin; found {scope!r}")
        if expires_in_days is not None and not 0 < expires_in_days <= _LONGEST_DAYS:
            raise InputError(
                f"a token expires in more than 0 and at most {_LONGEST_DAYS:,} days; found {expires_in_days}"
            )
        if len(name) > 200:
            raise InputError(f"the name of a token has at most 200 characters; found {len(name)}")
        secret, now = _PREFIX + secrets.token_urlsafe(32), time.time()
        expires = None if expires_in_days is None else now + expires_in_days * 86_400
        token = Token(secrets.token_hex(6), org, name, scope, now, expires, None, None)
        self._add_org(org, now)
        with self._writing() as connection:
            values = {key: getattr(token, key) for key in Token.__dataclass_fields__}
            connection.execute(sa.insert(tables.tokens).values(**values, digest=_digest(secret)))
        return secret, token

    def _add_org(self, org: str, now: float) -> None:
        """Make an organisation, unless there is one."""
        with self._reading() as connection:
            if connection.execute(sa.select(tables.orgs).where(tables.orgs.c.name == org)).first() is not None:
                return
        # Another process may make it at this moment.
        with contextlib.suppress(IntegrityError), self._writing() as connection:
            connection.execute(sa.insert(tables.orgs).values(name=org, created=now))

    def tokens(self, org: str | None = None) -> list[Token]:
        """All tokens, or those of an organisation, oldest first."""
        query = sa.select(tables.tokens).order_by(tables.tokens.c.created, tables.tokens.c.id)
        if org is not None:
            query = query.where(tables.tokens.c.org == org)
        with self._reading() as connection:
            return [_token(row) for row in connection.execute(query).mappings()]

    def revoke_token(self, token_id: str, org: str | None = None) -> bool:
        """Revoke a token (of an organisation); return whether there is one."""
        which = tables.tokens.c.id == token_id
        if org is not None:
            which &= tables.tokens.c.org == org
        with self._writing() as connection:
            known = connection.execute(sa.select(tables.tokens.c.id).where(which)).first() is not None
            still = which & tables.tokens.c.revoked.is_(None)
            connection.execute(sa.update(tables.tokens).where(still).values(revoked=time.time()))
        return known

    def authenticate(self, secret: str) -> Token | None:
        """The token of a secret, also one that has ended; None where there is none.

        It is looked up by its hash, so how long that takes says nothing about the secrets that there are.
        """
        digest = _digest(secret)
        with self._reading() as connection:
            row = (
                connection.execute(sa.select(tables.tokens).where(tables.tokens.c.digest == digest)).mappings().first()
            )
        if row is None or not hmac.compare_digest(row["digest"], digest):
            return None
        token = _token(row)
        self._note_use(token)
        return token

    def _note_use(self, token: Token) -> None:
        """Write down once a minute that a token is used."""
        now = time.time()
        with self._lock:
            if now - self._used.get(token.id, token.last_used or 0.0) < _USE_SECONDS:
                return
            self._used[token.id] = now
        with self._writing() as connection:
            connection.execute(sa.update(tables.tokens).where(tables.tokens.c.id == token.id).values(last_used=now))

    # Datasets

    def find_dataset(self, owner: str, org: str, name: str) -> DatasetName | None:
        """A dataset of an organisation, for a token of the organisation ``owner``.

        What is looked up is always among the owner's own, so that another organisation's datasets have no part in
        what is answered, or in how long that takes.
        """
        table = tables.datasets
        query = sa.select(table).where(table.c.org == owner, table.c.name == name)
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        return DatasetName(**row) if row is not None and owner == org else None

    def list_datasets(self, org: str | None = None, after: str = "", limit: int | None = None) -> list[DatasetName]:
        """Datasets in the order of their names, those after a name; of all organisations where none is named."""
        query = sa.select(tables.datasets).where(tables.datasets.c.name > after).order_by(tables.datasets.c.name)
        if org is not None:
            query = query.where(tables.datasets.c.org == org)
        with self._reading() as connection:
            return [DatasetName(**row) for row in connection.execute(query.limit(limit)).mappings()]

    def add_dataset(self, dataset: DatasetName) -> bool:
        """Give a dataset its name; False where another has it."""
        try:
            with self._writing() as connection:
                connection.execute(
                    sa.insert(tables.datasets).values(
                        id=dataset.id, org=dataset.org, name=dataset.name, created=dataset.created, generation=0
                    )
                )
        except IntegrityError:
            return False
        return True

    def renew_dataset(self, dataset: DatasetName) -> DatasetName:
        """Have every process open a dataset anew: its record has changed."""
        table = tables.datasets
        with self._writing() as connection:
            raised = sa.update(table).where(table.c.id == dataset.id).values(generation=table.c.generation + 1)
            connection.execute(raised)
            found = connection.execute(sa.select(table).where(table.c.id == dataset.id)).mappings().first()
        return dataset if found is None else DatasetName(**found)

    def remove_dataset(self, dataset: DatasetName) -> None:
        """Forget a dataset, and what was promised about it."""
        with self._writing() as connection:
            connection.execute(sa.delete(tables.datasets).where(tables.datasets.c.id == dataset.id))
            connection.execute(sa.delete(tables.keys).where(tables.keys.c.dataset == dataset.id))
            connection.execute(sa.delete(tables.jobs).where(tables.jobs.c.dataset == dataset.id))

    # Promises

    def promise(self, dataset_id: str, key: str | None, body: bytes, reply: Any, *, hours: float) -> Any:
        """What is to be answered under an ``Idempotency-Key``: what was decided at its first use, or else ``reply``.

        Args:
            dataset_id: what the request is about.
            key: as it was sent; None is no key, and nothing is kept.
            body: of the request, with whatever else tells it apart.
            reply: JSON values that are decided before anything is done, such as the ids that documents will get.
            hours: how long keys are kept.

        Raises:
            InputError: the key can't be one, or was used for something else.
        """
        if key is None:
            return reply
        if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
            raise InputError("an Idempotency-Key is 1 to 255 printable ASCII characters")
        digest = hashlib.sha256(body).hexdigest()
        found = self._kept(dataset_id, key)
        if found is None:
            found = self._keep(dataset_id, key, digest, json.dumps(reply), hours) or self._kept(dataset_id, key)
        if found is None or found["digest"] != digest:
            raise InputError("the Idempotency-Key was used for another request; draw a new one for each request")
        return json.loads(found["reply"])

    def _kept(self, dataset_id: str, key: str) -> Mapping[str, Any] | None:
        query = sa.select(tables.keys).where(tables.keys.c.dataset == dataset_id, tables.keys.c.key == key)
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else dict(row)

    def _keep(self, dataset_id: str, key: str, digest: str, reply: str, hours: float) -> Mapping[str, Any] | None:
        """Write down a promise; None where another request was faster."""
        now = time.time()
        values = {"dataset": dataset_id, "key": key, "digest": digest, "reply": reply, "created": now}
        try:
            with self._writing() as connection:
                connection.execute(sa.delete(tables.keys).where(tables.keys.c.created < now - hours * 3_600))
                connection.execute(sa.insert(tables.keys).values(**values))
        except IntegrityError:
            return None
        return values

    # Trainings that are not finished

    def open_jobs(self, org: str | None = None, older_than: float = 0.0) -> list[tuple[str, str, str]]:
        """The (job, dataset, organisation) of each training that is not finished, oldest first.

        Args:
            org: only those of an organisation.
            older_than: only those that were taken in so many seconds ago.
        """
        query = sa.select(tables.jobs).order_by(tables.jobs.c.created)
        if org is not None:
            query = query.where(tables.jobs.c.org == org)
        if older_than:
            query = query.where(tables.jobs.c.created < time.time() - older_than)
        with self._reading() as connection:
            return [(row["id"], row["dataset"], row["org"]) for row in connection.execute(query).mappings()]

    def open_job(self, job_id: str, dataset: DatasetName) -> None:
        """Write down that a training is to be done."""
        values = {"id": job_id, "dataset": dataset.id, "org": dataset.org, "created": time.time()}
        with self._writing() as connection:
            connection.execute(sa.delete(tables.jobs).where(tables.jobs.c.id == job_id))
            connection.execute(sa.insert(tables.jobs).values(**values, attempts=0))

    def begin_job(self, job_id: str, step: int = 1) -> int:
        """Write down that a training is begun, or with -1 that it was left in good order; return how often it was."""
        table = tables.jobs
        with self._writing() as connection:
            counted = sa.update(table).where(table.c.id == job_id).values(attempts=table.c.attempts + step)
            connection.execute(counted)
            return connection.execute(sa.select(table.c.attempts).where(table.c.id == job_id)).scalar() or 0

    def close_job(self, job_id: str) -> None:
        """Write down that nothing is left to do for a training."""
        with self._writing() as connection:
            connection.execute(sa.delete(tables.jobs).where(tables.jobs.c.id == job_id))

    # Servers and workers

    def join(self, process_id: str) -> None:
        """Write down that a process works for this hub."""
        now = self._now()
        values = {"id": process_id, "host": socket.gethostname()[:255], "started": now, "seen": now}
        with self._writing() as connection:
            connection.execute(sa.insert(tables.processes).values(**values))

    def beat(self, process_id: str) -> bool:
        """Write down that a process is at work; False where the others took it for dead meanwhile."""
        table = tables.processes
        with self._writing() as connection:
            return (
                connection.execute(
                    sa.update(table).where(table.c.id == process_id, table.c.seen > 0).values(seen=self._now())
                ).rowcount
                > 0
            )

    def leave(self, process_id: str) -> None:
        """Write down that a process is about to end: what it leaves undone is for the others, from now on."""
        table = tables.processes
        with self._writing() as connection:
            connection.execute(sa.update(table).where(table.c.id == process_id).values(seen=0.0))

    def n_processes(self) -> int:
        """How many processes work for this hub, as far as is known."""
        with self._reading() as connection:
            query = sa.select(sa.func.count()).select_from(tables.processes).where(tables.processes.c.seen > 0)
            return int(connection.execute(query).scalar_one())

    @contextmanager
    def silent(self, seconds: float) -> Iterator[list[str]]:
        """The processes that were not heard of for some time, or have left: to be forgotten when the block ends well.

        While it lasts no other process gets the same ones.
        """
        table = tables.processes
        query = sa.select(table.c.id).where(table.c.seen < self._now() - seconds).with_for_update(skip_locked=True)
        with self._writing() as connection:
            found = list(connection.execute(query).scalars())
            yield found
            if found:
                connection.execute(sa.delete(table).where(table.c.id.in_(found)))

    def _now(self) -> Any:
        """The time by the clock that all processes share."""
        if self.is_shared:
            return sa.extract("epoch", sa.func.clock_timestamp())
        return time.time()

    def is_open_job(self, job_id: str) -> bool:
        """Whether something is left to do for a training."""
        with self._reading() as connection:
            return connection.execute(sa.select(tables.jobs.c.id).where(tables.jobs.c.id == job_id)).first() is not None

    @contextmanager
    def alone(self, what: str, *, wait: bool = True) -> Iterator[bool]:
        """Do something while no other process does the same; one that dies lets go of it.

        Args:
            what: names it.
            wait: for another to be done with it.

        Yields:
            whether it may be done now: always, where others are waited for or there are none.
        """
        if not self.is_shared:
            yield True
            return
        number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big", signed=True)
        with self._writing() as connection:
            if wait:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
                yield True
            else:
                yield bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(number))).scalar())

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with database_failures(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with database_failures(), self._engine.begin() as connection:
            yield connection


def new_dataset_id() -> str:
    """A name for a folder that nothing can be guessed from."""
    return uuid.uuid4().hex


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", errors="surrogatepass")).hexdigest()


def _token(row: Mapping[Any, Any]) -> Token:
    return Token(**{key: row[key] for key in Token.__dataclass_fields__})
