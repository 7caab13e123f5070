"""``deepmemory queries``: questions to train on, made out of the documents."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from deepmemory.cli.ending import interruptible
from deepmemory.cli.opening import open_store
from deepmemory.cli.options import DEFAULT_STORE, Engine, Json, Seed, StorePath
from deepmemory.cli.output import print_json, print_table, print_warning, progress_bars, shell_word, wrapped
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from deepmemory.llm import ChatModel
    from deepmemory.store import VectorStore
    from deepmemory.synthesis import FilterOptions, OutputFormat, Prices, Spent, Synthesis

__all__ = ["queries"]

_EXTRACTIVE = "extractive"


def queries(
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write them; a folder for beir and trec.")
    ],
    *,
    n: Annotated[
        int | None, typer.Option("--n", metavar="N", min=1, help="At most so many. [of all documents]")
    ] = None,
    per_document: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Made of each document. [3, or as many as N needs]")
    ] = None,
    kinds: Annotated[
        str, typer.Option(metavar="KINDS", help="How they ask, with commas between.")
    ] = "question,keywords,symptom,claim",
    llm: Annotated[
        str,
        typer.Option(metavar="MODEL", help="openai:MODEL (OPENAI_BASE_URL, OPENAI_API_KEY), or extractive."),
    ] = _EXTRACTIVE,
    examples: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Queries of real users, one a line, to show to the model.")
    ] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, help="Requests at once.")] = 4,
    timeout: Annotated[float, typer.Option(metavar="N", min=0.1, help="Seconds to wait for one answer.")] = 60.0,
    price_in: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Of a million tokens of prompts, to count money.")
    ] = None,
    price_out: Annotated[float | None, typer.Option(metavar="X", min=0, help="Of a million tokens of answers.")] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Spend no more than this; needs both prices.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would take, and stop.")] = False,
    round_trip: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=0,
            help="Keep what finds its document among the first K; 0 keeps all. [10; extractive: 0]",
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="NAME", help="jsonl, beir, trec or llamaindex.")] = "jsonl",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE where it exists.")] = False,
    seed: Seed = 0,
    engine: Engine = None,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Make questions to train on out of the documents.

    Real questions with their answers teach most. Where there are too few, a language model writes more (--llm), which
    costs money and sends it the documents. Without --llm nothing is sent: the questions are extracts, the documents'
    own headings, names and sentences. Those are second best, since nobody asks in the words of the answer.

      deepmemory queries --out made.jsonl
      deepmemory queries --out made.jsonl --llm openai:gpt-4o-mini --n 500

    What a model answered is kept in FILE.replies.jsonl as it comes: the same command once more, after Ctrl-C or a
    crash, asks for the rest only. To see first what it would take (give --price-in and --price-out to see money, too):

      deepmemory queries --out made.jsonl --llm openai:gpt-4o-mini --dry-run
    """
    from deepmemory.synthesis import check_output, estimate, read_examples

    output_format = cast("OutputFormat", form)  # check_output refuses what is none
    check_output(out, output_format)
    if out.is_file() and not overwrite and not dry_run:
        raise InputError(f"{out} exists already: give another name, or --overwrite to replace it.")
    asked: dict[str, Any] = {
        "n": n,
        "per_document": per_document,
        "kinds": [kind.strip() for kind in kinds.split(",") if kind.strip()],
        "examples": read_examples(examples) if examples else [],
        "seed": seed,
        "prices": _prices(price_in, price_out, budget),
    }
    model = _model(llm, timeout)
    with open_store(store, read_only=True, engine=engine) as opened:
        if dry_run:
            _print_estimate(llm, estimate(opened, model, **asked), as_json)
            return
        asked |= {"concurrency": concurrency, "budget": budget, "filters": _filters(llm, round_trip)}
        made = _made(opened, model, out, asked)
        _write(opened, made, out, output_format)
    if as_json:
        print_json(_record(made, out))
        return
    _print_summary(made, out, llm, store)


def _prices(price_in: float | None, price_out: float | None, budget: float | None) -> "Prices | None":
    from deepmemory.synthesis import Prices

    if price_in is None and price_out is None:
        if budget is not None:
            raise InputError("--budget needs prices to count by: give --price-in and --price-out")
        return None
    if price_in is None or price_out is None:
        raise InputError("give both prices: --price-in for prompts and --price-out for answers")
    return Prices(price_in, price_out)


