"""reStructuredText: docutils makes HTML of it, which is then walked like any page.

Much of it is written for Sphinx, and docutils leaves out a directive that it doesn't know with all that is in it. So
every unknown name in a file is given a meaning before the file is read: directives that describe a function or the
like become definitions, those that show code become code, those that only arrange pages go, others leave their
content, and roles leave their text. Only names that nobody has given a meaning in this process are touched.
"""
# ruff: noqa: SIM905  long lists of words read better as one string

import re
from collections.abc import Callable
from typing import Any, ClassVar

from docutils import nodes
from docutils.core import publish_parts
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Directive, Parser, directives, roles
from docutils.parsers.rst.languages import en
from docutils.utils import new_document
from docutils.writers import html5_polyglot

from deepmemory.ingest.html import html_text
from deepmemory.ingest.text import PageText

__all__ = ["rst_text"]

_DIRECTIVE_NAME = re.compile(r"^[ \t]*\.\.[ \t]+([\w:+.-]+?)::(?:\s|$)", re.M)
_ROLE_NAME = re.compile(r"(?<![\w`]):([\w+.:-]+?):`")
_OPTIONS_OF_CODE = re.compile(
    r"(^[ \t]*\.\.[ \t]+(?:code|code-block|sourcecode)::.*\n(?:[ \t]+:(?:class|name|number-lines):.*\n)*)"
    r"(?:[ \t]+:(?!class:|name:|number-lines:)[\w-]+:.*\n)+",
    re.M,
)
_CLASS_OF_PYTHON = re.compile(r"^([ \t]*\.\.[ \t]+)(?=class::[ \t]+(?:[A-Z]|\w+[.(]))", re.M)
_CONTINUED = re.compile(r"\\\n\s*")
_DEFINED = frozenset(
    "function method class exception attribute data classmethod staticmethod decorator decoratormethod property "
    "type struct union enum enumerator macro member var option envvar program describe object opcode confval setting "
    "directive role token command".split()
)
_NAMED_IN_HEADING = frozenset({"class", "exception", "classmethod", "staticmethod"})
_CODE = frozenset({"testcode", "testoutput", "doctest", "ipython", "prompt", "console", "code-cell", "jupyter-execute"})
_ARRANGING = frozenset(
    "toctree index module currentmodule highlight tabularcolumns only sectionauthor moduleauthor codeauthor "
    "testsetup testcleanup autosummary automodule autoclass autofunction autodata automethod literalinclude "
    "default-domain".split()
)
_VERSIONS = {
    "versionadded": "New in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "versionremoved": "Removed in version",
}
_PROSE_ROLES = frozenset("ref doc term numref abbr dfn guilabel menuselection any download eq keyword".split())
_TITLE_AND_TARGET = re.compile(r"(.+?)\s*<[^<>]*>", re.S)
_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 5,
    "_disable_config": True,
    "syntax_highlight": "none",
    "smart_quotes": False,
    "toc_backlinks": False,
}


def rst_text(source: str) -> PageText:
    """Extract the text of a reStructuredText file."""
    source = _OPTIONS_OF_CODE.sub(r"\1", source)
    source = _CLASS_OF_PYTHON.sub(r"\1py:", source)  # docutils' own "class" sets a style
    _give_meanings(source)
    parts = publish_parts(source, writer=html5_polyglot.Writer(), settings_overrides=_SETTINGS)
    return html_text(f"<title>{parts['title']}</title><main>{parts['html_body']}</main>")


def _give_meanings(source: str) -> None:
    settings = get_default_settings(Parser)
    settings.report_level = 5
    document = new_document("", settings)
    language: Any = en
    for name in {name.lower() for name in _DIRECTIVE_NAME.findall(source)}:
        if directives.directive(name, language, document)[0] is None:
            directives.register_directive(name, _directive_for(name))
    leave_text: Any = _leave_text
    for name in {name.lower() for name in _ROLE_NAME.findall(source)}:
        if roles.role(name, language, 0, document.reporter)[0] is None:
            roles.register_local_role(name, leave_text)


def _directive_for(name: str) -> type[Directive]:
    kind = name.rpartition(":")[2]
    if kind in _ARRANGING:
        return _Arrangement
    if kind in _CODE:
        return _Code
    return _Definition if kind in _DEFINED else _Content


class _AnyOptions(dict[str, Callable[[str], Any]]):
    """Takes every option, whatever its name."""

    def __missing__(self, name: str) -> Callable[[str], Any]:
        return directives.unchanged


class _Unknown(Directive):
    """What all of them take: any argument, any option, any content."""

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Callable[[str], Any]] | None] = _AnyOptions({"class": directives.unchanged})

    @property
    def kind(self) -> str:
        """The directive's name without its domain."""
        return str(self.name).lower().rpartition(":")[2]

    def parsed(self, parent: nodes.Element) -> nodes.Element:
        """The parent with the content, parsed, in it."""
        self.state.nested_parse(self.content, self.content_offset, parent)
        return parent


class _Arrangement(_Unknown):
    def run(self) -> list[nodes.Node]:
        return []


class _Code(_Unknown):
    def run(self) -> list[nodes.Node]:
        code = "\n".join(self.content)
        return [nodes.literal_block(code, code)]


class _Definition(_Unknown):
    def run(self) -> list[nodes.Node]:
        item = nodes.definition_list_item()
        before = f"{self.kind} " if self.kind in _NAMED_IN_HEADING else ""
        signatures = _CONTINUED.sub(" ", (self.arguments or [self.kind])[0])
        for signature in signatures.split("\n"):
            name = re.split(r"[\s(\[=]", signature.strip(), maxsplit=1)[0]
            item += nodes.term("", before + signature.strip(), ids=[name] if name else [])
        item += self.parsed(nodes.definition())
        return [nodes.definition_list("", item)]


class _Content(_Unknown):
    def run(self) -> list[nodes.Node]:
        words = " ".join((_VERSIONS.get(self.kind, ""), *self.arguments)).strip()
        container = nodes.container()
        if words:
            container += nodes.paragraph("", "", *self.state.inline_text(words, self.lineno)[0])
        return [self.parsed(container)]


def _leave_text(role: str, rawtext: str, text: str, *_: object) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """What a reader sees of a role: its title where it has one, the last part of a name after a tilde."""
    shown = nodes.unescape(text)
    titled = _TITLE_AND_TARGET.fullmatch(shown)
    if titled:
        shown = titled[1]
    elif shown.startswith("~"):
        shown = shown.rpartition(".")[2].lstrip("~")
    node = nodes.inline if role.rpartition(":")[2] in _PROSE_ROLES else nodes.literal
    return [node(rawtext, shown.lstrip("!"))], []
