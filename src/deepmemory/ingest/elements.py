"""What several parts of the HTML walk ask of an element."""
# ruff: noqa: SIM905  long lists of words read better as one string

import re

from lxml.etree import _Element as Element

from deepmemory.ingest.blocks import Inline

__all__ = ["Element", "add_flat", "anchor_names", "classes", "is_noise", "is_permalink"]

_UNSEEN_TAGS = frozenset(
    "script style noscript template svg canvas iframe object embed audio video map link meta title base "
    "button input select textarea datalist dialog nav footer".split()
)
_UNSEEN_ROLES = frozenset(
    "navigation search banner contentinfo complementary dialog alertdialog menu menubar toolbar tooltip".split()
)
_UNSEEN_CLASS = re.compile(
    r"""(?: breadcrumbs? | wy-breadcrumbs | theme-doc-breadcrumbs | toc | mobile-toc | table-?of-?contents
        | toccollapsible | theme-doc-toc-(?:mobile|desktop) | sphinxsidebar | headerlink | hash-link | viewcode-link
        | sr-only | visually-hidden | screen-reader-(?:text|only) | skip-?(?:link|nav|to-content) | copybtn
        | prev-next-(?:area|footer) | pagination(?:-nav)? | pager | rst-footer-buttons | rst-versions
        | edit-(?:this-)?page(?:-link)? | theme-edit-this-page | theme-last-updated | md-content__button
        | md-source-file | share-buttons? | social-share | announcement-?bar | linenos? | linenodiv | line-numbers?
        | gutter | page-footer )
        (?:_[\w-]*)?""",
    re.I | re.X,
)
_CONSENT = re.compile(r"cookie[-_]?(?:consent|banner|notice|bar|law|popup)|consent[-_]banner|gdpr|onetrust", re.I)
_CALLOUT = re.compile(
    r"admonition|note|tip|hint|warning|caution|danger|important|callout|alert|footnote|topic|aside", re.I
)
_HIDDEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.I)
_BLOCKS_IN_FORMS = ("p", "pre", "h1", "h2", "h3", "article", "main")
_WORD = re.compile(r"\w")
_NAMES_OF_CODE_LINES = re.compile(r"__codelineno|L\d+$|line-\d+$|cb\d+-\d+$")


def classes(element: Element) -> list[str]:
    """The names in an element's ``class``."""
    return (element.get("class") or "").split()


def anchor_names(element: Element) -> list[str]:
    """The names by which a link can point to an element."""
    names = [element.get("id"), element.get("name") if element.tag == "a" else None]
    return [name for name in dict.fromkeys(names) if name and not _NAMES_OF_CODE_LINES.match(name)]


def is_permalink(element: Element) -> bool:
    """Whether an element is a sign beside a heading that links to the heading itself."""
    if element.tag != "a" or not (element.get("href") or "").startswith("#"):
        return False
    return not _WORD.search("".join(element.itertext()))


def is_noise(element: Element) -> bool:
    """Whether an element isn't part of what the page says: navigation, controls, what is hidden."""
    tag = element.tag
    if tag in _UNSEEN_TAGS or (element.get("role") or "").lower() in _UNSEEN_ROLES:
        return True
    names = classes(element)
    if any(_UNSEEN_CLASS.fullmatch(name) for name in names) or ("contents" in names and {"topic", "local"} & {*names}):
        return True
    if tag == "header":
        return not _holds(element, "h1", "h2")
    if tag == "aside":
        return not any(_CALLOUT.search(name) for name in names)
    if tag == "form":
        return not _holds(element, *_BLOCKS_IN_FORMS)
    return _is_hidden(element) or _asks_for_consent(element, names)


def _is_hidden(element: Element) -> bool:
    if element.get("role") == "tabpanel":  # what stands behind the other tabs is there for the asking
        return False
    return (
        element.get("hidden") is not None
        or element.get("aria-hidden") == "true"
        or bool(_HIDDEN_STYLE.search(element.get("style") or ""))
    )


def _asks_for_consent(element: Element, names: list[str]) -> bool:
    # A section about cookies may bear such a name as its anchor.
    if element.tag == "section" or "section" in names:
        return False
    return any(_CONSENT.search(name) for name in (*names, element.get("id") or ""))


def _holds(element: Element, *tags: str) -> bool:
    return next(element.iterdescendants(*tags), None) is not None


def add_flat(element: Element, inline: Inline) -> None:
    """Add everything that an element says as one run of text, with its anchors."""
    inline.add(element.text or "")
    for child in element:
        if child.tag == "br":
            inline.add(" ")
        elif child.tag == "img":
            inline.add(child.get("alt") or "")
        elif isinstance(child.tag, str) and not is_noise(child) and not is_permalink(child):
            for name in anchor_names(child):
                inline.anchor(name)
            apart = " " if child.tag in ("p", "div", "li", "dd", "dt", "tr", "td", "th") else ""
            inline.add(apart)
            add_flat(child, inline)
            inline.add(apart)
        inline.add(child.tail or "")
