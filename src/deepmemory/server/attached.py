"""Datasets of a hub whose documents are in somebody's database.

They are made on the hub's machine only: an address that came over the network would let whoever has a token reach
any database that the hub can reach.
"""

import shutil
import time
from collections.abc import Mapping
from typing import Any

from deepmemory.errors import InputError
from deepmemory.server.folder import HubFolder
from deepmemory.server.registry import DatasetName, Registry, check_name, new_dataset_id
from deepmemory.store import VectorStore, attach

__all__ = ["attach_dataset"]


def attach_dataset(folder: HubFolder, path: str, url: str, **options: Any) -> VectorStore:
    """Make a dataset of a collection that is there; a hub that runs takes notice at once.

    Args:
        folder: the hub's.
        path: ``org/name`` of the new dataset.
        url: where the database is.
        options: further arguments of `deepmemory.attach`.

    Returns:
        the dataset's store, open.

    Raises:
        InputError: there is such a dataset already, or no such organisation; or as `deepmemory.attach`.
    """
    org, separator, name = path.removeprefix("hub://").partition("/")
    if not separator:
        raise InputError(f"a dataset of a hub is named ORG/NAME; found {path!r}")
    org, name = check_name(org, "an organisation"), check_name(name, "a dataset")
    folder.prepare()
    registry = Registry(folder)
    try:
        if not registry.tokens(org):
            raise InputError(
                f"there is no organisation {org} in {folder.root}; its first token makes it: deepmemory token create "
                f"--org {org}"
            )
        if registry.find_dataset(org, org, name) is not None:
            raise _taken(org, name)
        return _made(folder, registry, DatasetName(new_dataset_id(), org, name, time.time()), url, options)
    finally:
        registry.close()


def _made(
    folder: HubFolder, registry: Registry, dataset: DatasetName, url: str, options: Mapping[str, Any]
) -> VectorStore:
    """Attach in the folder of a new dataset, and give it its name; where that fails, nothing is left."""
    place = folder.dataset(dataset.id)
    try:
        store = attach(url, path=place, **options)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    if registry.add_dataset(dataset):
        return store
    store.close()
    shutil.rmtree(place, ignore_errors=True)
    raise _taken(dataset.org, dataset.name)


def _taken(org: str, name: str) -> InputError:
    return InputError(f"there is a dataset {org}/{name} already; choose another name, or delete it first")
