"""What the tutorial needs around it: a hub, a documentation site, a language model; on loopback where none is given."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from stand_in_llm import MODEL, stand_in

from deepmemory.demo.pages import MODULES, page_of
from deepmemory.demo.server import documentation_server
from deepmemory.testing import HubProcess, OpenAIServer

__all__ = ["Surroundings", "surroundings"]

ORG = "tutorial"


@dataclass(frozen=True)
class Surroundings:
    """Where everything is.

    Attributes:
        path: of the dataset, such as ``hub://tutorial/docs``.
        token: of the hub; None for a folder.
        site: the address of the documentation.
        pages: the pages of it that are worth reading, by the end of their addresses; None for all.
        model: the name of the language model behind ``OPENAI_BASE_URL``.
    """

    path: str
    token: str | None
    site: str
    pages: tuple[str, ...] | None
    model: str


@contextmanager
def surroundings(path: str | None, site: str | None, model: str | None) -> Iterator[Surroundings]:
    """Start what is not given, say so, and stop it in the end.

    Args:
        path: of the dataset; by default one on a hub: that of ``DEEPMEMORY_HUB_URL``, or one that is started.
        site: the documentation's address; by default that of Python's standard library, served by pydoc.
        model: at ``OPENAI_BASE_URL``; where neither that nor ``OPENAI_API_KEY`` is set, the stand-in.
    """
    with ExitStack() as stack:
        token = os.environ.get("DEEPMEMORY_TOKEN")
        if path is None and "DEEPMEMORY_HUB_URL" in os.environ:
            path = f"hub://{os.environ.get('DEEPMEMORY_ORG', ORG)}/tutorial"
        if path is None:
            hub = stack.enter_context(HubProcess())
            os.environ["DEEPMEMORY_HUB_URL"] = hub.url
            token = hub.token(ORG, "admin")
            path = f"hub://{ORG}/python-docs"
            print(f"The hub is {hub.url}, started for this run; DEEPMEMORY_HUB_URL names another.")
        pages = None
        if site is None:
            site = stack.enter_context(documentation_server(0))
            pages = tuple(map(page_of, MODULES))
            print(f"The site is {site}, Python's own documentation server; --site names another.")
        if not (os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY")):
            server = stack.enter_context(OpenAIServer(chat=stand_in, models=(MODEL,)))
            os.environ.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="none")
            model = MODEL
            print(
                "The language model is a small stand-in that only matches words (examples/stand_in_llm.py): "
                "set OPENAI_API_KEY, or OPENAI_BASE_URL, for a real one."
            )
        yield Surroundings(path, token, site, pages, model or "gpt-4o-mini")
