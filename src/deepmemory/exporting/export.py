"""Choose a format, see that nothing is overwritten, and write its files."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from deepmemory.artifacts import LayerInfo, SavedLayer
from deepmemory.errors import InputError
from deepmemory.exporting.facts import LayerFacts, QueryMap
from deepmemory.exporting.numpy_files import numpy_files
from deepmemory.exporting.onnx_model import onnx_files
from deepmemory.exporting.sql import sql_files
from deepmemory.exporting.sql_target import SqlTarget
from deepmemory.exporting.typescript import typescript_files
from deepmemory.state import replace_file
from deepmemory.transform import Layer

__all__ = ["FORMATS", "Exported", "Format", "export_layer", "export_saved"]

Format: TypeAlias = Literal["numpy", "onnx", "sql", "typescript"]
"""What a layer can be exported as."""

FORMATS: tuple[Format, ...] = get_args(Format)

_ENDINGS: Mapping[Format, tuple[str, ...]] = {
    "numpy": (".py", ".npz"),
    "onnx": (".onnx",),
    "sql": (".sql", ".uninstall.sql"),
    "typescript": (".ts", ".safetensors"),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        files: the paths, the one to begin with first.
        notes: a sentence for each thing that the format can't hold, or that whoever uses it must know.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def export_saved(
    saved: SavedLayer,
    path: str | os.PathLike[str],
    format: Format,
    *,
    overwrite: bool = False,
    sql: SqlTarget | None = None,
    query_map: QueryMap | None = None,
) -> Exported:
    """Write a saved layer as files that work without Deep Memory.

    Args:
        saved: the layer, with what is known of it.
        path: where to, without an ending or with one of the format's: ``layer`` gives ``layer.py`` and ``layer.npz``.
        format: ``"numpy"``, ``"onnx"``, ``"sql"`` or ``"typescript"``.
        overwrite: replace files that are there.
        sql: names in the database; for ``"sql"`` alone.
        query_map: what the queries' model's vectors go through before the layer; the files then take them as they are.

    Raises:
        InputError: the path or the options can't be used, or files are there already; nothing was written.
        MissingExtraError: ONNX was asked for and its package is not installed.
        StorageError: a file could not be written; each is either whole or as it was.
    """
    if format not in FORMATS:
        raise InputError(f"a layer is exported as {', '.join(FORMATS)}; {format!r} is none of them")
    if sql is not None and format != "sql":
        raise InputError(f"names of tables and functions are for the format sql; the format is {format}")
    stem = _stem(Path(path), format)
    targets = {ending: stem.with_name(stem.name + ending) for ending in _ENDINGS[format]}
    _refuse_unusable(targets.values(), overwrite=overwrite)
    writers: Mapping[Format, Callable[[LayerFacts, str], tuple[dict[str, bytes], list[str]]]] = {
        "numpy": numpy_files,
        "onnx": onnx_files,
        "sql": partial(sql_files, target=sql or SqlTarget()),
        "typescript": typescript_files,
    }
    contents, notes = writers[format](LayerFacts.of(saved, query_map), stem.name)
    for ending, content in contents.items():
        replace_file(targets[ending], content)
    return Exported(tuple(targets[ending] for ending in contents), tuple(notes))


def export_layer(
    layer: Layer,
    path: str | os.PathLike[str],
    format: Format,
    *,
    overwrite: bool = False,
    sql: SqlTarget | None = None,
    query_map: QueryMap | None = None,
) -> Exported:
    """Write a layer that was never saved, such as that of `deepmemory.training.fit`; see `export_saved`."""
    info = LayerInfo(
        name="", dimensions=layer.dimensions, distance=layer.distance, embedder=None, data_hash="", report={}
    )
    return export_saved(SavedLayer(info, layer), path, format, overwrite=overwrite, sql=sql, query_map=query_map)


def _stem(path: Path, format: Format) -> Path:
    """The path without the format's ending."""
    ending = next((ending for ending in reversed(_ENDINGS[format]) if path.name.endswith(ending)), "")
    name = path.name.removesuffix(ending)
    if not name:
        raise InputError(f"the export needs the name of a file, such as layer; found {str(path)!r}")
    return path.with_name(name)


def _refuse_unusable(targets: Iterable[Path], *, overwrite: bool) -> None:
    problems = []
    for target in targets:
        if os.path.isdir(target):  # noqa: PTH112  Path.is_dir raises where a name is too long
            problems.append(f"can't write {target}: it is a folder")
        elif os.path.lexists(target) and not overwrite:
            problems.append(
                f"{target} is there already; choose another name, or replace it with overwrite=True (--force)"
            )
    if problems:
        raise InputError(problems)
