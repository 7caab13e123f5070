"""Language models that chat: any OpenAI-compatible endpoint, and LangChain's chat models; one contract."""

from typing import Any

from deepmemory.errors import InputError
from deepmemory.llm.base import ChatModel, Completion, Message, UnusableAnswerError, Usage, estimate_tokens
from deepmemory.llm.langchain import LangChainChat
from deepmemory.llm.openai import OpenAIChat

__all__ = [
    "ChatModel",
    "Completion",
    "LangChainChat",
    "Message",
    "OpenAIChat",
    "UnusableAnswerError",
    "Usage",
    "estimate_tokens",
    "resolve_llm",
]


def resolve_llm(spec: Any) -> ChatModel:
    """The language model that someone means; nothing is sent yet.

    Args:
        spec: ``"openai:MODEL"``, with the address in ``OPENAI_BASE_URL`` and the key in ``OPENAI_API_KEY``; a LangChain
            chat model; or a `ChatModel`, which is returned as it is.

    Raises:
        InputError: the specification is none of these.
        MissingExtraError: the packages that the model needs are not installed.
    """
    if isinstance(spec, ChatModel):
        return spec
    if isinstance(spec, str):
        kind, colon, model = spec.partition(":")
        if kind == "openai" and colon and model.strip():
            return OpenAIChat(model.strip())
    elif not isinstance(spec, type) and all(callable(getattr(spec, method, None)) for method in ("invoke", "stream")):
        return LangChainChat(spec)
    found = repr(spec) if isinstance(spec, str) else f"an object of type {type(spec).__name__}"
    raise InputError(f"unknown language model {found}: expected 'openai:MODEL' or a LangChain chat model")
