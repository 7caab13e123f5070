"""A LangChain chat model as a `ChatModel`."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any, NoReturn

from deepmemory.errors import DeepMemoryError, LLMError
from deepmemory.llm.base import ChatModel, Completion, Message, UnusableAnswerError, Usage
from deepmemory.llm.openai_reply import finished, text_in
from deepmemory.llm.schema import in_words, structured

__all__ = ["LangChainChat"]

_FINISHES = {
    "content_filter": "content_filter",
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "refusal": "refusal",
}
"""Why answers end, as vendors call it, and as OpenAI does; all else is an answer that is whole."""

_NOT_TAKEN = re.compile(r"unexpected keyword argument '(\w+)'")


class LangChainChat(ChatModel):
    """An object with LangChain's ``invoke``; how often it tries again is its own matter.

    LangChain itself is not imported.
    """

    def __init__(self, model: Any, *, name: str | None = None) -> None:
        """Wrap it.

        Args:
            model: the chat model.
            name: what to call it; its class and model by default.
        """
        self._model = model
        self._name = name or _name_of(model)
        self._binds_schemas = callable(getattr(model, "with_structured_output", None))
        self._refused: set[str] = set()  # options that this model does not take

    @property
    def name(self) -> str:
        """Its class and model, such as ``ChatOpenAI(gpt-4o-mini)``."""
        return self._name

    @property
    def settings(self) -> Mapping[str, Any]:
        """The temperature that it was made with, where it has one."""
        temperature = getattr(self._model, "temperature", None)
        return {"temperature": temperature if isinstance(temperature, int | float) else None}

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

        A schema goes through the model's own structured output, and is told in words to a model that has none. Options
        that it takes no argument for are left out.
        """
        if stop is not None and stop.is_set():
            raise LLMError(f"a request to {self._name} was stopped because another one failed")
        options = _options(max_tokens, temperature)
        if schema is not None:
            return self._structured(messages, schema, options)
        reply = self._invoke(self._model, messages, options)
        return self._completion(messages, _text_of(reply), reply)

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None = None, temperature: float | None = None
    ) -> Iterator[str | Completion]:
        """Let the model answer piece by piece, or in one where it has no ``stream``; see `ChatModel.stream`."""
        if not callable(getattr(self._model, "stream", None)):
            completion = self.complete(messages, max_tokens=max_tokens, temperature=temperature)
            yield completion.text
            yield completion
            return
        pieces: list[str] = []
        last: Any = None
        try:
            for chunk in self._taking(_streaming(self._model), messages, _options(max_tokens, temperature)):
                last = chunk if last is None else last + chunk
                if piece := _text_of(chunk):
                    pieces.append(piece)
                    yield piece
        except Exception as error:
            self._fail(error)
        if last is None:
            raise UnusableAnswerError(f"{self._name} answered with nothing")
        yield self._completion(messages, "".join(pieces), last)

    def _structured(
        self, messages: Sequence[Message], schema: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Completion:
        titled = {"title": "Answer", "description": "The answer.", **schema}
        bound = None
        if self._binds_schemas:
            try:
                bound = self._model.with_structured_output(titled, include_raw=True)
            except (NotImplementedError, TypeError, ValueError):
                self._binds_schemas = False  # models without it inherit a method that only raises
        told = messages if bound else in_words(messages, schema)
        reply = self._invoke(bound or self._model, told, options)
        raw = reply["raw"] if bound else reply
        parsed = reply["parsed"] if bound else None
        text = _text_of(raw) if parsed is None else json.dumps(parsed, ensure_ascii=False)
        return structured(self._completion(told, text, raw), schema, self._name)

    def _invoke(self, model: Any, messages: Sequence[Message], options: Mapping[str, Any]) -> Any:
        try:
            return self._taking(model.invoke, messages, options)
        except Exception as error:  # whatever a vendor's client raises
            self._fail(error)

    def _taking(self, call: Callable[..., Any], messages: Sequence[Message], options: Mapping[str, Any]) -> Any:
        """Call, without the options that were refused before, or are now."""
        while True:
            taken = {name: value for name, value in options.items() if name not in self._refused}
            try:
                return call(_pairs(messages), **taken)
            except TypeError as error:
                blamed = _NOT_TAKEN.search(str(error))
                if blamed is None or blamed[1] not in taken:
                    raise
                self._refused.add(blamed[1])

    def _completion(self, messages: Sequence[Message], text: str, reply: Any) -> Completion:
        counted = getattr(reply, "usage_metadata", None) or {}
        usage = Usage.told(counted.get("input_tokens"), counted.get("output_tokens"), messages, text)
        about = getattr(reply, "response_metadata", None) or {}
        reason = str(about.get("finish_reason") or about.get("stop_reason") or "stop")
        refusal = (getattr(reply, "additional_kwargs", None) or {}).get("refusal")
        return finished(self._name, text, usage, _FINISHES.get(reason, "stop"), refusal)

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, DeepMemoryError):
            raise error
        said = " ".join(str(error).split())[:200]
        raise LLMError(f"the language model {self._name} failed: {type(error).__name__}: {said}") from error


def _pairs(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def _options(max_tokens: int | None, temperature: float | None) -> dict[str, Any]:
    given = {"max_tokens": max_tokens, "temperature": temperature}
    return {name: value for name, value in given.items() if value is not None}


def _text_of(reply: Any) -> str:
    return text_in(getattr(reply, "content", reply)) or ""


def _streaming(model: Any) -> Callable[..., Iterator[Any]]:
    """The model's ``stream``, whose refusal of an option comes with the call instead of with the first piece."""

    def stream(*arguments: Any, **options: Any) -> Iterator[Any]:
        chunks = iter(model.stream(*arguments, **options))
        return itertools.chain(list(itertools.islice(chunks, 1)), chunks)

    return stream


def _name_of(model: object) -> str:
    names = (getattr(model, attribute, None) for attribute in ("model_name", "model"))
    found = next((name for name in names if isinstance(name, str) and name), None)
    return f"{type(model).__name__}({found})" if found else type(model).__name__