def _model(llm: str, timeout: float) -> "ChatModel | None":
    from deepmemory.llm import resolve_llm

    return None if llm == _EXTRACTIVE else resolve_llm(llm, timeout=timeout)


def _filters(llm: str, round_trip: int | None) -> "FilterOptions | None":
    from deepmemory.synthesis import FilterOptions

    if round_trip is None:
        return None
    limit = FilterOptions().generic_limit if llm != _EXTRACTIVE or round_trip else None
    return FilterOptions(round_trip=round_trip or None, generic_limit=limit)


def _journal(out: Path) -> Path:
    return out.with_name(f"{out.name}.replies.jsonl")


def _made(opened: "VectorStore", model: "ChatModel | None", out: Path, asked: dict[str, Any]) -> "Synthesis":
    from deepmemory.synthesis import synthesize

    journal = None if model is None else _journal(out)
    left = "Nothing was written."
    if journal is not None:
        left = f"What was answered so far is in {journal}; the same command goes on from there."
    closing = contextlib.nullcontext() if model is None else contextlib.closing(model)
    with closing, interruptible(left), progress_bars("Documents") as (progress,):
        return synthesize(opened, model, journal=journal, progress=progress, **asked)


def _write(opened: "VectorStore", made: "Synthesis", out: Path, form: "OutputFormat") -> None:
    from deepmemory.synthesis import write_queries

    if not made.queries:
        reasons = "; ".join(made.problems) or "every query that was made was dropped"
        raise InputError(f"no queries are left to write to {out}: {reasons}; see --per-document and --round-trip")
    needs_documents = form in ("beir", "llamaindex")
    write_queries(out, made, form, documents=list(opened.documents()) if needs_documents else ())


def _print_estimate(llm: str, spent: "Spent", as_json: bool) -> None:
    if as_json:
        print_json(_spent_record(spent))
    elif llm == _EXTRACTIVE:
        typer.echo("Extractive queries ask no model and cost nothing.")
    else:
        typer.echo(f"At most, about: {_spent_text(spent)}. Nothing was asked.")


def _print_summary(made: "Synthesis", out: Path, llm: str, store: str) -> None:
    from deepmemory.synthesis import STAGES

    for problem in made.problems:
        print_warning(problem)
    names = {"made": "made", **{stage: f"dropped: {why}" for stage, why in STAGES.items()}, "kept": "kept"}
    rows = [(names[stage], f"{count:,}") for stage, count in made.counts.items() if count or stage in ("made", "kept")]
    print_table(("queries", "number"), rows, right=("number",))
    print_table(
        ("documents", "number"),
        [(name.replace("_", " "), f"{count:,}") for name, count in made.documents.items()],
        right=("number",),
    )
    if llm == _EXTRACTIVE:
        typer.echo(
            wrapped(
                "These are extracts of the documents, second best to what a language model writes (--llm), and to real "
                "questions."
            )
        )
    else:
        typer.echo(f"Paid for: {_spent_text(made.usage)}")
        if made.reused.replies:
            typer.echo(f"Paid for earlier: {_spent_text(made.reused)}")
    queries_are = "query is" if len(made.queries) == 1 else "queries are"
    typer.echo(f"{len(made.queries):,} {queries_are} in {out}.")
    where = "" if store == DEFAULT_STORE else f" --store {shell_word(store)}"
    typer.echo(f"To learn from them: deepmemory train --queries {shell_word(str(out))}{where}")


def _spent_text(spent: "Spent") -> str:
    tokens = spent.tokens
    about = ", partly estimated" if tokens.estimated else ""
    cost = "" if spent.cost is None else f", cost {spent.cost:,.4f}"
    plural = "y" if spent.replies == 1 else "ies"
    return (
        f"{spent.replies:,} repl{plural}, {tokens.prompt_tokens:,} tokens in and "
        f"{tokens.completion_tokens:,} out{cost}{about}"
    )


def _spent_record(spent: "Spent") -> dict[str, Any]:
    return {
        "replies": spent.replies,
        "tokens_in": spent.tokens.prompt_tokens,
        "tokens_out": spent.tokens.completion_tokens,
        "cost": spent.cost,
        "counted": not spent.tokens.estimated,
    }


def _record(made: "Synthesis", out: Path) -> dict[str, Any]:
    return {
        "out": str(out),
        "generator": made.generator,
        "queries": len(made.queries),
        "counts": dict(made.counts),
        "documents": dict(made.documents),
        "usage": _spent_record(made.usage),
        "reused": _spent_record(made.reused),
        "problems": list(made.problems),
    }
