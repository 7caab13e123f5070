"""What requests look like, as they are checked and as the OpenAPI document shows them."""

import base64
import binascii
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepmemory.errors import InputError
from deepmemory.server.refusals import Refusal

__all__ = ["PackedVectors", "Vectors", "pack_vectors", "parse", "read_vectors"]

Model = TypeVar("Model", bound=BaseModel)

_LARGEST = 2**31 - 1
_EXAMPLE_VECTORS: dict[str, Any] = {"shape": [1, 2], "base64": "AACAPwAAAAA="}


class Body(BaseModel):
    """What is sent: nothing that isn't known, no text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PackedVectors(Body):
    """Vectors as little-endian float32 in base64, row by row."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [_EXAMPLE_VECTORS]})

    shape: Annotated[list[Annotated[int, Field(ge=0, le=_LARGEST)]], Field(min_length=2, max_length=2)]
    base64: str


Vectors: TypeAlias = list[list[float]] | PackedVectors
"""A list of lists of numbers, or the packed form, which takes a fifth of the room."""

Distance: TypeAlias = Literal["cosine", "dot"]
Filter: TypeAlias = dict[str, Any]
Grades: TypeAlias = list[list[Annotated[list[Any], Field(min_length=2, max_length=2)]]]


class EmbedderRecord(Body):
    """Which embedder fills a dataset."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    spec: Annotated[str, Field(max_length=200)] | None = None
    fingerprint: dict[str, Any] | None = None


class TokenRequest(Body):
    """A token to make."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"name": "search page", "scope": "read"}]}
    )

    name: Annotated[str, Field(max_length=200)] = ""
    scope: Literal["read", "write", "admin"]
    expires_in_days: Annotated[float, Field(gt=0, le=36_500)] | None = None


class DatasetRequest(Body):
    """A dataset to make, or to find as it is."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"distance": "cosine", "embedder": {"name": "local", "spec": "local"}}, {}]},
    )

    distance: Distance | None = None
    embedder: EmbedderRecord | None = None


class ClearRequest(Body):
    """What a dataset is to be once it is empty; as it was, where nothing is said."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{}, {"record": {"distance": "dot"}}]}
    )

    record: DatasetRequest | None = None


class PinRequest(Body):
    """The embedder that was found to fill a dataset."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "embedder": {
                        "name": "mine",
                        "fingerprint": {"name": "mine", "dimensions": 2, "probe": "AACAPwAAAAA="},
                    }
                }
            ]
        },
    )

    embedder: EmbedderRecord


class DocumentIn(Body):
    """A document to store."""

    id: str | None = None
    text: str
    metadata: dict[str, Any] | None = None


class AddRequest(Body):
    """Documents to add, replacing those whose id exists: all of them or none."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"documents": [{"id": "ice", "text": "Ice is frozen water."}], "vectors": [[1.0, 0.0]]}]
        },
    )

    documents: list[DocumentIn]
    vectors: Vectors | None = None


class GetRequest(Body):
    """Documents to fetch, in this order."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"ids": ["ice"]}]})

    ids: list[str]
    filter: Filter | None = None
    vectors: bool = False
    documents: bool = True


class DeleteRequest(Body):
    """Documents to delete: by ids, by a filter, by both, or all."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"ids": ["ice"]}]})

    ids: list[str] | None = None
    filter: Filter | None = None
    all: bool = False


class CountRequest(Body):
    """Documents to count."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{}]})

    filter: Filter | None = None


class SearchRequest(Body):
    """Queries as texts or as vectors."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"queries": ["what does water become?"], "k": 3}, {"vectors": [[1.0, 0.0]], "k": 3}]
        },
    )

    queries: list[str] | None = None
    vectors: Vectors | None = None
    k: Annotated[int, Field(ge=1, le=_LARGEST)] = 10
    deep_memory: bool | None = None
    filter: Filter | None = None
    mode: Literal["vectors", "words"] = "vectors"
    distance: Distance | None = None
    documents: bool = True


