"""What is said of the names that a user gave for the parts of a collection."""

from collections.abc import Sequence

__all__ = ["fixed", "listed", "missing"]

_SHOWN_NAMES = 20


def fixed(named: str, part: str, asked: str | None, has: str) -> list[str]:
    """The problem of a part that has one name in every collection of the engine."""
    if asked in (None, has):
        return []
    return [f"{part}={asked!r}: in {named}, as in all of its kind, that is {has!r}; leave it out"]


def missing(named: str, part: str, asked: Sequence[str], names: Sequence[str]) -> list[str]:
    """The problems of names that aren't there."""
    return [
        f"{part}={name!r}: {named} has no such name among what can be that; there is {listed(names)}"
        for name in asked
        if name not in names
    ]


def listed(names: Sequence[str]) -> str:
    """Names, the first twenty of them."""
    if not names:
        return "none"
    shown = ", ".join(names[:_SHOWN_NAMES])
    return shown if len(names) <= _SHOWN_NAMES else f"{shown} and {len(names) - _SHOWN_NAMES} more"
