"""A LangChain chat model as a `ChatModel`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Event
from typing import Any, NoReturn

from deepmemory.errors import DeepMemoryError, LLMError
from deepmemory.llm.base import ChatModel, Completion, Message, UnusableAnswerError, Usage
from deepmemory.llm.openai_reply import refuse_declined
from deepmemory.llm.schema import in_words, structured

__all__ = ["LangChainChat"]


class LangChainChat(ChatModel):
    """An object with LangChain's ``invoke`` and ``stream``; how often it tries again is its own matter."""

    def __init__(self, model: Any, *, name: str | None = None) -> None:
        """Wrap it.

        Args:
            model: the chat model.
            name: what to call it; its class and model by default.
        """
        self._model = model
        self._name = name or _name_of(model)
        self._binds_schemas = callable(getattr(model, "with_structured_output", None))

    @property
    def name(self) -> str:
        """Its class and model, such as ``ChatOpenAI(gpt-4o-mini)``."""
        return self._name

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

        A schema goes through the model's own structured output, and is told in words to a model that has none.
        """
        if stop is not None and stop.is_set():
            raise LLMError(f"a request to {self._name} was stopped because another one failed")
        options = _options(max_tokens, temperature)
        if schema is not None:
            return self._structured(messages, schema, options)
        try:
            reply = self._model.invoke(_pairs(messages), **options)
        except Exception as error:
            self._fail(error)
        return self._completion(messages, _text_of(reply), reply)

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int | None = None, temperature: float | None = None
    ) -> Iterator[str | Completion]:
        """Let the model answer piece by piece; see `ChatModel.stream`."""
        pieces: list[str] = []
        last: Any = None
        try:
            for chunk in self._model.stream(_pairs(messages), **_options(max_tokens, temperature)):
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
            except NotImplementedError:
                self._binds_schemas = False
        told = messages if bound else [*messages, Message("system", in_words(schema))]
        try:
            reply = (bound or self._model).invoke(_pairs(told), **options)
        except Exception as error:
            self._fail(error)
        raw = reply["raw"] if bound else reply
        parsed = reply["parsed"] if bound else None
        text = _text_of(raw) if parsed is None else json.dumps(parsed, ensure_ascii=False)
        completion = self._completion(messages, text, raw)
        if completion.finish_reason == "length":
            raise UnusableAnswerError(
                f"the answer of {self._name} was cut off; let it have more tokens", completion.usage
            )
        return replace(completion, data=structured(text, schema, self._name, completion.usage))

    def _completion(self, messages: Sequence[Message], text: str, reply: Any) -> Completion:
        counted = getattr(reply, "usage_metadata", None) or {}
        usage = (
            Usage(int(counted["input_tokens"]), int(counted["output_tokens"]))
            if "input_tokens" in counted and "output_tokens" in counted
            else Usage.estimate(messages, text)
        )
        about = getattr(reply, "response_metadata", None) or {}
        finish = str(about.get("finish_reason") or about.get("stop_reason") or "stop")
        refusal = (getattr(reply, "additional_kwargs", None) or {}).get("refusal")
        refuse_declined(self._name, refusal, finish, usage)
        return Completion(text, None, usage, "length" if finish in ("length", "max_tokens", "MAX_TOKENS") else "stop")

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
    """The text of a message; of a list of parts, the parts that are text."""
    content = getattr(reply, "content", reply)
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts)


def _name_of(model: object) -> str:
    names = (getattr(model, attribute, None) for attribute in ("model_name", "model"))
    found = next((name for name in names if isinstance(name, str) and name), None)
    return f"{type(model).__name__}({found})" if found else type(model).__name__
