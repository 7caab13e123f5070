"""What replies look like, for the OpenAPI document and the tests that hold us to it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from deepmemory.server.refusals import CODES
from deepmemory.server.schemas import Distance, EmbedderRecord, PackedVectors

__all__ = ["ErrorReply"]


class ErrorDetail(BaseModel):
    """What is wrong."""

    code: Annotated[str, Field(json_schema_extra={"enum": list(CODES)})]
    message: str
    problems: list[str] | None = None
    type: str | None = None


class ErrorReply(BaseModel):
    """Why a request was not done."""

    error: ErrorDetail


class TokenInfo(BaseModel):
    """A token without its secret."""

    id: str
    name: str
    scope: Literal["read", "write", "admin"]
    created: str
    expires: str | None
    revoked: str | None
    last_used: str | None


class NewToken(TokenInfo):
    """A token with its secret, which is shown this once."""

    secret: str


class TokenList(BaseModel):
    """The tokens of an organisation."""

    tokens: list[TokenInfo]


class Me(BaseModel):
    """Whose token it is."""

    org: str
    scope: Literal["read", "write", "admin"]
    token: TokenInfo


class DatasetRow(BaseModel):
    """A dataset in a list; numbers are null where its documents are in a database that can't be reached."""

    name: str
    documents: int | None
    dimensions: int | None
    distance: Distance
    embedder: str | None
    layer: str | None
    created: str


class DatasetList(BaseModel):
    """Some of an organisation's datasets; ``next`` is the cursor of what follows."""

    datasets: list[DatasetRow]
    next: str | None


class DatasetRecord(DatasetRow):
    """All that is known of a dataset."""

    org: str
    embedder: EmbedderRecord | None  # type: ignore[assignment]  # a record says more than a row
    embeds: bool
    capabilities: dict[str, bool]


class Ids(BaseModel):
    """Ids of documents."""

    ids: list[str]


class DocumentOut(BaseModel):
    """A stored document; its id alone where nothing else was asked for."""

    id: str
    text: str | None = None
    metadata: dict[str, Any] | None = None


class VectorsById(BaseModel):
    """The vectors of those documents that exist."""

    ids: list[str]
    values: PackedVectors


class DocumentsReply(BaseModel):
    """Documents in the order asked, null where there is none."""

    documents: list[DocumentOut | None] | None = None
    vectors: VectorsById | None = None


class EmbedReply(BaseModel):
    """The texts' vectors."""

    vectors: PackedVectors


class Deleted(BaseModel):
    """How many were deleted."""

    deleted: int


class Count(BaseModel):
    """How many there are."""

    count: int


class HitOut(BaseModel):
    """A document that was found; higher scores are better."""

    id: str
    score: float
    text: str | None = None
    metadata: dict[str, Any] | None = None


class Hits(BaseModel):
    """The answer to one query."""

    hits: list[HitOut]


class SearchReply(BaseModel):
    """The answer to each query, in order, and the layer that had a part in it."""

    layer: str | None
    results: list[Hits]


class PartOut(BaseModel):
    """One summand of a score."""

    name: str
    value: float


class CauseOut(BaseModel):
    """A training query that raised a document; its text is null where it is not kept."""

    query: str | None
    number: int
    cosine: float
    raised: float


class ExplainedHitOut(BaseModel):
    """A document with and without the layer; a rank is null beyond ``depth``, and the parts sum to the score."""

    id: str
    score: float
    text: str
    metadata: dict[str, Any]
    rank: int | None
    rank_before: int | None
    score_before: float
    parts: list[PartOut]
    causes: list[CauseOut]


class ExplanationOut(BaseModel):
    """What the active layer changed in one ranking; ``left`` are no longer among the first k."""

    query: str | None
    layer: str | None
    k: int
    depth: int
    hits: list[ExplainedHitOut]
    left: list[ExplainedHitOut]
    notes: list[str]


class ExampleOut(BaseModel):
    """One row that shows a finding; the beginnings of documents' texts by id."""

    note: str
    queries: list[str]
    documents: dict[str, str]


class FindingOut(BaseModel):
    """One thing that was found: in ``n`` rows of ``of`` that were looked at."""

    kind: str
    severity: Literal["problem", "warning", "info"]
    n: int
    of: int
    what: str
    why: str
    advice: str
    examples: list[ExampleOut]


class DiagnosisOut(BaseModel):
    """What was found in labelled queries, the gravest first."""

    severity: Literal["problem", "warning", "info"]
    n_queries: int
    n_documents: int
    n_looked_at: int
    findings: list[FindingOut]


class JobOut(BaseModel):
    """A training as it stands."""

    id: str
    state: Literal["pending", "training", "completed", "failed", "cancelled"]
    progress: float
    stage: str
    eta_seconds: float | None
    details: dict[str, Any]
    results: dict[str, Any] | None
    error: str | None
    created: str
    started: str | None
    finished: str | None


class JobList(BaseModel):
    """All trainings of a dataset, oldest first."""

    jobs: list[JobOut]


class Cancelled(BaseModel):
    """Whether the training is cancelled now; false where it had ended before."""

    cancelled: bool


class Removed(BaseModel):
    """Whether there was one, and it is gone."""

    deleted: bool


class LayerOut(BaseModel):
    """A saved layer."""

    name: str
    dimensions: int
    distance: str
    embedder: dict[str, Any] | None
    data_hash: str
    report: dict[str, Any]
    created: str
    format: int


class LayerList(BaseModel):
    """All saved layers, oldest first, and the one that searches use."""

    layers: list[LayerOut]
    active: str | None


class Active(BaseModel):
    """The layer that searches use."""

    active: str | None


class HistoryList(BaseModel):
    """The queries that were trained on and evaluated."""

    entries: list[dict[str, Any]]


class BlobList(BaseModel):
    """Full names of blobs, in order."""

    blobs: list[str]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]
    version: str
