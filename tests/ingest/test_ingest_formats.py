"""Markdown, reStructuredText, PDF and plain text, in the encodings that they come in."""

import io
import sys

import pytest

from deepmemory.errors import IngestError, MissingExtraError
from deepmemory.ingest import PageText, extract
from deepmemory.ingest.extract import media_type_of

MARKDOWN = """\
---
title: "The guide"
tags: [a, b]
---
<!-- prettier-ignore -->

# Hello `World` {#hi}

Intro <a name="place"></a>text.

(a-target)=
## Usage

```py
# not a heading
<a id="no">
```

## Usage

- item

      code in a list

Setext
======
"""

RST = r"""
.. _glob-module:

:mod:`!glob` --- Pathname patterns
==================================

.. module:: glob
   :synopsis: Patterns.

.. index:: single: filenames

See :func:`os.scandir`, :meth:`~pathlib.Path.glob`, :ref:`the tutorial <tut>` and ``**``.

.. function:: glob(pathname, *, root_dir=None, \
                   recursive=False)

   Return paths::

      >>> glob.glob('*.txt')

   .. versionchanged:: 3.5
      Recursive.

   .. code-block:: python
      :emphasize-lines: 1

      import glob

.. class:: Foo(a)

   A foo.

Tables
------

.. toctree::
   :maxdepth: 2

   a

.. seealso:: The :mod:`fnmatch` module

==== =====
Name Price
==== =====
Crab 2.99
==== =====

.. include:: /etc/passwd

.. raw:: html

   <script>alert(1)</script>
"""


def at(page: PageText, name: str) -> str:
    offset = next(anchor.offset for anchor in page.anchors if anchor.name == name)
    return page.text[offset:].split("\n")[0]


def test_markdown_is_its_own_text() -> None:
    page = extract(MARKDOWN.encode(), "text/markdown")
    start = MARKDOWN.index("# Hello")
    assert page.text.strip() == MARKDOWN[start:].strip()
    assert page.title == "The guide"


def test_markdown_headings_code_and_anchors_are_found() -> None:
    page = extract(MARKDOWN, "text/markdown")
    assert [section.path for section in page.sections if section.headed] == [
        ("Hello World",),
        ("Hello World", "Usage"),
        ("Hello World", "Usage"),
        ("Setext",),
    ]
    assert [page.text[start:end].split("\n")[0] for start, end in page.code] == ["```py", "      code in a list"]
    assert at(page, "hi").startswith("# Hello")
    assert at(page, "place").startswith('<a name="place">')
    assert at(page, "usage") == at(page, "usage-1") == "## Usage"
    assert at(page, "a-target") == "(a-target)="
    assert "no" not in {anchor.name for anchor in page.anchors}


def test_markdown_without_front_matter_is_titled_by_its_first_heading() -> None:
    assert extract("# A *good* `title`\n\ntext", "text/markdown").title == "A good title"
    assert extract("---\n\nno front matter\n", "text/markdown").title == ""


def test_restructured_text_for_sphinx_keeps_what_docutils_would_leave_out() -> None:
    page = extract(RST, "text/x-rst")
    assert page.text == (
        "# glob --- Pathname patterns\n\n"
        "See `os.scandir`, `glob`, the tutorial and `**`.\n\n"
        "## glob(pathname, *, root_dir=None, recursive=False)\n\n"
        "Return paths:\n\n```\n>>> glob.glob('*.txt')\n```\n\n"
        "Changed in version 3.5 Recursive.\n\n"
        "```python\nimport glob\n```\n\n"
        "## class Foo(a)\n\nA foo.\n\n"
        "## Tables\n\n"
        "The `fnmatch` module\n\n"
        "| Name | Price |\n| --- | --- |\n| Crab | 2.99 |"
    )
    assert page.title == "glob --- Pathname patterns"
    assert at(page, "glob").startswith("glob(pathname")
    assert at(page, "glob-module").startswith("glob --- ")


