"""Chat with a model behind OpenAI's API, or behind anything that speaks its protocol: vLLM, Ollama, LiteLLM, Azure."""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn

from deepmemory.endpoint import Access, Endpoint, Route, complaint
from deepmemory.errors import InputError, LLMError, MissingExtraError
from deepmemory.llm.base import ChatModel, Completion, Message, UnusableAnswerError
from deepmemory.llm.openai_reply import Gathered, completion_from_reply
from deepmemory.llm.schema import in_words, structured

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletionChunk

__all__ = ["OpenAIChat"]


class _TooLongError(LLMError):
    """The conversation is longer than the endpoint takes."""


_CAN_BE_LEFT_OUT = {
    "response_format": ("response_format", "schema"),
    "stream_options": ("stream_options",),
    "temperature": ("temperature",),
}
"""Options, and what a refusal of one speaks of."""

_ROUTE = Route("/chat/completions", "chat endpoint", LLMError, _TooLongError)


class OpenAIChat(ChatModel):
    """A model behind ``POST /chat/completions``.

    What may pass is tried again (no connection, a timeout, HTTP 408, 409, 429 and 5xx, a body that is no JSON), with
    exponential backoff and jitter or as long as the server asks for; an answer that has begun to stream is not.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
    ) -> None:
        """Describe the endpoint; nothing is sent yet.

        Args:
            model: its name at the endpoint.
            base_url: such as ``http://localhost:8000/v1``; ``OPENAI_BASE_URL`` by default, else OpenAI's own.
            api_key: ``OPENAI_API_KEY`` by default; only OpenAI itself insists on one.
            timeout: seconds to wait for a reply, or for the next piece of one.
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
        self._timeout = timeout
        self._endpoint = Endpoint(model, access, _ROUTE, timeout=timeout, max_retries=max_retries)
        self._refused: set[str] = set()  # options that this endpoint or model does not take
        self._secret = access.api_key

    @property
    def name(self) -> str:
        """``openai:`` and the model."""
        return f"openai:{self._model}"

    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Event | None = None,
    ) -> Completion:
        """Let the model answer; see `ChatModel.complete`.

        What the endpoint refuses of ``temperature`` and JSON schemas (HTTP 400 or 422) is not sent again; a schema is
        told in words from then on.
        """
        options = _options(self._model, max_tokens, temperature)
        if schema is not None:
            options["response_format"] = _strict(schema)

        def send(client: "openai.OpenAI") -> tuple[Completion, Mapping[str, str]]:
            # The raw reply: the client's own parsing believes whatever it finds.
            reply = self._create(client.chat.completions.with_raw_response.create, messages, options, schema)
            return completion_from_reply(reply.content, messages, self.name, self._endpoint.address), reply.headers

        completion = self._endpoint.ask(send, stop or Event())
        if schema is None:
            return completion
        self._refuse_cut_off(completion)
        return replace(completion, data=structured(completion.text, schema, self.name, completion.usage))

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None = None, temperature: float | None = None
    ) -> Iterator[str | Completion]:
        """Let the model answer piece by piece; see `ChatModel.stream`."""
        usage_too = {"stream": True, "stream_options": {"include_usage": True}}
        options = {**_options(self._model, max_tokens, temperature), **usage_too}

        def send(client: "openai.OpenAI") -> "tuple[openai.Stream[ChatCompletionChunk], Mapping[str, str]]":
            stream = self._create(client.chat.completions.create, messages, options)
            return stream, stream.response.headers

        opened = self._endpoint.ask(send, Event())
        gathered = Gathered(self.name)
        with closing(opened):
            for chunk in self._chunks(opened):
                if piece := gathered.add(chunk):
                    yield piece
        yield gathered.completion(messages)

    def _create(
        self,
        create: Callable[..., Any],
        messages: Sequence[Message],
        options: Mapping[str, Any],
        schema: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a request, without the options that were refused before, or are now."""
        import openai

        while True:
            taken = {name: value for name, value in options.items() if name not in self._refused}
            told = messages
            if schema is not None and "response_format" not in taken:
                told = [*messages, Message("system", in_words(schema))]
            try:
                return create(messages=_as_json(told), **taken)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                blamed = _blamed(str(error), taken)
                if blamed is None:
                    raise
                self._refused.add(blamed)

    def _chunks(self, stream: "openai.Stream[ChatCompletionChunk]") -> "Iterator[ChatCompletionChunk]":
        """The chunks; what goes wrong on the way is one sentence."""
        import openai

        transport = _transport_error(stream)
        try:
            yield from stream
        except (openai.APIConnectionError, transport) as error:
            self._broke_off(error)
        except openai.APIError as error:
            said = complaint(error.body if error.body is not None else error.message, self._secret)
            raise LLMError(f"{self._endpoint.address} failed in the middle of its answer ({said})") from None
        except ValueError:
            raise LLMError(f"{self._endpoint.address} answered with something that is no stream of JSON") from None

    def _broke_off(self, error: Exception) -> NoReturn:
        if "timeout" in type(error).__name__.lower():
            why = f"nothing came for {self._timeout:g} seconds"
        else:
            why = complaint(str(error.__cause__ or error), self._secret)
        raise UnusableAnswerError(f"the answer of {self._endpoint.address} broke off ({why})") from None

    def _refuse_cut_off(self, completion: Completion) -> None:
        if completion.finish_reason == "length":
            raise UnusableAnswerError(
                f"the answer of {self.name} was cut off after {completion.usage.completion_tokens} tokens; "
                "let it have more",
                completion.usage,
            )


def _blamed(said: str, options: Mapping[str, Any]) -> str | None:
    """The option that a refusal is about, of those that a request can do without."""
    for name, words in _CAN_BE_LEFT_OUT.items():
        if name in options and any(word in said for word in words):
            return name
    return None


def _options(model: str, max_tokens: int | None, temperature: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {"model": model}
    if max_tokens is not None:
        options["max_completion_tokens"] = max_tokens  # newer models take no max_tokens; older servers ignore this
    if temperature is not None:
        options["temperature"] = temperature
    return options


def _as_json(messages: Sequence[Message]) -> Any:
    return [{"role": message.role, "content": message.content} for message in messages]


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as ``response_format`` has it; strict ones must close every object."""
    name = "".join(c if c.isalnum() else "_" for c in str(schema.get("title", "answer")))[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": _closed(schema), "strict": True}}


def _closed(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        closed = {key: _closed(value) for key, value in schema.items()}
        return {**closed, "additionalProperties": False} if closed.get("type") == "object" else closed
    return [_closed(item) for item in schema] if isinstance(schema, list) else schema


def _transport_error(stream: "openai.Stream[Any]") -> type[Exception]:
    """The root of what the client's HTTP library raises: httpx below openai 3, and a copy of it since.

    The client translates it for whole replies, and lets it through in the middle of a stream.
    """
    library = sys.modules[type(stream.response).__module__.partition(".")[0]]
    root: type[Exception] = library.HTTPError
    return root
