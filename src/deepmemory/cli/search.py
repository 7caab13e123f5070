"""``deepmemory search``: one question, and what the store finds for it."""

import json
import textwrap
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deepmemory.cli.opening import open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, StorePath
from deepmemory.cli.output import print_json, printable, screen_width, wrapped
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepmemory.explanation import Explanation
    from deepmemory.store import Hit

__all__ = ["hit_lines", "search"]

_INDENT = "    "
_LINES_SHOWN = 4


def search(
    query: Annotated[list[str], typer.Argument(metavar="QUESTION", hidden=True)],
    *,
    k: Annotated[int, typer.Option("--k", "-k", metavar="N", min=1, help="At most this many hits.")] = 5,
    mode: Annotated[
        Literal["vectors", "words"], typer.Option(help="Rank by meaning, or by the words of the question.")
    ] = "vectors",
    filter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only documents whose metadata has this value; may be repeated: one key, any of its values; "
            "several keys, all of them.",
        ),
    ] = None,
    no_deep_memory: Annotated[bool, typer.Option("--no-deep-memory", help="Leave out what was learned.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also what was learned changed here: ranks, scores, training questions.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Print whole documents, not their first lines.")] = False,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Find the documents that answer a question.

    Write the question in words; quotes are needed only around what the shell takes as its own, such as a question mark.

      deepmemory search how do I reset a password
      deepmemory search "reset password" --mode words --k 3 --filter path=faq.md
      deepmemory search how do I reset a password --explain
    """
    question = " ".join(query)
    metadata = parse_filter(filter or [])
    if explain:
        _refuse_with_explain(mode, no_deep_memory=no_deep_memory)
        with open_store(store, read_only=True) as opened:
            _print_explanation(opened.explain(question, k, filter=metadata), full=full, as_json=as_json)
        return
    with open_store(store, read_only=True) as opened:
        layer = None if mode == "words" or no_deep_memory else opened.deep_memory.get_model()
        hits = opened.search(question, k, mode=mode, filter=metadata, deep_memory=False if no_deep_memory else None)
    if as_json:
        print_json({"query": question, "mode": mode, "layer": layer, "hits": [_as_dict(hit) for hit in hits]})
        return
    if not hits:
        typer.echo("Nothing found." if metadata is None else "Nothing found that passes the filter.")
    for rank, hit in enumerate(hits, start=1):
        typer.echo("\n".join(hit_lines(rank, hit, lines_shown=None if full else _LINES_SHOWN)))


def _refuse_with_explain(mode: str, *, no_deep_memory: bool) -> None:
    if mode == "words" or no_deep_memory:
        other = "--no-deep-memory" if no_deep_memory else "--mode words"
        raise InputError(f"--explain tells what Deep Memory changes, and {other} leaves it out: give one of them")


def _print_explanation(explanation: "Explanation", *, full: bool, as_json: bool) -> None:
    from deepmemory.explanation.text import render

    if as_json:
        print_json({**explanation.as_dict(), "mode": "vectors"})
    else:
        typer.echo(wrapped(printable(render(explanation, whole=full))))


def hit_lines(rank: int, hit: "Hit", *, lines_shown: int | None = _LINES_SHOWN) -> list[str]:
    """One hit as people read it: its score, where it comes from, its id, and how its text begins."""
    width = screen_width()
    source = _source(hit)
    text = [
        line
        for paragraph in printable(hit.text).splitlines()
        for line in textwrap.wrap(paragraph, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    ]
    if lines_shown is not None and len(text) > lines_shown:
        text = [*text[:lines_shown], f"{_INDENT}..."]
    head = f"{rank:>2}. {hit.score:.3f}  {source or hit.id}"
    return [head, *([f"{_INDENT}id {hit.id}"] if source else []), *text, ""]


def _source(hit: "Hit") -> str:
    """The address or path that was ingested, up to the place within it; empty for documents that come otherwise."""
    place = str(hit.metadata.get("url") or hit.metadata.get("path") or "")
    anchor = hit.metadata.get("anchor")
    return printable(f"{place}#{anchor}" if place and anchor else place)


def parse_filter(pairs: "Sequence[str]") -> dict[str, Any] | None:
    """``["kind=guide", "year=2024", "year=2025"]`` as ``{"kind": "guide", "year": [2024, 2025]}``.

    A value that is a JSON number, ``true``, ``false`` or a text in double quotes is taken as that, all else as text.

    Raises:
        InputError: one has no ``=`` or no key.
    """
    problems = [f"--filter expects KEY=VALUE, found {pair!r}" for pair in pairs if not pair.partition("=")[0].strip()]
    problems += [f"--filter expects KEY=VALUE, found {pair!r}" for pair in pairs if "=" not in pair and pair.strip()]
    if problems:
        raise InputError(problems)
    values: dict[str, list[Any]] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        values.setdefault(key.strip(), []).append(_typed(value))
    return {key: several[0] if len(several) == 1 else several for key, several in values.items()} or None


def _typed(value: str) -> str | int | float | bool:
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, str | int | float | bool) else value


def _as_dict(hit: "Hit") -> dict[str, Any]:
    return {"id": hit.id, "score": hit.score, "text": hit.text, "metadata": dict(hit.metadata)}
