"""What was retrieved, in one form, whatever retrieved it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from deepmemory.errors import InputError

__all__ = ["Retriever", "Source", "retrieve", "sources_of"]

_ACCEPTED = (
    "a store, a LangChain retriever or vector store, a function from a question and k to documents, "
    "or a list of documents found before"
)


class _Searches(Protocol):
    """What a store does for a question."""

    def search(self, query: str, k: int, /) -> Iterable[Any]:
        """The best k documents, best first."""


class _Invoked(Protocol):
    """What a LangChain retriever does for a question; how many documents is its own setting."""

    def invoke(self, input: str, /) -> Iterable[Any]:
        """Documents, best first."""


Retriever: TypeAlias = _Searches | _Invoked | Callable[[str, int], Iterable[Any]]
"""Something that finds documents for a question: hits of a store, LangChain's documents, or texts."""


@dataclass(frozen=True, slots=True)
class Source:
    """One retrieved document.

    Attributes:
        id: of the document; empty where it has none.
        text: of the document.
        title: what it is called; empty where that is not known.
        url: its address, or its path; empty where that is not known.
        metadata: JSON values by key.
    """

    id: str
    text: str
    title: str = ""
    url: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, found: object) -> "Source":
        """A hit of a store, a document of ours or LangChain's, or a text.

        Raises:
            InputError: it is none of these.
        """
        if isinstance(found, Source):
            return found
        if isinstance(found, str):
            return cls("", found)
        text = getattr(found, "text", getattr(found, "page_content", None))
        if not isinstance(text, str):
            raise InputError(f"a retrieved document must have a text or page_content, found {type(found).__name__}")
        metadata = getattr(found, "metadata", None) or {}
        id = getattr(found, "id", None) or metadata.get("id") or ""
        return cls(str(id), text, str(metadata.get("title") or ""), _place(metadata), metadata)

    def as_dict(self) -> dict[str, str]:
        """As JSON values, without the text."""
        return {"id": self.id, "title": self.title, "url": self.url}


def retrieve(retriever: Retriever, question: str, k: int) -> list[Source]:
    """Let any retriever find at most k documents.

    Raises:
        InputError: it is no retriever, or returns something else than documents.
    """
    found: Iterable[Any]
    if callable(search := getattr(retriever, "similarity_search", None)):
        found = search(question, k=k)  # a vector store of LangChain's, whose `search` is something else
    elif callable(search := getattr(retriever, "search", None)):
        found = search(question, k)
    elif callable(invoke := getattr(retriever, "invoke", None)):
        found = invoke(question)
    elif callable(retriever):
        found = retriever(question, k)
    else:
        raise InputError(f"expected {_ACCEPTED}; found {type(retriever).__name__}")
    return sources_of(found)[:k]


def sources_of(found: object) -> list[Source]:
    """Documents that were retrieved, each once and without empty ones, in their order.

    Raises:
        InputError: it is no list of documents.
    """
    if isinstance(found, str | bytes) or not isinstance(found, Iterable):
        raise InputError(f"expected {_ACCEPTED}; found {type(found).__name__}")
    sources = (Source.of(each) for each in found)
    return list({source.id or source.text: source for source in sources if source.text.strip()}.values())


def _place(metadata: Mapping[str, Any]) -> str:
    """The address or path that the ingestion, or a loader of LangChain, has noted."""
    place = str(metadata.get("url") or metadata.get("path") or metadata.get("source") or "")
    anchor = metadata.get("anchor")
    return f"{place}#{anchor}" if place and anchor else place
