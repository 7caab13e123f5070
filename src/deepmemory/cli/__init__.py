"""The command ``deepmemory``: parse, call, render; the rooms below do the work.

Nothing heavy is imported before a command runs, so that help and mistakes are answered at once.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and end it with the exit code."""
    try:
        from deepmemory.cli.ending import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # so early or so late that no command could answer it
        code = 130
    sys.exit(code)
