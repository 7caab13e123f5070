"""Language models that can write queries: an OpenAI-compatible endpoint, or a LangChain chat model."""

import importlib.util
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from deepmemory.data.text import shown
from deepmemory.endpoint import Access, Endpoint, Route, UnreadableReplyError, json_reply
from deepmemory.errors import InputError, LLMError, MissingExtraError

if TYPE_CHECKING:
    import openai

__all__ = ["Answer", "ChatModel", "DeniedError", "DocumentRefusedError", "LangChainChat", "OpenAIChat", "resolve_llm"]

Messages: TypeAlias = Sequence[Mapping[str, str]]

_ACCEPTED = "'openai:MODEL', or a LangChain chat model (an object with invoke)"


class DocumentRefusedError(LLMError):
    """The endpoint found this request wrong; it may take another."""


class DocumentTooLargeError(DocumentRefusedError):
    """The endpoint takes no request of this size."""


class DeniedError(LLMError):
    """No request will do: the key or the model is refused, or the quota is used up."""


_ROUTE = Route(
    "/chat/completions",
    "chat endpoint",
    LLMError,
    too_large=DocumentTooLargeError,
    refused=DocumentRefusedError,
    denied=DeniedError,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and what it took.

    Attributes:
        text: as it came; a refusal's words where it refused.
        finish: ``stop``, ``length``, ``refusal``, or whatever else the endpoint calls it.
        tokens_in: of the prompt; None where the endpoint doesn't say.
        tokens_out: of the answer; None likewise.
    """

    text: str
    finish: str
    tokens_in: int | None
    tokens_out: int | None


class ChatModel(ABC):
    """A model that answers messages with JSON of a schema, from several threads at once."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What names it in reports and in the journal of paid replies."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What beside the name changes its answers, as JSON values."""

    @abstractmethod
    def answer(self, messages: Messages, schema: Mapping[str, Any], max_tokens: int, stop: threading.Event) -> Answer:
        """Ask once, retried while that may help.

        Raises:
            DeniedError: no request will do.
            LLMError: it can't be reached, refused this request, or goes on failing.
        """

    def close(self) -> None:  # noqa: B027  not every model holds something
        """Let go of connections; whoever made the model calls it."""


class OpenAIChat(ChatModel):
    """A model behind ``POST /chat/completions``, asked with patience as `OpenAIEmbedder` asks for embeddings."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
    ) -> None:
        """Describe the endpoint; nothing is sent yet.

        Args:
            model: its name at the endpoint.
            base_url: such as ``http://localhost:8000/v1``; ``OPENAI_BASE_URL`` by default, else OpenAI's own.
            api_key: ``OPENAI_API_KEY`` by default; only OpenAI itself insists on one.
            temperature: the model's own by default, since some take no other.
            timeout: seconds to wait for one reply.
            max_retries: how often a request is tried again.

        Raises:
            InputError: the address or a number makes no sense.
            MissingExtraError: the ``openai`` package is not installed.
        """
        access = Access.of(base_url, api_key)
        problems = [*access.problems("the chat endpoint")]
        if timeout <= 0:
            problems.append(f"timeout must be positive, found {timeout!r}")
        if max_retries < 0:
            problems.append(f"max_retries must be 0 or more, found {max_retries!r}")
        if problems:
            raise InputError(problems)
        if importlib.util.find_spec("openai") is None:
            raise MissingExtraError(f"the language model 'openai:{model}'", "openai")
        self._model = model
        self._temperature = temperature
        self._structured = True
        self._endpoint = Endpoint(model, access, _ROUTE, timeout=timeout, max_retries=max_retries)

    @property
    def name(self) -> str:
        """``openai:`` and the model."""
        return f"openai:{self._model}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The address and the temperature."""
        return {"address": self._endpoint.address, "temperature": self._temperature}

    def answer(self, messages: Messages, schema: Mapping[str, Any], max_tokens: int, stop: threading.Event) -> Answer:
        """Ask for JSON by ``response_format``; an endpoint that refuses it is asked without, from then on."""
        if self._structured:
            try:
                return self._ask(messages, schema, max_tokens, stop)
            except DocumentTooLargeError:
                raise
            except DocumentRefusedError:
                # It may dislike response_format, or this document; the second try tells.
                answer = self._ask(messages, None, max_tokens, stop)
                self._structured = False
                return answer
        return self._ask(messages, None, max_tokens, stop)

    def close(self) -> None:
        """Close idle connections; the next request opens others."""
        self._endpoint.close()

    def _ask(
        self, messages: Messages, schema: Mapping[str, Any] | None, max_tokens: int, stop: threading.Event
    ) -> Answer:
        def send(client: "openai.OpenAI") -> tuple[Answer, Mapping[str, str]]:
            # max_completion_tokens: newer models take no max_tokens, and older servers pass over what they don't know.
            body: dict[str, Any] = {
                "model": self._model,
                "messages": list(messages),
                "max_completion_tokens": max_tokens,
            }
            if self._temperature is not None:
                body["temperature"] = self._temperature
            if schema is not None:
                wrapped = {"name": "queries", "strict": True, "schema": schema}
                body["response_format"] = {"type": "json_schema", "json_schema": wrapped}
            reply = client.chat.completions.with_raw_response.create(**body)
            return self._read(reply.content), reply.headers

        return self._endpoint.ask(send, stop)

    def _read(self, content: bytes) -> Answer:
        """The first choice of a reply, of which nothing is taken for granted."""
        reply = json_reply(content, self._endpoint.address)
        choices = reply.get("choices") if isinstance(reply, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise UnreadableReplyError(f"{self._endpoint.address} answered with JSON that has no message in it")
        usage = reply.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        refusal, text = message.get("refusal"), message.get("content")
        return Answer(
            text=refusal if isinstance(refusal, str) and refusal else _text_of(text),
            finish="refusal" if refusal else str(choice.get("finish_reason") or "stop"),
            tokens_in=_count(counts.get("prompt_tokens")),
            tokens_out=_count(counts.get("completion_tokens")),
        )


class LangChainChat(ChatModel):
    """A LangChain chat model, known by its methods; LangChain itself is not imported."""

    def __init__(self, model: Any) -> None:
        """Wrap a model.

        Args:
            model: has ``invoke(messages)``; ``with_structured_output(schema, include_raw=True)`` is used where it
                has that, too.
        """
        self._model = model
        self._structured: Any = None
        self._tried = False

    @property
    def name(self) -> str:
        """``langchain:``, the class and the model that it calls."""
        called = next(
            (name for name in (getattr(self._model, field, None) for field in ("model_name", "model")) if name), None
        )
        suffix = f":{called}" if isinstance(called, str) else ""
        return f"langchain:{type(self._model).__name__}{suffix}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The temperature, where it has one."""
        temperature = getattr(self._model, "temperature", None)
        return {"temperature": temperature if isinstance(temperature, int | float) else None}

    def answer(
        self,
        messages: Messages,
        schema: Mapping[str, Any],
        max_tokens: int,  # noqa: ARG002  how long its answers may be is the model object's own matter
        stop: threading.Event,
    ) -> Answer:
        """Ask with structured output; a model that has none is asked for JSON in its text."""
        if stop.is_set():
            raise LLMError("asking the model was stopped because another of its requests failed")
        pairs = [(message["role"], message["content"]) for message in messages]
        structured = self._with_schema(schema)
        try:
            reply = (structured or self._model).invoke(pairs)
        except Exception as error:  # whatever a vendor's client raises is that document's failure, told in a sentence
            raise LLMError(f"{self.name} failed: {type(error).__name__}: {_first_line(error)}") from error
        parsed, raw = (reply.get("parsed"), reply.get("raw")) if isinstance(reply, dict) else (None, reply)
        usage = getattr(raw, "usage_metadata", None) or {}
        return Answer(
            text=json.dumps(parsed) if parsed is not None else _text_of(getattr(raw, "content", raw)),
            finish=str((getattr(raw, "response_metadata", None) or {}).get("finish_reason") or "stop"),
            tokens_in=_count(usage.get("input_tokens")),
            tokens_out=_count(usage.get("output_tokens")),
        )

    def _with_schema(self, schema: Mapping[str, Any]) -> Any:
        if not self._tried:
            wrap = getattr(self._model, "with_structured_output", None)
            if callable(wrap):
                try:
                    self._structured = wrap(
                        {"title": "queries", "description": "Search queries", **schema}, include_raw=True
                    )
                except (NotImplementedError, TypeError, ValueError):
                    self._structured = None  # models without it inherit a method that only raises
            self._tried = True
        return self._structured


def resolve_llm(spec: object) -> ChatModel:
    """The model that someone means.

    Args:
        spec: ``"openai:MODEL"``, with the address in ``OPENAI_BASE_URL`` and the key in ``OPENAI_API_KEY``; a
            LangChain chat model; or a `ChatModel`, which is returned as it is.

    Raises:
        InputError: it is none of these.
        MissingExtraError: the package that it needs is not installed.
    """
    if isinstance(spec, ChatModel):
        return spec
    if isinstance(spec, str):
        kind, _, model = spec.partition(":")
        if kind == "openai" and model.strip():
            return OpenAIChat(model.strip())
    elif callable(getattr(spec, "invoke", None)) and not isinstance(spec, type):
        return LangChainChat(spec)
    raise InputError(f"unknown language model {shown(spec)}: expected {_ACCEPTED}")


def _text_of(content: object) -> str:
    """The text of a message, whose content may be a list of parts."""
    if isinstance(content, list):
        return "".join(part.get("text", "") if isinstance(part, dict) else str(part) for part in content)
    return content if isinstance(content, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
