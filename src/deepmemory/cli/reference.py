"""``docs/cli.md``, made of the help that the commands themselves print: ``python -m deepmemory.cli.reference``."""

import typer

from deepmemory.cli.app import app

__all__ = ["reference"]

_COLUMNS = 80
_INTRODUCTION = """\
# The command line

This page is made of the commands' own help; `python -m deepmemory.cli.reference > docs/cli.md` makes it anew, and a
test sees to it that it is up to date.

- `--json` prints JSON, and nothing else, on stdout. Progress, warnings and errors go to stderr, and progress is shown
  only where that is a terminal.
- The exit code is 0 when a command did what was asked; 1 when it couldn't, and one sentence on stderr says why; 2 when
  the command line itself is wrong; 130 when it was interrupted by Ctrl-C. Whatever ends a command, the store is whole.
- `DEEPMEMORY_STORE` names the store where `--store` doesn't. `DEEPMEMORY_DEBUG=1`, or `deepmemory --debug COMMAND`,
  shows tracebacks. `OPENAI_API_KEY` and `OPENAI_BASE_URL` are those of the embedder `openai:MODEL`.
- `DEEPMEMORY_DEVICE=cuda` trains on a GPU through PyTorch (`pip install 'deepmemory[gpu]'`).
- A store on a hub is `--store hub://org/name`: `DEEPMEMORY_TOKEN` has the token, and `DEEPMEMORY_HUB_URL` the hub's
  address where it isn't `http://127.0.0.1:8900`.
- `python -m deepmemory` is the same command.
"""


def reference() -> str:
    """The page, in Markdown."""
    group = typer.main.get_command(app)
    context = group.make_context("deepmemory", [], resilient_parsing=True, terminal_width=_COLUMNS)
    parts = [_INTRODUCTION, _section("deepmemory", group.get_help(context))]
    for name, command in group.commands.items():  # type: ignore[attr-defined]  # it is a group
        inner = command.make_context(name, [], parent=context, resilient_parsing=True, terminal_width=_COLUMNS)
        parts.append(_section(f"deepmemory {name}", command.get_help(inner)))
    return "\n".join(parts)


def _section(name: str, text: str) -> str:
    return f"## {name}\n\n```text\n{text.strip()}\n```\n"


if __name__ == "__main__":
    print(reference(), end="")
