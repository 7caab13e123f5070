"""What was ingested from a source: its pages, and the chunks that each of them became."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepmemory.errors import NewerFormatError
from deepmemory.state import State

__all__ = ["Manifest", "PageRecord", "fingerprint"]

_FORMAT = 1
_FINGERPRINT_LENGTH = 20  # hexadecimal digits: 80 bits, so that two of a billion differ for certain


def fingerprint(*parts: str) -> str:
    """A short name for some texts, the same everywhere and always."""
    joined = "\0".join(parts).encode("utf-8", errors="surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:_FINGERPRINT_LENGTH]


@dataclass(frozen=True, slots=True)
class PageRecord:
    """What is known of one page.

    Attributes:
        location: where it was.
        digest: of its bytes; empty where it isn't certain that the store holds what they say.
        text: fingerprint of the text extracted from it.
        recipe: how it was extracted and split.
        etag: by which the server knows this version.
        last_modified: when the server says that it changed.
        links: keys of the pages that it links to.
        chunks: fingerprint of each chunk by its id; None where it isn't certain that the store holds it so.
    """

    location: str
    digest: str = ""
    text: str = ""
    recipe: str = ""
    etag: str | None = None
    last_modified: str | None = None
    links: tuple[str, ...] = ()
    chunks: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(slots=True)
class Manifest:
    """The pages of one source.

    Attributes:
        source: its name.
        pages: by their keys.
    """

    source: str
    pages: dict[str, PageRecord] = field(default_factory=dict)

    @classmethod
    def load(cls, state: State, source: str) -> "Manifest | None":
        """Read the manifest of a source; None where there is none, or it is damaged.

        Raises:
            NewerFormatError: a newer version wrote it.
        """
        data = state.read(_blob_of(source))
        if data is None:
            return None
        try:
            content = json.loads(gzip.decompress(data))
            if content["format"] > _FORMAT:
                raise NewerFormatError(
                    f"what was ingested from {source} was noted by a newer version of Deep Memory: update it"
                )
            keys: list[str] = content["keys"]
            pages = {keys[number]: _decoded(page, keys) for number, page in enumerate(content["pages"])}
        except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError):
            return None
        return cls(source, pages)

    def save(self, state: State) -> None:
        """Write it, whole or not at all."""
        # Pages come first among the keys, in order; what they link to beyond themselves comes after.
        links = (link for page in self.pages.values() for link in page.links)
        numbers = {key: number for number, key in enumerate(dict.fromkeys((*self.pages, *links)))}
        content = {
            "format": _FORMAT,
            "source": self.source,
            "keys": list(numbers),
            "pages": [_encoded(page, numbers) for page in self.pages.values()],
        }
        data = json.dumps(content, separators=(",", ":")).encode("ascii")
        state.write(_blob_of(self.source), gzip.compress(data, compresslevel=3, mtime=0))


def _blob_of(source: str) -> str:
    return f"ingest/{fingerprint(source)}.json.gz"


def _encoded(page: PageRecord, numbers: Mapping[str, int]) -> dict[str, Any]:
    content: dict[str, Any] = {name: getattr(page, name) for name in _TEXTS}
    return content | {"links": [numbers[key] for key in page.links], "chunks": dict(page.chunks)}


def _decoded(content: Mapping[str, Any], keys: list[str]) -> PageRecord:
    texts = {name: content[name] for name in _TEXTS}
    links = tuple(keys[number] for number in content["links"])
    return PageRecord(**texts, links=links, chunks=dict(content["chunks"]))


_TEXTS = ("location", "digest", "text", "recipe", "etag", "last_modified")
