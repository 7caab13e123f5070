"""A model that writes queries, deterministically, for the loopback server; and documents to write about."""

import json
import re
from typing import Any

from deepmemory.data import Document
from deepmemory.testing import ChatRequest

TOPICS = (
    "ferns spores fronds shade moisture",
    "sourdough starter flour hydration oven",
    "sailing jib mainsail tacking harbour",
    "violin rosin bow strings luthier",
    "glacier moraine crevasse meltwater ice",
    "beekeeping hive queen smoker honey",
    "bicycle derailleur chain cassette brake",
    "pottery kiln glaze clay wheel",
    "chess opening gambit endgame bishop",
    "astronomy telescope nebula mirror eyepiece",
    "coffee espresso grinder crema roast",
    "falconry jesses hood glove lure",
)


def documents(n: int = len(TOPICS)) -> list[Document]:
    """Documents about one topic each."""
    return [
        Document(f"d{place}", f"All about {topic.split()[0]}. It takes {topic}.", {"title": topic.split()[0].title()})
        for place, topic in enumerate(TOPICS[:n])
    ]


def text_in(request: ChatRequest) -> str:
    """The document that a request is about."""
    return re.search(r"<document>\n(.*)\n</document>", request.prompt, re.DOTALL).group(1)


def write(request: ChatRequest) -> dict[str, Any]:
    """As many queries as were asked for, of the kinds that were asked for, in other words than the document's."""
    n = int(re.match(r"Write (\d+)", request.prompt).group(1))
    kinds = re.findall(r'- (\d+) of the kind "(\w+)"', request.prompt)
    wanted = [kind for count, kind in kinds for _ in range(int(count))][:n]
    words = (re.findall(r"\w+", text_in(request)) * 5)[-5:]
    return {
        "queries": [
            {"kind": kind, "query": f"{kind} {number} wondering: {words[number % 5]} along {words[(number + 1) % 5]}"}
            for number, kind in enumerate(wanted)
        ]
    }


def write_as_text(request: ChatRequest) -> str:
    """The same among other words, as models without structured output answer."""
    return f"Sure, here you are:\n```json\n{json.dumps(write(request))}\n```\nAnything else?"
