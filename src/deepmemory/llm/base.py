"""What every language model does here, and what goes in and comes out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal

from deepmemory.errors import LLMError

__all__ = [
    "ChatModel",
    "Completion",
    "DeniedError",
    "Message",
    "RefusedError",
    "TooLongError",
    "UnusableAnswerError",
    "Usage",
    "estimate_tokens",
]

_CHARACTERS_A_TOKEN = 4.0  # of English text, roughly, with the tokenizers in use
_CHARACTERS_A_TOKEN_ELSEWHERE = 1.5  # of scripts whose letters are rare in what tokenizers were made from
_LATIN_ENDS = "\u0250"


def estimate_tokens(text: str) -> int:
    """Roughly how many tokens a text has, rounded up: its characters / 4, or / 1.5 where they are not Latin."""
    latin = sum(character < _LATIN_ENDS for character in text)
    return math.ceil(latin / _CHARACTERS_A_TOKEN + (len(text) - latin) / _CHARACTERS_A_TOKEN_ELSEWHERE)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a completion cost; usages add up with ``+``.

    Attributes:
        prompt_tokens: that were read.
        completion_tokens: that were written.
        estimated: some of it was not counted by the endpoint, but is what `estimate_tokens` says.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @classmethod
    def told(cls, prompt_tokens: object, completion_tokens: object, messages: Sequence[Message], text: str) -> "Usage":
        """What an endpoint counted, and an estimate of what it didn't.

        Args:
            prompt_tokens: as it came; anything but a number of 0 or more counts for nothing.
            completion_tokens: likewise.
            messages: what was asked.
            text: what was answered.
        """
        read, written = _count(prompt_tokens), _count(completion_tokens)
        estimated = read is None or written is None
        if read is None:
            read = sum(estimate_tokens(message.content) for message in messages)
        return cls(read, estimate_tokens(text) if written is None else written, estimated)

    @property
    def total_tokens(self) -> int:
        """Read and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: as the model wrote it.
        data: the JSON value in it, where a schema was given; None otherwise.
        usage: the tokens that it took.
        finish_reason: ``stop``; ``length`` where the answer was cut at the number of tokens allowed; of an answer that
            can't be used also ``refusal`` (the text is the model's excuse) and ``content_filter``.
    """

    text: str
    data: Any = None
    usage: Usage = Usage()
    finish_reason: str = "stop"


class UnusableAnswerError(LLMError):
    """The model answered, though not what was asked for: no JSON, JSON of another shape, a refusal, half an answer.

    Asking about something else may go well, unlike where the endpoint itself fails.

    Attributes:
        completion: the answer as it came, which was paid for all the same.
    """

    def __init__(self, sentence: str, completion: Completion | None = None) -> None:
        super().__init__(sentence)
        self.completion = completion or Completion("")

    @property
    def usage(self) -> Usage:
        """What the answer cost."""
        return self.completion.usage


class RefusedError(LLMError):
    """The endpoint found this request wrong; it may take another."""


class TooLongError(RefusedError):
    """The endpoint takes no request of this size."""


class DeniedError(LLMError):
    """No request will do: the key or the model is refused, or the quota is used up."""


class ChatModel(ABC):
    """A language model. Several threads may use one at the same time."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it, such as ``openai:gpt-4o-mini``."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What shapes its answers beside its name and what `complete` is given, as JSON values."""
        return {}

    @abstractmethod
    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Event | None = None,
    ) -> Completion:
        """Let the model answer.

        Args:
            messages: the conversation.
            schema: a JSON schema that the answer must follow: an object, with a ``title``.
            max_tokens: the answer may have.
            temperature: 0 for the likeliest answer; the endpoint's own choice by default.
            stop: once set, nothing is waited for any more and no further request is sent.

        Raises:
            UnusableAnswerError: the model answered, though not what was asked for.
            RefusedError: the endpoint takes no such request; `TooLongError` where that is for its size.
            DeniedError: the endpoint takes no request at all.
            LLMError: the endpoint can't be reached, fails, or answered with something else than a completion.
        """

    @abstractmethod
    def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None = None, temperature: float | None = None
    ) -> Iterator[str | Completion]:
        """Let the model answer piece by piece.

        Yields:
            pieces of the text as they come, and in the end the completion.

        Raises:
            UnusableAnswerError: the model declined, or the answer broke off.
            LLMError: the endpoint can't be reached, refused, or failed on the way.
        """

    def close(self) -> None:  # noqa: B027  not every model holds something
        """Let go of idle connections; the next request opens others."""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
