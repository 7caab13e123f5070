"""Which part of an HTML page is what it says, and not what stands around it on every page."""
# ruff: noqa: SIM905  long lists of words read better as one string

from collections.abc import Iterable

from deepmemory.ingest.elements import Element, is_noise

__all__ = ["main_part"]

_ENOUGH_OF_PAGE = 0.2  # a <main> with less of the page's text than this isn't where its text is
_MOST = 0.6
_NEARLY_ALL = 0.8
_WRAPPERS = frozenset("html body div section article center font form table tbody tr td span".split())


def main_part(root: Element) -> Element:
    """Choose the element that holds the main text.

    Authors' own marks come first: ``<main>`` or its role, and in it an ``<article>`` that has most of it. A page
    without marks is narrowed down from its body for as long as one element has nearly all the text that is no link.
    """
    body = next(root.iter("body"), root)
    weights = _weights(body)
    whole = weights.get(body, 0)
    marked = [element for element in weights if element.tag == "main" or element.get("role") == "main"]
    part = _heaviest(marked, weights)
    if part is None or weights[part] < _ENOUGH_OF_PAGE * whole:
        part = body
    article = _heaviest((element for element in part.iter("article") if element in weights), weights)
    if article is not None and weights[article] >= _MOST * weights.get(part, 0):
        return article
    return part if part is not body else _narrowed(body, weights)


def _weights(body: Element) -> dict[Element, int]:
    """For each element that isn't noise, the characters of text in it that are no link."""
    weights = {element: _own_text(element) for element in _seen(body)}
    for element in reversed(weights):
        parent = element.getparent()
        is_link = element.tag == "a" and element.get("href") is not None
        if element is not body and parent is not None and not is_link:
            weights[parent] += weights[element]
    return weights


def _own_text(element: Element) -> int:
    return len((element.text or "").strip()) + sum(len((child.tail or "").strip()) for child in element)


def _seen(body: Element) -> Iterable[Element]:
    stack = [body]
    while stack:
        element = stack.pop()
        yield element
        stack += [child for child in reversed(element) if isinstance(child.tag, str) and not is_noise(child)]


def _heaviest(elements: Iterable[Element], weights: dict[Element, int]) -> Element | None:
    return max(elements, key=lambda element: weights[element], default=None)


def _narrowed(part: Element, weights: dict[Element, int]) -> Element:
    while True:
        children = [child for child in part if child in weights]
        heaviest = _heaviest((child for child in children if child.tag in _WRAPPERS), weights)
        has_title = any(child.tag in ("h1", "header") for child in children)
        if heaviest is None or has_title or weights[heaviest] < _NEARLY_ALL * weights[part]:
            return part
        part = heaviest
