"""``deepmemory layers``: what was learned, version by version, and which of it searches use."""

from typing import TYPE_CHECKING, Annotated

import typer

from deepmemory.cli.opening import open_store
from deepmemory.cli.options import DEFAULT_STORE, Json, StorePath
from deepmemory.cli.output import print_json, print_table
from deepmemory.cli.records import layer_record
from deepmemory.errors import InputError

if TYPE_CHECKING:
    from deepmemory.artifacts import LayerInfo

__all__ = ["layers"]


def layers(
    use: Annotated[str | None, typer.Option(metavar="NAME", help="Make this layer the active one.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Let searches go without a layer.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Back to what was active before.")] = False,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """List what was learned, and choose what searches use.

    A layer is what one training learned. The newest that held-out questions gained from is active.

      deepmemory layers
      deepmemory layers --use v1
      deepmemory layers --off
    """
    if (use is not None) + off + rollback > 1:
        raise InputError("--use, --off and --rollback each choose the active layer: give one of them")
    changes = use is not None or off or rollback
    with open_store(store, read_only=not changes) as opened:
        memory = opened.deep_memory
        if rollback:
            memory.rollback()
        elif changes:
            memory.set_model(use)
        active = memory.get_model()
        infos = [memory.model_info(name) for name in memory.models()]
    if as_json:
        print_json([layer_record(info, active=info.name == active) for info in infos])
    elif infos:
        _print(infos, active)
    else:
        typer.echo(f"Nothing was learned yet in {store}. To begin: deepmemory train --queries FILE")


def _print(infos: "list[LayerInfo]", active: str | None) -> None:
    rows = [
        [info.name, "on" if info.name == active else "", info.created[:16].replace("T", " "), *_figures(info)]
        for info in infos
    ]
    print_table(["LAYER", "ACTIVE", "TRAINED (UTC)", "QUESTIONS", "NDCG@10", "LIFT"], rows, right=["QUESTIONS", "LIFT"])
    if active is None:
        typer.echo("No layer is active: searches go without one.")


def _figures(info: "LayerInfo") -> list[str]:
    from deepmemory.evaluation.text import percent, points

    report = info.report
    if not report.get("active"):
        return [f"{report.get('n_queries', '')}", "kept off", ""]
    baseline, trained = report["baseline"]["ndcg@10"], report["trained"]["ndcg@10"]
    return [f"{report['n_queries']}", f"{percent(baseline)} to {percent(trained)}", points(trained - baseline)]
