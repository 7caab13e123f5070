"""`attach`: Deep Memory beside documents that are in somebody's database, and stay there."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepmemory.backends import Backend
from deepmemory.backends.attaching import Asked, engine_of
from deepmemory.backends.base import Distance
from deepmemory.data.text import is_list, shown, text_problem
from deepmemory.errors import EmbedderMismatchError, InputError, NotAStoreError
from deepmemory.memory import EmbedderSpec
from deepmemory.state import State, open_state
from deepmemory.store.addresses import absolute_address, folder_of, remember, with_secrets, written_address
from deepmemory.store.attachment import Attachment
from deepmemory.store.embedder import ChosenEmbedder
from deepmemory.store.opening import RECORDED
from deepmemory.store.record import RECORD_NAME, StoreRecord, open_record, replace_record
from deepmemory.store.vector_store import VectorStore

__all__ = ["DEFAULT_PATH", "attach"]

DEFAULT_PATH = "./deepmemory-store"

_log = logging.getLogger(__name__)

_COMPARED = 8
_LEAST_AGREEMENT = 0.9
"""The cosine between a stored vector and what the embedder makes of its text; models differ by far more."""


def attach(
    url: str,
    *,
    table: str | None = None,
    collection: str | None = None,
    id: str | None = None,
    text: str | None = None,
    vector: str | None = None,
    metadata: Sequence[str] | None = None,
    metadata_json: str | None = None,
    schema: str | None = None,
    distance: Distance | None = None,
    path: str | os.PathLike[str] = DEFAULT_PATH,
    embedder: EmbedderSpec | None = None,
    read_only: bool = True,
    storage_options: Mapping[str, str] | None = None,
) -> VectorStore:
    """Attach to a collection that is there, in a database of any kind that is known, and search and train on it.

    Nothing is copied, and nothing is created, altered or indexed in the database. What Deep Memory learns is kept at
    ``path``, and `VectorStore` opens the same again from there, as does whatever else takes the path of a store.

    What of the collection is not named is found out: what LangChain's and LlamaIndex's own classes write is
    recognised, and otherwise a column is taken where it is the only one that it can be.

    Args:
        url: where the database is: ``postgresql://user@host/database``; ``chroma://host:port``,
            ``qdrant://host:port``, ``milvus://host:port``, or with a folder (``chroma:///folder``); a folder or
            ``s3://bucket/prefix`` of LanceDB; a folder of Deep Lake 4, or ``deeplake://`` and any path of it. A
            password in it is kept nowhere: when the store is opened again, `DEEPMEMORY_DATABASE_URL` has the whole
            address, or the database's own client knows it.
        table: what has the documents. A database of LanceDB that has only one needs no name, nor does a dataset of
            Deep Lake.
        collection: the same, for databases that call it so.
        id: what tells documents apart; values of any type are ids as text.
        text: what is shown.
        vector: the embedding.
        metadata: what filters may ask for and hits show; by default all that is left.
        metadata_json: what holds a JSON object, whose keys are metadata.
        schema: a schema or database within the one of the address.
        distance: ``"cosine"`` or ``"dot"``; by default as the collection's index compares, and cosine where none says.
        path: where layers, jobs, history and caches go.
        embedder: the one that made the vectors, which turns queries into vectors; see `VectorStore`. None where the
            vectors of queries are always given.
        read_only: whether documents may only be read. With False they are added and deleted in the database itself,
            where that is possible.
        storage_options: credentials, region and endpoint of an object store, by the names that LanceDB takes.

    Returns:
        the store, open.

    Raises:
        InputError: everything that is wrong with the arguments, or can't be found out.
        NotAStoreError: something else is at the path: other files, another store, or another attachment.
        EmbedderMismatchError: the embedder makes vectors of another length.
        CapabilityError: the database can't do what was asked.
        StorageError: the database can't be reached, or refuses.
        MissingExtraError: its client is not installed; the message names the pip command.

    Example:
        >>> store = deepmemory.attach("postgresql://me@localhost/app", table="chunks", embedder="local")
        >>> store.search("how do I reset a password")
    """
    if problem := text_problem(url):
        raise InputError(f"the address of the database {problem}")
    asked = _asked(
        table=table,
        collection=collection,
        id=id,
        text=text,
        vector=vector,
        metadata=metadata,
        metadata_json=metadata_json,
        schema=schema,
        distance=distance,
        storage_options=storage_options,
    )
    address = absolute_address(url)
    written = written_address(address)
    engine = engine_of(address)
    path = os.fspath(path)
    state = _state(path, written, storage_options)
    known = _known_record(state)
    chosen = None if embedder is None else ChosenEmbedder(embedder)

    if address == written:
        address = with_secrets(written)
    layout = engine.recognise(address, asked)
    attachment = Attachment(written, layout, read_only)
    if known is not None:
        _refuse_other(state, known, attachment)
    with closing(
        engine.open_attached(address, layout, read_only=read_only, storage_options=storage_options)
    ) as backend:
        _check_dimensions(backend, attachment, chosen)
        _tell(backend, attachment, chosen)
    _write(state, known, attachment, chosen)
    remember(address)
    return VectorStore(path, RECORDED if embedder is None else embedder, create=False, storage_options=storage_options)


def _asked(
    *,
    table: str | None,
    collection: str | None,
    id: str | None,
    text: str | None,
    vector: str | None,
    metadata: Sequence[str] | None,
    metadata_json: str | None,
    schema: str | None,
    distance: Distance | None,
    storage_options: Mapping[str, str] | None,
) -> Asked:
    """What was asked for, checked as far as it can be without the database."""
    names = {
        "table": table,
        "collection": collection,
        "id": id,
        "text": text,
        "vector": vector,
        "metadata_json": metadata_json,
        "schema": schema,
    }
    problems = [
        f"{name} is the name of something in the database; found {shown(value)}"
        for name, value in names.items()
        if value is not None and (text_problem(value) or not value)
    ]
    if table is not None and collection is not None:
        problems.append("table and collection are the same: give one of them")
    if metadata is not None and not (is_list(metadata) and all(isinstance(name, str) for name in metadata)):
        problems.append(f"metadata is a list of names; found {shown(metadata)}")
    if distance not in (None, "cosine", "dot"):
        problems.append(f"distance is 'cosine' or 'dot'; found {distance!r}")
    if problems:
        raise InputError(problems)
    return Asked(
        collection=table or collection or "",
        id=id,
        text=text,
        vector=vector,
        metadata=None if metadata is None else tuple(metadata),
        metadata_json=metadata_json,
        namespace=schema,
        distance=distance,
        storage_options=storage_options,
    )


def _state(path: str, written: str, storage_options: Mapping[str, str] | None) -> State:
    """Where the store goes.

    Raises:
        InputError: it has to be somewhere else.
    """
    if path.startswith(("hub:", "memory:")):
        raise InputError(
            f"what is learned is kept in a folder or a bucket; found {path!r}. A hub's operator attaches for its "
            "users, on the hub's machine: deepmemory attach URL --hub-data DIR --dataset ORG/NAME"
        )
    database = folder_of(written)
    if database is not None and "://" not in path and Path(path).absolute().is_relative_to(database):
        raise InputError(f"{path} is inside the database's own folder {database}, in which nothing is written")
    return open_state(path, storage_options=storage_options)


def _known_record(state: State) -> StoreRecord | None:
    """The record of what is attached at a place already; None where nothing is there yet.

    Raises:
        NotAStoreError: something else is there.
    """
    if state.read(RECORD_NAME) is None and state.is_empty():
        return None
    record = open_record(state, None) if state.read(RECORD_NAME) is not None else None
    if record is None:
        raise NotAStoreError(
            f"{state.location} has something else in it; choose an empty or new folder for what is learned"
        )
    if record.attachment is None:
        raise NotAStoreError(
            f"{state.location} is a store with documents of its own; choose another folder for what is attached"
        )
    return record


def _refuse_other(state: State, known: StoreRecord, attachment: Attachment) -> None:
    there = known.attachment
    if there is not None and not there.is_same_collection(attachment):
        raise NotAStoreError(
            f"{state.location} is attached already, to {there.named} (id {there.layout.id}, vector "
            f"{there.layout.vector}, {there.layout.distance}); choose another folder for {attachment.named}"
        )


def _check_dimensions(backend: Backend, attachment: Attachment, chosen: ChosenEmbedder | None) -> None:
    stored = backend.dimensions
    if chosen is not None and stored is not None and chosen.fingerprint.dimensions != stored:
        raise EmbedderMismatchError(
            f"the vectors of {attachment.named} have {stored} dimensions, and those of {chosen.embedder.name} have "
            f"{chosen.fingerprint.dimensions}; attach with the embedder that made them, or with none"
        )


def _tell(backend: Backend, attachment: Attachment, chosen: ChosenEmbedder | None) -> None:
    """Warn of what is no error, and may be not what was thought."""
    if left_out := backend.left_out:
        _log.warning("%s has %s rows without a vector, which are left out", attachment.named, f"{left_out:,}")
    agreement = None if chosen is None else _agreement(backend, chosen)
    if agreement is not None and chosen is not None and agreement < _LEAST_AGREEMENT:
        _log.warning(
            "the vectors of %s seem not to be those of %s: between what is stored and what it makes of the same texts "
            "the cosine is %.2f, where it should be near 1; searches by text will find little",
            attachment.named,
            chosen.embedder.name,
            agreement,
        )


def _agreement(backend: Backend, chosen: ChosenEmbedder) -> float | None:
    """The cosine between some stored vectors and what an embedder makes of the texts; None without any texts."""
    batch = next(iter(backend.batches(batch_size=_COMPARED, text=True)), None)
    if batch is None:
        return None
    texts = batch.column("text").to_pylist()
    rows = [row for row, text in enumerate(texts) if text.strip()][:_COMPARED]
    if not rows:
        return None
    column = batch.column("vector")
    stored = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)[rows].astype(np.float64)
    made = np.asarray(chosen.embedder.embed_documents([texts[row] for row in rows]), dtype=np.float64)
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(made, axis=1)
    return float(np.median((stored * made).sum(axis=1) / np.where(lengths > 0, lengths, 1)))


def _write(state: State, known: StoreRecord | None, attachment: Attachment, chosen: ChosenEmbedder | None) -> None:
    """Put the attachment on record; an embedder that is there stays."""
    distance = attachment.layout.distance
    record = StoreRecord(distance=distance) if known is None else known
    record = replace(record, attachment=attachment)
    if chosen is not None and record.embedder is None:
        record = record.pinned(chosen.fingerprint, chosen.spec)
    if known is not None:
        replace_record(state, record)
        return
    made = open_record(state, lambda: record)
    if made is not record:  # another process was faster
        _refuse_other(state, made, attachment)
