"""``deepmemory ask``: a question answered from the store's documents, with citations."""

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.opening import open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, StorePath
from deepmemory.cli.output import print_json, print_warning, printable
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepmemory.rag import Answer

__all__ = ["ask"]

_NO_LLM = (
    "no language model is configured: name one with --llm openai:MODEL, and set OPENAI_API_KEY, or OPENAI_BASE_URL for "
    "another endpoint that speaks OpenAI's protocol, such as http://localhost:11434/v1"
)


def ask(
    question: Annotated[list[str], typer.Argument(metavar="QUESTION", hidden=True)],
    *,
    llm: Annotated[
        str | None,
        typer.Option(
            "--llm",
            envvar="DEEPMEMORY_LLM",
            show_envvar=True,
            metavar="openai:MODEL",
            help="Who answers; its address is in OPENAI_BASE_URL, its key in OPENAI_API_KEY.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", metavar="N", min=1, help="Documents to answer from, at most.")] = 5,
    context: Annotated[
        int, typer.Option("--context", metavar="TOKENS", min=1, help="Their texts have at most this many tokens.")
    ] = 3_000,
    no_deep_memory: Annotated[bool, typer.Option("--no-deep-memory", help="Leave out what was learned.")] = False,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Answer a question from the documents, with a language model.

    The documents that 'search' finds for the question go to the model, which answers from them alone and cites them.
    Below the answer its sources are listed.

      deepmemory ask "how do I reset a password?" --llm openai:gpt-4o-mini
    """
    asked = " ".join(question)
    if llm is None or not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise InputError(_NO_LLM)
    from deepmemory.llm import resolve_llm
    from deepmemory.rag import stream_answer

    model = resolve_llm(llm)
    with open_store(store, read_only=True) as opened, interruptible("Nothing was changed."):
        search = partial(opened.search, deep_memory=False if no_deep_memory else None)
        parts = stream_answer(asked, search, llm=model, k=k, max_context_tokens=context, streaming=not as_json)
        answer = _last(parts, show=not as_json)
    if as_json:
        print_json(answer.as_dict())
    else:
        _print_sources(answer)


def _last(parts: "Iterator[str | Answer]", *, show: bool) -> "Answer":
    """The answer that ends a stream, whose pieces are shown as they come."""
    try:
        for part in parts:
            if not isinstance(part, str):
                return part
            if show:
                typer.echo(printable(part), nl=False)
    finally:
        if show:
            typer.echo()
    raise AssertionError("a stream ends with its answer")


def _print_sources(answer: "Answer") -> None:
    """The sources that the answer cites, and what a reader must know of it."""
    if answer.cited:
        typer.echo()
    for number, source in answer.citations.items():
        named = " - ".join(filter(None, (" ".join(source.title.split()), source.url or source.id)))
        typer.echo(printable(f"[{number}] {named}"))
    if answer.found and not answer.cited:
        print_warning("the answer cites no source, so nothing shows where it comes from")
    if answer.invented:
        numbers = ", ".join(map(str, answer.invented))
        print_warning(f"the model cited sources that do not exist ({numbers}); they were left out")
    if answer.cut_off:
        print_warning("the answer reached the model's limit and ends there")
