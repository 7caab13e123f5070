"""What a document consists of: headings, sentences of prose, names with their descriptions, and code."""

import re
from dataclasses import dataclass

__all__ = ["Passage", "passages_of", "plain"]

_HEADING = re.compile(r"^\s{0,3}(#{1,6})\s+(.+?)\s*#*$")
_UNDERLINE = re.compile(r"^([=\-~^\"'`*+#])\1{2,}\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_PROMPT = re.compile(r"^\s*(>>>|\.\.\. |\$ |[{}\[\]()]+\s*$)")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+")
_NAMED = re.compile(
    r"^`{0,2}([A-Za-z_][\w.]{2,})`{0,2}(?:\s*\([^)]{0,80}\))?\s*(?::|--|\u2013|\u2014)\s+(\S.{8,})$", re.DOTALL
)
_SIGNATURE = re.compile(r"(?:^|\s)(?:(?:class|def|function|func|fn)\s+)?([A-Za-z_][\w.]*)\s*\(.*\)?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\sa-z])|(?<=[\u3002\uff01\uff1f])|\n\n+")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
_MARKUP = re.compile(r"\*\*|__(?=\w)|(?<=\w)__|`+|:(?:class|func|meth|mod|ref|doc):|<[^<>\n]{1,80}>|\\(?=[_*\[\]<>])")
_ADDRESS = re.compile(r"https?://\S+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that a query can come from.

    Attributes:
        kind: ``heading``, ``sentence``, ``name`` (something named and described) or ``code``.
        text: without markup; of a name, its description.
        section: the heading above it, empty where there is none.
        name: what a ``name`` passage describes, or the function that a heading shows.
    """

    kind: str
    text: str
    section: str
    name: str = ""


def plain(text: str) -> str:
    """A text without the marks of Markdown and reStructuredText, on one line."""
    without_links = _ADDRESS.sub(" ", _LINK.sub(r"\1", text))
    return " ".join(_MARKUP.sub("", without_links).split())


def passages_of(text: str) -> list[Passage]:
    """The passages of a document, in order."""
    found: list[Passage] = []
    section = ""
    prose: list[str] = []
    code: list[str] = []
    fenced = False

    def close() -> None:
        found.extend(_from_prose(prose, section))
        if code:
            found.append(Passage("code", " ".join(" ".join(code).split()), section))
        prose.clear()
        code.clear()

    lines = text.splitlines()
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if _FENCE.match(line):
            fenced = not fenced
        elif fenced or _PROMPT.match(line):
            code.append(line)
        elif heading := _heading(line, below):
            close()
            section, name = heading
            found.append(Passage("heading", section, section, name))
        elif _UNDERLINE.match(line):
            continue
        elif _ITEM.match(line):
            prose.append("\n\n" + _ITEM.sub("", line))
        else:
            prose.append(line or "\n")
    close()
    return found


def _heading(line: str, below: str) -> tuple[str, str] | None:
    """The words of a heading, and the name of the function whose signature it is."""
    marked = _HEADING.match(line)
    underlined = bool(line.strip()) and len(line) < 100 and _UNDERLINE.match(below) and not _UNDERLINE.match(line)
    if not marked and not underlined:
        return None
    words = marked.group(2) if marked else line.strip()
    signature = _SIGNATURE.search(words) if "(" in words else None
    if signature:
        name = signature.group(1)
        return name.rsplit(".", 1)[-1].replace("_", " ").strip(), name
    return plain(words), ""


def _from_prose(prose: list[str], section: str) -> list[Passage]:
    found = []
    for piece in _SENTENCE_END.split("\n".join(prose)):
        stripped = piece.strip()
        named = _NAMED.match(stripped)
        if named:
            description = plain(named.group(2))
            found.append(Passage("name", description, section, named.group(1)))
        elif sentence := plain(stripped):
            found.append(Passage("sentence", sentence, section))
    return found
