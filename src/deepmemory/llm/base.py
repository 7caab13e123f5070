"""What every language model does here, and what goes in and comes out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal

from deepmemory.errors import LLMError

__all__ = ["ChatModel", "Completion", "Message", "UnusableAnswerError", "Usage", "estimate_tokens"]

_CHARACTERS_A_TOKEN = 4  # of English text, roughly, with the tokenizers in use


def estimate_tokens(text: str) -> int:
    """Roughly how many tokens a text has: its characters / 4, rounded up."""
    return -(-len(text) // _CHARACTERS_A_TOKEN)


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
        estimated: some of it was not counted by the endpoint, but taken as characters / 4.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @classmethod
    def estimate(cls, messages: Sequence[Message], text: str) -> "Usage":
        """Where an endpoint tells nothing."""
        return cls(sum(estimate_tokens(message.content) for message in messages), estimate_tokens(text), estimated=True)

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
        finish_reason: ``stop``, or ``length`` where the answer was cut at the number of tokens allowed.
    """

    text: str
    data: Any = None
    usage: Usage = Usage()
    finish_reason: str = "stop"


class UnusableAnswerError(LLMError):
    """The model answered, though not what was asked for: no JSON, JSON of another shape, a refusal, half an answer.

    Asking about something else may go well, unlike where the endpoint itself fails.

    Attributes:
        usage: what the answer cost all the same.
    """

    def __init__(self, sentence: str, usage: Usage | None = None) -> None:
        super().__init__(sentence)
        self.usage = usage or Usage()


class ChatModel(ABC):
    """A language model. Several threads may use one at the same time."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it, such as ``openai:gpt-4o-mini``."""

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
            LLMError: the endpoint can't be reached, refused, or answered with something else than a completion.
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
