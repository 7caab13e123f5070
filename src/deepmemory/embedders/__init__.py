"""Text to vectors: the local model, OpenAI-compatible endpoints, LangChain's protocol and any function."""

import inspect
from typing import Any

from deepmemory.embedders.adapters import CallableEmbedder, EmbeddingFunction, LangChainEmbedder, LangChainEmbeddings
from deepmemory.embedders.base import Embedder
from deepmemory.embedders.bulk import EmbedTexts, SpreadEmbedder, embed_batches
from deepmemory.embedders.cache import CachedEmbedder, QueryCache
from deepmemory.embedders.fingerprint import Fingerprint
from deepmemory.embedders.local import LocalEmbedder
from deepmemory.embedders.openai import OpenAIEmbedder
from deepmemory.errors import InputError

__all__ = [
    "CachedEmbedder",
    "CallableEmbedder",
    "EmbedTexts",
    "Embedder",
    "Fingerprint",
    "LangChainEmbedder",
    "LocalEmbedder",
    "OpenAIEmbedder",
    "QueryCache",
    "SpreadEmbedder",
    "embed_batches",
    "resolve_embedder",
]

_ACCEPTED = (
    "'local', 'openai:MODEL', an object with embed_documents and embed_query (LangChain's protocol), "
    "or a function from a list of texts to their vectors"
)


def resolve_embedder(spec: str | Embedder | LangChainEmbeddings | EmbeddingFunction | None = None) -> Embedder:
    """The embedder that someone means.

    Nothing is loaded and no endpoint is asked before the first text is embedded.

    Args:
        spec: ``"local"`` (also the meaning of None); ``"openai:MODEL"``, with the address in ``OPENAI_BASE_URL`` and
            the key in ``OPENAI_API_KEY``; an object with ``embed_documents`` and ``embed_query``; a function from a
            list of texts to their vectors; or an embedder, which is returned as it is.

    Raises:
        InputError: the specification is none of these.
        MissingExtraError: the packages that the embedder needs are not installed.
    """
    if isinstance(spec, Embedder):
        return spec
    if spec is None:
        return LocalEmbedder()
    if isinstance(spec, str):
        return _from_name(spec)
    return _from_object(spec)


def _from_name(spec: str) -> Embedder:
    if spec == "local":
        return LocalEmbedder()
    kind, colon, model = spec.partition(":")
    if kind == "openai" and colon and model.strip():
        return OpenAIEmbedder(model.strip())
    raise InputError(f"unknown embedder {spec!r}: expected {_ACCEPTED}")


def _from_object(spec: Any) -> Embedder:
    if inspect.isclass(spec):
        raise InputError(f"the embedder is the class {spec.__name__}: pass an instance of it")
    if all(callable(getattr(spec, method, None)) for method in ("embed_documents", "embed_query")):
        return LangChainEmbedder(spec)
    if inspect.iscoroutinefunction(spec):
        raise InputError(f"the embedding function {spec.__name__} is asynchronous: pass one that returns the vectors")
    if callable(spec):
        return CallableEmbedder(spec)
    raise InputError(f"unknown embedder of type {type(spec).__name__}: expected {_ACCEPTED}")
