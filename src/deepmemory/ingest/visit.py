"""What a crawl or a folder tells of each page that it came by."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Known", "Page", "Status", "Visit"]


class Status(StrEnum):
    """How a page was found."""

    FETCHED = "fetched"
    """Its content is there."""
    UNCHANGED = "unchanged"
    """The server says that it is as it was."""
    GONE = "gone"
    """The server says that it is no more."""
    FAILED = "failed"
    """It couldn't be read now; it may be another time."""
    SKIPPED = "skipped"
    """It isn't to be read: another kind of file, against robots.txt, elsewhere now."""
    UNREACHED = "unreached"
    """It is linked, and a limit came first."""


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a page or file.

    Attributes:
        body: its bytes.
        media_type: as what it is read; see `deepmemory.ingest.extract`.
        charset: what the server said about its encoding.
        etag: by which the server knows this version.
        last_modified: when the server says that it changed.
        links: keys of the pages of the same site that it links to, in order.
    """

    body: bytes
    media_type: str
    charset: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What is still known of a page from an earlier crawl.

    Attributes:
        etag: sent, so that the server can say that nothing changed.
        last_modified: sent for the same reason.
        links: keys that it linked to, which are followed when its content doesn't come again.
    """

    etag: str | None = None
    last_modified: str | None = None
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """One page as it was found.

    Attributes:
        key: names it within its source: path and query of an address, the path of a file within its folder.
        location: where a person finds it.
        status: how it was found.
        reason: why it was not read, in a few words; empty where it was.
        page: its content, when it was fetched.
        waiting: how many more are known to come, as far as it can be told.
    """

    key: str
    location: str
    status: Status
    reason: str = ""
    page: Page | None = None
    waiting: int = 0
