"""Which pages of the documentation the demo reads, and where on them a dotted name is described."""

import os
from importlib.resources import files

__all__ = ["MODULES", "module_of", "page_of", "place_of"]

MODULES = tuple(files("deepmemory.demo").joinpath("modules.txt").read_text(encoding="ascii").split())
"""The modules whose pages are read: public ones, of which the library's own documentation tells. Modules that only
implement others (``unittest.case``, ``concurrent.futures.thread``) are left out, since their pages say the same again.
"""

_SERVED_AS = {"os.path": os.path.__name__}
"""Modules whose page has another name: ``posixpath``, and ``ntpath`` on Windows."""


def module_of(name: str) -> str | None:
    """The module on whose page a dotted name is described; None where that page isn't read."""
    parts = name.split(".")
    beginnings = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((beginning for beginning in beginnings if beginning in MODULES), None)


def page_of(module: str) -> str:
    """The path of a module's page: ``/subprocess.html``."""
    return f"/{_SERVED_AS.get(module, module)}.html"


def place_of(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Where a dotted name is described, as the path of a page and the anchors that it may have there.

    A function's anchor is ``-run``, a class's ``Popen`` and a method's ``Popen-communicate``; what is written like a
    class may be a function, and the other way round. None where the page isn't read.
    """
    module = module_of(name)
    if module is None:
        return None
    member = name.removeprefix(f"{module}.").replace(".", "-")
    return page_of(module), (member,) if "-" in member else (f"-{member}", member)