class ExplainRequest(Body):
    """One query, as a text or as a vector, whose ranking is to be explained."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"query": "what does water become?", "k": 3}, {"vectors": [[1.0, 0.0]], "k": 3}]
        },
    )

    query: str | None = None
    vectors: Vectors | None = Field(default=None, description="The query's vector: one row.")
    k: Annotated[int, Field(ge=1, le=_LARGEST)] = 10
    filter: Filter | None = None


class EmbedRequest(Body):
    """Texts to make vectors of, as the dataset's own embedder makes them."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"texts": ["what is ice?"], "kind": "queries"}]}
    )

    texts: list[str]
    kind: Literal["documents", "queries"] = "documents"


class TrainRequest(Body):
    """Queries with their right answers, to learn from."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"queries": ["what is ice?"], "relevance": [[["ice", 1.0]]], "seed": 0}]},
    )

    queries: list[str]
    relevance: Grades
    made: list[bool] | None = Field(
        default=None, description="For each query whether it was made out of its document and not asked by anybody."
    )
    vectors: Vectors | None = None
    own_embedder: bool = Field(
        default=False, description="The vectors were made by the dataset's own embedder; the layer then says so."
    )
    words: bool = Field(default=True, description="Learn as well how far to trust full-text search beside the vectors.")
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class EvaluateRequest(Body):
    """Queries with their right answers, to measure with."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"queries": ["what is ice?"], "relevance": [[["ice", 1.0]]], "top_k": [1, 10]}]
        },
    )

    queries: list[str]
    relevance: Grades
    vectors: Vectors | None = None
    own_embedder: bool = Field(default=False, description="The vectors were made by the dataset's own embedder.")
    top_k: Annotated[list[Annotated[int, Field(ge=1, le=_LARGEST)]], Field(min_length=1, max_length=100)] | None = None
    model: str | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    log_queries: bool | None = None
    qvs_params: dict[str, Any] = Field(default={}, description="To be kept with the queries in the history.")


class DiagnoseRequest(Body):
    """Queries with their right answers, to be looked at."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "queries": ["what is ice?"],
                    "relevance": [[["ice", 1.0]]],
                    "vectors": [[1.0, 0.0]],
                    "test_queries": ["What is ice?"],
                }
            ]
        },
    )

    queries: list[str]
    relevance: Grades
    vectors: Vectors | None = None
    test_queries: list[str] | None = Field(default=None, description="That are to measure, and must not train.")
    test_vectors: Vectors | None = Field(
        default=None, description="Without them, and where the hub doesn't embed, texts alone are compared."
    )
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class ActiveRequest(Body):
    """The layer that searches use; null for none."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"layer": None}]})

    layer: str | None


def parse(model: type[Model], body: bytes, *, empty: bool = False) -> Model:
    """Read a body.

    Args:
        model: what it must be.
        body: as it came.
        empty: whether nothing at all stands for ``{}``.

    Raises:
        Refusal: it is no JSON.
        InputError: naming everything that is not as it must be.
    """
    if empty and not body.strip():
        body = b"{}"
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        said = problems[0]["msg"].removeprefix("Invalid JSON: ")
        raise Refusal(400, "bad_request", f"the body is no JSON: {said}")
    raise InputError([f"{_place(problem['loc'])}: {problem['msg']}." for problem in problems[:1_000]])


def read_vectors(vectors: Vectors | None, what: str = "vectors") -> NDArray[np.float32] | list[list[float]] | None:
    """The vectors of a request, for `check_vectors` to check.

    Raises:
        InputError: the packed form doesn't hold what its shape says.
    """
    if vectors is None or isinstance(vectors, list):
        return vectors
    n, dimensions = vectors.shape
    try:
        data = base64.b64decode(vectors.base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{what}.base64 is no base64: {error}") from error
    if len(data) != 4 * n * dimensions:
        raise InputError(
            f"{what}: {n} x {dimensions} float32 values take {4 * n * dimensions} bytes; found {len(data)} bytes"
        )
    return np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(n, dimensions)


def pack_vectors(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Vectors as replies have them."""
    data = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    return {"shape": list(vectors.shape), "base64": base64.b64encode(data).decode("ascii")}


def _place(location: tuple[int | str, ...]) -> str:
    """Where in the body something is, such as ``documents[3].text``."""
    # pydantic names the members of a union, too, which say nothing to a reader.
    steps = [step for step in location if isinstance(step, int) or (step.isidentifier() and step != "PackedVectors")]
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".") or "the body"
