"""Reads completions that an OpenAI-compatible endpoint answered, and trusts none of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepmemory.endpoint import UnreadableReplyError, excerpt, json_reply
from deepmemory.errors import LLMError
from deepmemory.llm.base import Completion, Message, UnusableAnswerError, Usage

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

__all__ = ["Gathered", "completion_from_reply", "finished", "text_in"]


def completion_from_reply(content: bytes, messages: Sequence[Message], name: str, source: str) -> Completion:
    """The completion in a reply of ``/chat/completions``.

    Args:
        content: the body of the reply.
        messages: what was asked, to estimate what it cost where the reply doesn't say.
        name: of the model.
        source: the address, as the subject of a sentence.

    Raises:
        UnreadableReplyError: the body is no JSON, or an object without ``choices``: what a gateway may send with HTTP
            200 for the error of a moment.
        UnusableAnswerError: the model declined.
        LLMError: it is JSON, and no completion.
    """
    reply = json_reply(content, source)
    if isinstance(reply, dict) and "choices" not in reply:
        raise UnreadableReplyError(f"{source} answered with JSON that is no completion ({excerpt(content)})")
    choices = reply["choices"] if isinstance(reply, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise LLMError(f"{source} answered with JSON that is no completion ({excerpt(content)})")
    text = text_in(message.get("content"))
    usage = _usage(reply.get("usage"), messages, text or "")
    completion = finished(name, text or "", usage, choice.get("finish_reason"), message.get("refusal"))
    if text is None:
        raise UnusableAnswerError(f"{name} answered without a text ({excerpt(content)})", completion)
    return completion


class Gathered:
    """A streamed answer, put together from its chunks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pieces: list[str] = []
        self._refusal = ""
        self._finish: str | None = None
        self._counted: Any = None

    def add(self, chunk: "ChatCompletionChunk") -> str:
        """Take a chunk, and return the piece of text in it; often the client has not checked what it holds."""
        self._counted = chunk.usage or self._counted
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
        completion = finished(self._name, text, _usage(self._counted, messages, text), self._finish, self._refusal)
        if self._finish is None:
            raise UnusableAnswerError(f"the answer of {self._name} broke off after {len(text)} characters", completion)
        return completion


def finished(name: str, text: str, usage: Usage, reason: object, refusal: object) -> Completion:
    """A whole answer.

    Args:
        name: of the model.
        text: of the answer.
        usage: what it cost.
        reason: why it ended, as it came.
        refusal: what the model said instead of an answer, where it declined.

    Raises:
        UnusableAnswerError: the model, or the filter behind it, declined to answer.
    """
    if reason == "refusal" or (isinstance(refusal, str) and refusal):
        said = refusal if isinstance(refusal, str) and refusal else text
        raise UnusableAnswerError(
            f"{name} declined to answer: {' '.join(said.split())[:200]}", Completion(said, None, usage, "refusal")
        )
    completion = Completion(text, None, usage, reason if isinstance(reason, str) and reason else "stop")
    if reason == "content_filter":
        raise UnusableAnswerError(f"the content filter of {name} withheld the answer", completion)
    return completion


def text_in(content: object) -> str | None:
    """The text of a message; of a list of parts, the parts that are text. None where it has neither."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in content)
    return content if isinstance(content, str) else None


def _usage(counted: Any, messages: Sequence[Message], text: str) -> Usage:
    prompt, completed = (
        counted.get(name) if isinstance(counted, dict) else getattr(counted, name, None)
        for name in ("prompt_tokens", "completion_tokens")
    )
    return Usage.told(prompt, completed, messages, text)
