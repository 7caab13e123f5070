"""Code in HTML: its text as it was written, and the language that its classes name."""
# ruff: noqa: SIM905  long lists of words read better as one string

import re
from itertools import takewhile

from deepmemory.ingest.elements import Element, classes, is_noise

__all__ = ["code_block", "code_language"]

_LANGUAGE = re.compile(r"(?:language|lang|highlight-source|highlight|brush)[-:]\s*([\w+#.-]+)", re.I)
_NO_LANGUAGE = frozenset("default none text plain plaintext txt source notranslate".split())
_SAY_LANGUAGE_BESIDE = frozenset({"sourceCode", "literal-block"})  # Pandoc and docutils
_WRAPPERS = _SAY_LANGUAGE_BESIDE | {"code", "doctest-block", "number-lines", "numberSource"}
_LINES = frozenset("token-line highlight-line code-line view-line line".split())
_LEVELS_UP = 8  # highlighters wrap a block in this many elements, and name the language on any of them
_NOT_AROUND_CODE = frozenset({"article", "main", "section", "body", "li", "dd", "blockquote"})


def code_block(element: Element) -> str:
    """A ``pre`` element as a fenced block; empty where there is no code in it."""
    pieces: list[str] = []
    _add(element, pieces)
    code = "".join(pieces).replace("\u00a0", " ")
    code = "\n".join(line.rstrip() for line in code.split("\n")).strip("\n")
    if not code.strip():
        return ""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{code_language(element)}\n{code}\n{fence}"


def code_language(element: Element) -> str:
    """The language of a ``pre`` element, as highlighters name it; empty where none is named."""
    inner = [child for child in element if child.tag == "code"]
    around = list(takewhile(lambda outer: outer.tag not in _NOT_AROUND_CODE, element.iterancestors()))
    outer = [element, *around[:_LEVELS_UP]]
    for candidate in (*inner, *outer):
        named = candidate.get("data-lang") or candidate.get("data-language")
        names = classes(candidate)
        found = [match[1] for match in map(_LANGUAGE.fullmatch, names) if match]
        if _SAY_LANGUAGE_BESIDE & set(names):
            found += [name for name in names if name not in _WRAPPERS]
        for language in (*((named,) if named else ()), *found):
            if str(language).lower() not in _NO_LANGUAGE:
                return str(language).lower()
    return ""


def _add(element: Element, pieces: list[str]) -> None:
    pieces.append(element.text or "")
    for child in element:
        if child.tag == "br":
            pieces.append("\n")
        elif isinstance(child.tag, str) and not is_noise(child):
            is_line = child.tag in ("div", "li", "p", "tr") or bool(_LINES & set(classes(child)))
            if is_line and _mid_line(pieces):
                pieces.append("\n")
            _add(child, pieces)
            if (
                is_line
                and _mid_line(pieces)
                and child.getnext() is not None
                and not (child.tail or "").startswith("\n")
            ):
                pieces.append("\n")
        pieces.append(child.tail or "")


def _mid_line(pieces: list[str]) -> bool:
    last = next((piece for piece in reversed(pieces) if piece), "\n")
    return not last.endswith("\n")
