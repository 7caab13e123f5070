"""Arguments of Deep Lake's calls: what is read, what is accepted and changes nothing, and what is refused."""

import uuid
from collections.abc import Sequence

from deepmemory.data.text import is_list, shown
from deepmemory.errors import CapabilityError, InputError
from deepmemory.integrations.dataset import TENSORS, TensorName, check_tensor

__all__ = [
    "NO_QUERIES",
    "check_exec_option",
    "one_text",
    "refuse_other_tensors",
    "refuse_rows_and_queries",
    "returned_tensors",
    "without_gaps",
]

_RETURNED: tuple[TensorName, ...] = ("text", "metadata", "id")
NO_QUERIES = "there is no query language here"
_EXEC_OPTIONS = (None, "auto", "python", "compute_engine", "tensor_db")


def without_gaps(ids: Sequence[str | None] | None) -> list[str] | None:
    """Ids with a random one for each None."""
    if ids is None or (is_list(ids) and all(id is None for id in ids)):
        return None
    if not is_list(ids):
        raise InputError(f"id must be a list of texts, but is {shown(ids)}")
    return [uuid.uuid4().hex if id is None else id for id in ids]


def one_text(data: object) -> str:
    """The text of one query, given bare or as a list of one."""
    if is_list(data) and len(data) == 1:
        data = data[0]
    if not isinstance(data, str):
        raise InputError(f"embedding_data is the text of one query; found {shown(data)}")
    return data


def returned_tensors(names: Sequence[str] | str | None) -> tuple[TensorName, ...]:
    """Names of the tensors that a search returns.

    Raises:
        InputError: there is no such tensor.
    """
    if names is None:
        return _RETURNED
    if names == "*":
        return TENSORS
    if isinstance(names, str):
        names = [names]
    return tuple(check_tensor(name) for name in names if name != "score")


def check_exec_option(value: str | None) -> None:
    """Accept the original's ways to run a search, which are all the same here.

    Raises:
        InputError: there was none of that name.
    """
    if value not in _EXEC_OPTIONS:
        raise InputError(
            "exec_option is 'auto', 'python', 'compute_engine' or 'tensor_db', which are all the same here; "
            f"found {value!r}"
        )


def refuse_rows_and_queries(row_ids: object, query: object) -> None:
    """Refuse to name documents by row or by query.

    Raises:
        CapabilityError: either was given.
    """
    if row_ids is not None:
        raise CapabilityError("rows move when documents are replaced: name documents by ids")
    if query is not None:
        raise CapabilityError(f"{NO_QUERIES}: name documents by ids or a filter")


def refuse_other_tensors(embedding_tensor: object, source_tensor: object = None) -> None:
    """Refuse to keep vectors, or to take what they are made of, elsewhere than the original's default tensors.

    Raises:
        CapabilityError: another tensor was named.
    """
    if embedding_tensor not in (None, "embedding", ["embedding"]):
        raise CapabilityError(f"vectors are in the tensor embedding and in no other; found {embedding_tensor!r}")
    if source_tensor not in (None, "text", ["text"]):
        raise CapabilityError(f"the tensor text is embedded and no other; found {source_tensor!r}")
