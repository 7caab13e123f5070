"""Reads completions that an OpenAI-compatible endpoint answered, and trusts none of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepmemory.endpoint import excerpt, json_reply
from deepmemory.errors import LLMError
from deepmemory.llm.base import Completion, Message, UnusableAnswerError, Usage

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

__all__ = ["Gathered", "completion_from_reply"]


def completion_from_reply(content: bytes, messages: Sequence[Message], name: str, source: str) -> Completion:
    """The completion in a reply of ``/chat/completions``.

    Args:
        content: the body of the reply.
        messages: what was asked, to estimate what it cost where the reply doesn't say.
        name: of the model.
        source: the address, as the subject of a sentence.

    Raises:
        UnreadableReplyError: the body is no JSON.
        UnusableAnswerError: the model declined.
        LLMError: it is JSON, and no completion.
    """
    reply = json_reply(content, source)
    choices = reply.get("choices") if isinstance(reply, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise LLMError(f"{source} answered with JSON that is no completion ({excerpt(content)})")
    text = message.get("content")
    counted = _usage(reply.get("usage"))
    usage = counted or Usage.estimate(messages, text if isinstance(text, str) else "")
    refuse_declined(name, message.get("refusal"), choice.get("finish_reason"), usage)
    if not isinstance(text, str):
        raise UnusableAnswerError(f"{name} answered without a text ({excerpt(content)})", usage)
    return Completion(text, None, usage, _finish(choice.get("finish_reason")))


class Gathered:
    """A streamed answer, put together from its chunks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pieces: list[str] = []
        self._refusal = ""
        self._finish: str | None = None
        self._usage: Usage | None = None

    def add(self, chunk: "ChatCompletionChunk") -> str:
        """Take a chunk, and return the piece of text in it; often the client has not checked what it holds."""
        self._usage = _usage(chunk.usage) or self._usage
        for choice in list(chunk.choices or ())[:1]:
            self._finish = getattr(choice, "finish_reason", None) or self._finish
            delta = getattr(choice, "delta", None)
            self._refusal += getattr(delta, "refusal", None) or ""
            piece = getattr(delta, "content", None)
            if isinstance(piece, str):
                self._pieces.append(piece)
                return piece
        return ""

    def completion(self, messages: Sequence[Message]) -> Completion:
        """The whole answer, once the stream has ended.

        Raises:
            UnusableAnswerError: the model declined, or the stream ended before the answer did.
        """
        text = "".join(self._pieces)
        usage = self._usage or Usage.estimate(messages, text)
        refuse_declined(self._name, self._refusal, self._finish, usage)
        if self._finish is None:
            raise UnusableAnswerError(f"the answer of {self._name} broke off after {len(text)} characters", usage)
        return Completion(text, None, usage, _finish(self._finish))


def refuse_declined(name: str, refusal: object, finish: object, usage: Usage) -> None:
    """Raise where the model, or the filter behind it, declined to answer."""
    if isinstance(refusal, str) and refusal:
        raise UnusableAnswerError(f"{name} declined to answer: {' '.join(refusal.split())[:200]}", usage)
    if finish == "content_filter":
        raise UnusableAnswerError(f"the content filter of {name} withheld the answer", usage)


def _finish(reason: object) -> str:
    return reason if isinstance(reason, str) else "stop"


def _usage(counted: Any) -> Usage | None:
    numbers = [
        counted.get(name) if isinstance(counted, dict) else getattr(counted, name, None)
        for name in ("prompt_tokens", "completion_tokens")
    ]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        return None
    prompt, completed = numbers
    return Usage(int(prompt or 0), int(completed or 0))
