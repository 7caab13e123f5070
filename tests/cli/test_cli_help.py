"""Help leads through the commands, is true, and is what the documentation says."""

import shlex
from pathlib import Path

import pytest
import typer

from deepmemory.cli.app import app
from deepmemory.cli.reference import reference

GROUP = typer.main.get_command(app)
COMMANDS = tuple(GROUP.commands)
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_documentation_is_what_the_commands_say():
    assert DOCUMENTATION.read_text(encoding="utf-8") == reference(), "python -m deepmemory.cli.reference > docs/cli.md"


def test_every_command_is_there_and_documented():
    wanted = {"demo", "ingest", "train", "status", "jobs", "evaluate", "search", "benchmark"}
    assert wanted <= set(COMMANDS)
    assert all(f"## deepmemory {name}\n" in reference() for name in COMMANDS)


def examples() -> list[str]:
    """Each command line that some help shows."""
    shown = [line.strip() for line in reference().splitlines() if line.startswith("    deepmemory ")]
    return [line.partition("   ")[0] for line in shown]


def test_the_first_help_walks_from_documents_to_a_measured_lift():
    first = reference().partition("## deepmemory demo")[0]
    places = [first.index(f"    deepmemory {command}") for command in ("demo", "ingest", "search", "train", "evaluate")]
    assert places == sorted(places)


@pytest.mark.parametrize("example", sorted(set(examples())))
def test_every_example_is_a_command_line_that_is_understood(example):
    words = shlex.split(example.partition(" > ")[0])[1:]
    command = GROUP.commands[words[0]]
    context = command.make_context(words[0], words[1:])
    assert context.params


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_given_by_every_command_on_every_terminal(deepmemory, monkeypatch, command):
    for columns in ("30", "80"):
        monkeypatch.setenv("COLUMNS", columns)
        outcome = deepmemory(command, "-h")
        assert (outcome.code, outcome.err) == (0, "")
        assert f"deepmemory {command}" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_json(deepmemory, command):
    assert "--json" in deepmemory(command, "--help").out


def test_the_list_of_commands_is_not_cut_off_at_80_columns(deepmemory, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listed = deepmemory("--help").out.partition("\nCommands:\n")[2].splitlines()
    assert len(listed) == len(COMMANDS)
    assert not [line for line in listed if line.endswith("...")]


def test_the_version(deepmemory):
    from deepmemory import __version__

    assert deepmemory("--version").out == f"deepmemory {__version__}\n"
