"""From the bytes of a page or file to its text, by what kind of file it is."""

from pathlib import PurePosixPath

from deepmemory.errors import DeepMemoryError, IngestError
from deepmemory.ingest.text import PageText, decode

__all__ = ["EXTRACTOR_VERSION", "MEDIA_TYPES", "extract", "media_type_of"]

EXTRACTOR_VERSION = 1
"""Raised when the same page gives another text, so that what was ingested before is read again."""

MEDIA_TYPES = {
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "application/xhtml+xml",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".mdx": "text/markdown",
    ".txt": "text/plain",
    ".text": "text/plain",
    ".rst": "text/x-rst",
    ".pdf": "application/pdf",
}
"""What is read, by the suffix of its name."""

_NAMES = {"text/html": "HTML", "text/markdown": "Markdown", "text/x-rst": "reStructuredText", "application/pdf": "PDF"}
_ALIASES = {
    "application/xhtml+xml": "text/html",
    "text/x-markdown": "text/markdown",
    "text/prs.fallenstein.rst": "text/x-rst",
}


def media_type_of(name: str, declared: str = "") -> str | None:
    """The media type under which a page or file is read; None where it isn't.

    Args:
        name: its path, whose suffix decides where the declaration is missing or says no more than "text".
        declared: what the server said, without parameters.
    """
    declared = _ALIASES.get(declared.lower(), declared.lower())
    by_name = MEDIA_TYPES.get(PurePosixPath(name).suffix.lower())
    by_name = _ALIASES.get(by_name or "", by_name)
    if declared in ("", "application/octet-stream", "binary/octet-stream"):
        return by_name
    if declared == "text/plain":
        return by_name if by_name in ("text/markdown", "text/x-rst") else declared
    return declared if declared in _NAMES else None


def extract(body: bytes | str, media_type: str = "text/html", *, charset: str | None = None) -> PageText:
    """Extract the main text of a page.

    Args:
        body: the page; a string is taken as decoded already.
        media_type: ``text/html``, ``text/markdown``, ``text/x-rst``, ``text/plain`` or ``application/pdf``.
        charset: what the server said about the encoding, if it did.

    Raises:
        IngestError: it can't be read as what it is said to be.
        MissingExtraError: it is a PDF and pypdf is not installed.
    """
    media_type = _ALIASES.get(media_type, media_type)
    try:
        if media_type == "application/pdf":
            from deepmemory.ingest.pdf import pdf_text

            return pdf_text(body.encode() if isinstance(body, str) else body)
        source = body if isinstance(body, str) else decode(body, charset, html=media_type == "text/html")
        return _text_of(source, media_type)
    except DeepMemoryError:
        raise
    except Exception as error:  # parsers of other people's files fail in more ways than they list
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise IngestError(f"it can't be read as {_NAMES.get(media_type, media_type)}: {reason}") from error


def _text_of(source: str, media_type: str) -> PageText:
    if media_type == "text/html":
        from deepmemory.ingest.html import html_text

        return html_text(source)
    if media_type == "text/markdown":
        from deepmemory.ingest.markdown import markdown_text

        return markdown_text(source)
    if media_type == "text/x-rst":
        from deepmemory.ingest.rst import rst_text

        return rst_text(source)
    return PageText(source if source.strip() else "")
