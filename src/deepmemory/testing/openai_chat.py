"""Chat completions as OpenAI's API words them: whole, or streamed as server-sent events."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["ChatFunction", "ChatReply", "ChatRequest", "completion", "completion_events", "count_tokens"]

_ID = "chatcmpl-deepmemory-testing"
_CREATED = 1_700_000_000  # a fixed moment, so that the same request has the same reply


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client sent to ``/chat/completions``.

    Attributes:
        body: the JSON of the request, whole.
    """

    body: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body["model"])

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages, as they came."""
        messages: Sequence[Mapping[str, Any]] = self.body["messages"]
        return messages

    @property
    def prompt(self) -> str:
        """The text of the last message of the user."""
        return next((_text(m) for m in reversed(self.messages) if m.get("role") == "user"), "")

    @property
    def system(self) -> str:
        """The text of the system (or developer) messages, a line each."""
        return "\n".join(_text(m) for m in self.messages if m.get("role") in ("system", "developer"))

    @property
    def wants_json(self) -> bool:
        """Whether ``response_format`` asks for JSON, with or without a schema."""
        return self._format.get("type") in ("json_object", "json_schema")

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema that the answer must follow, where one was sent."""
        described: Mapping[str, Any] = self._format.get("json_schema") or {}
        schema: Mapping[str, Any] | None = described.get("schema")
        return schema

    @property
    def stream(self) -> bool:
        """Whether the reply is to come in pieces."""
        return bool(self.body.get("stream"))

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all messages."""
        return sum(count_tokens(_text(message)) for message in self.messages)

    @property
    def _format(self) -> Mapping[str, Any]:
        return self.body.get("response_format") or {}


@dataclass(frozen=True, slots=True)
class ChatReply:
    """An answer with more than its text.

    Attributes:
        content: the text; None for a refusal or with tool calls alone.
        finish_reason: ``stop``, ``length``, ``content_filter`` or ``tool_calls``.
        refusal: what the model says when it declines to answer in the form asked for.
        tool_calls: in OpenAI's form.
    """

    content: str | None
    finish_reason: str = "stop"
    refusal: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, answer: object) -> "ChatReply":
        """An answer as a `ChatFunction` may give it: a reply, a text, or anything JSON."""
        if isinstance(answer, ChatReply):
            return answer
        return cls(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))

    @property
    def tokens(self) -> int:
        """Tokens of what the model wrote."""
        calls = json.dumps(list(self.tool_calls)) if self.tool_calls else ""
        return sum(count_tokens(text) for text in (self.content or "", self.refusal or "", calls))

    def message(self) -> dict[str, Any]:
        """The assistant's message."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        if self.tool_calls:
            message["tool_calls"] = [dict(call) for call in self.tool_calls]
        return message


ChatFunction: TypeAlias = Callable[[ChatRequest], ChatReply | str | Mapping[str, Any] | Sequence[Any]]
"""Plays the model: a text is the answer, and any other JSON value is answered as JSON (structured output)."""


def count_tokens(text: str) -> int:
    """Words and marks of a text: near what a real tokenizer counts, and easy to work out by hand."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def completion(request: ChatRequest, reply: ChatReply) -> dict[str, Any]:
    """The body of a whole completion."""
    choice = {"index": 0, "message": reply.message(), "finish_reason": reply.finish_reason, "logprobs": None}
    return {**_head(request, "chat.completion"), "choices": [choice], "usage": _usage(request, reply)}


def completion_events(request: ChatRequest, reply: ChatReply) -> Iterator[bytes]:
    """The events of a streamed completion, a word each, to the closing ``[DONE]``."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in re.findall(r"\s*\S+|\s+$", reply.content or "")]
    if reply.refusal:
        deltas.append({"refusal": reply.refusal})
    if reply.tool_calls:
        deltas.append({"tool_calls": [{"index": index, **call} for index, call in enumerate(reply.tool_calls)]})
    head = _head(request, "chat.completion.chunk")
    for delta in deltas:
        yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}]})
    if (request.body.get("stream_options") or {}).get("include_usage"):
        yield _event({**head, "choices": [], "usage": _usage(request, reply)})
    yield b"data: [DONE]\n\n"


def _head(request: ChatRequest, kind: str) -> dict[str, Any]:
    return {"id": _ID, "object": kind, "created": _CREATED, "model": request.model}


def _usage(request: ChatRequest, reply: ChatReply) -> dict[str, int]:
    prompt, completed = request.prompt_tokens, reply.tokens
    return {"prompt_tokens": prompt, "completion_tokens": completed, "total_tokens": prompt + completed}


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _text(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content)