def test_plain_text_is_taken_as_it_is() -> None:
    assert extract(b"# no heading\n  as it is\n", "text/plain") == PageText("# no heading\n  as it is\n")


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        ("\ufeffgrün “so”".encode(), None),
        ("grün “so”".encode(), None),
        ("grün “so”".encode("cp1252"), None),
        ("grün “so”".encode("cp1252"), "iso-8859-1"),
        ("grün “so”".encode("utf-16"), None),
        ("grün “so”".encode("utf-16-le"), "utf-16-le"),
        ("grün “so”".encode(), "no-such-charset"),
        ("grün “so”".encode(), "base64"),
    ],
)
def test_encodings(body: bytes, charset: str | None) -> None:
    assert extract(body, "text/plain", charset=charset).text == "grün “so”"


def test_a_page_may_declare_its_encoding_and_a_text_may_not() -> None:
    declaration = '<meta charset="windows-1251">'
    assert extract((declaration + "<p>привет</p>").encode("cp1251")).text == "привет"
    assert "привет" in extract((declaration + "привет").encode(), "text/markdown").text


def test_bytes_that_are_no_text_are_read_without_failing() -> None:
    for media_type in ("text/html", "text/markdown", "text/x-rst", "text/plain"):
        extract(bytes(range(256)) * 4, media_type)


@pytest.mark.parametrize(
    ("name", "declared", "media_type"),
    [
        ("/guide.html", "", "text/html"),
        ("/guide", "text/html", "text/html"),
        ("/guide", "", None),
        ("/a.md", "text/plain", "text/markdown"),
        ("/a.md", "application/octet-stream", "text/markdown"),
        ("/a.html", "text/plain", "text/plain"),
        ("/a.pdf", "application/pdf", "application/pdf"),
        ("/a.html", "image/png", None),
        ("/a.XHTML", "", "text/html"),
        ("/a", "application/xhtml+xml", "text/html"),
        ("/a.zip", "", None),
    ],
)
def test_what_is_read_and_as_what(name: str, declared: str, media_type: str | None) -> None:
    assert media_type_of(name, declared) == media_type


def pdf(pages: list[str], *, outline: list[tuple[str, int]] = (), password: str = "") -> bytes:  # type: ignore[assignment]
    pypdf = pytest.importorskip("pypdf", reason="the extra `pdf` is not installed")
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = pypdf.PdfWriter()
    for words in pages:
        page = writer.add_blank_page(300, 300)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        lines = "".join(f"({line}) Tj 0 -14 Td " for line in words.split("\n"))
        stream.set_data(f"BT /F1 12 Tf 20 260 Td {lines} ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    for title, number in outline:
        writer.add_outline_item(title=title, page_number=number)
    writer.add_metadata({"/Title": "A report"})
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def test_pdf_pages_are_anchors_and_its_outline_is_headings() -> None:
    body = pdf(["First page\nwith two lines", "Second page", "Third"], outline=[("Start", 0), ("End", 2)])
    page = extract(body, "application/pdf")
    assert page.text == "First page\nwith two lines\n\nSecond page\n\nThird"
    assert page.title == "A report"
    assert at(page, "page=2") == "Second page"
    assert [(section.path, page.text[section.start :].split("\n")[0]) for section in page.sections] == [
        (("Start",), "First page"),
        (("End",), "Third"),
    ]


def test_a_pdf_that_cannot_be_read_says_why() -> None:
    with pytest.raises(IngestError, match="password"):
        extract(pdf(["Secret"], password="open sesame"), "application/pdf")
    with pytest.raises(IngestError, match="can't be read as PDF"):
        extract(b"%PDF-1.7 and then nothing", "application/pdf")


def test_without_the_extra_a_pdf_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepmemory\[pdf\]'"):
        extract(b"%PDF-1.7", "application/pdf")


def test_a_pdf_of_pictures_has_no_text() -> None:
    assert extract(pdf([""]), "application/pdf").text == ""
