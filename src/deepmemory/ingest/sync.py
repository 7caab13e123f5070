"""Keep a store in step with a source: add what is new, update what changed, remove what is gone."""

import hashlib
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deepmemory.data import Document
from deepmemory.errors import IngestError, InputError, MissingExtraError
from deepmemory.ingest.changes import Changes
from deepmemory.ingest.crawl import crawl, start_addresses
from deepmemory.ingest.extract import EXTRACTOR_VERSION, extract
from deepmemory.ingest.folder import read_folder
from deepmemory.ingest.manifest import Manifest, PageRecord, fingerprint
from deepmemory.ingest.options import CrawlOptions
from deepmemory.ingest.report import IngestReport
from deepmemory.ingest.split import Chunk, SplitOptions, split
from deepmemory.ingest.target import Target
from deepmemory.ingest.text import PageText
from deepmemory.ingest.urls import canonical_url, is_same_page, origin_of, prefix_of
from deepmemory.ingest.visit import Known, Page, Status, Visit
from deepmemory.progress import Progress

__all__ = ["IngestOptions", "ingest"]

_IDS_AT_ONCE = 1_000
_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """How a source is ingested.

    Attributes:
        crawl: limits and manners towards a site.
        split: how large chunks are.
        name: under which the documents' metadata have the source; with a name of its own, a source may move to
            another host or folder and stay the same. By default the address, or the folder's full path.
        max_file_bytes: larger files of a folder are skipped.
        at_once: chunks embedded and stored between two writes of what is known of the source; with more of them several
            workers have something to do, and a run that is killed has more to do again.
    """

    crawl: CrawlOptions = field(default_factory=CrawlOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    name: str | None = None
    max_file_bytes: int = 20 * 2**20
    at_once: int = 256


def ingest(
    source: str | os.PathLike[str] | Sequence[str],
    target: Target,
    *,
    options: IngestOptions | None = None,
    on_page: Progress | None = None,
    on_chunk: Progress | None = None,
) -> IngestReport:
    """Bring a site or a folder into a store, or bring what the store has of it up to date.

    A complete run leaves what a first run would. A page that can't be read for now keeps what it had, and while a
    limit leaves pages out, only those are removed of which the site says that they are gone. It can be interrupted
    at any moment; the next run goes on from there.

    Each document's metadata have the ``source``, the ``page`` (its name within the source), the page's ``title``
    and ``url`` (or ``path``), the ``headings`` above the text, its ``start`` and ``end`` in the page's text, the
    ``anchors`` in it and the ``anchor`` to link to.

    Args:
        source: an address, several on one host, or the path of a folder or file.
        target: the store.
        options: limits, sizes and the name of the source.
        on_page: called with pages seen, and as many as are known to be there.
        on_chunk: called with chunks stored, and as many as are known to be stored.

    Raises:
        InputError: the source or an option makes no sense.
        IngestError: nothing of the source could be read; the store is as it was.
    """
    options = options or IngestOptions()
    addresses = _addresses(source)
    name = options.name or _name_of(source, addresses)
    manifest = _manifest_of(target, name)
    run = _Run(manifest, Changes(target, manifest, on_chunk, at_once=options.at_once), options, is_site=bool(addresses))
    if addresses:
        visits = crawl(addresses, options.crawl, known=dict(run.known(origin_of(addresses[0]))))
    else:
        visits = read_folder(_path_of(source), max_file_bytes=options.max_file_bytes)
    return run.over(visits, on_page)


def _addresses(source: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    """The addresses of a site; none where the source is a folder."""
    if isinstance(source, os.PathLike):
        return []
    if isinstance(source, str):
        return start_addresses(source) if "://" in source else []
    return start_addresses(source)


def _path_of(source: str | os.PathLike[str] | Sequence[str]) -> Path:
    if isinstance(source, str | os.PathLike) and os.fspath(source).strip():
        return Path(source).expanduser()
    raise InputError("a source is an address such as https://..., or the path of a folder or file; it is empty")


def _name_of(source: str | os.PathLike[str] | Sequence[str], addresses: Sequence[str]) -> str:
    if not addresses:
        return str(_path_of(source).resolve())
    if len(addresses) == 1:
        return addresses[0]
    shared = posixpath.commonpath([prefix_of(address) for address in addresses])
    return f"{origin_of(addresses[0])}{shared.rstrip('/')}/"


def _manifest_of(target: Target, name: str) -> Manifest:
    """What is known of a source, without the chunks that are no longer in the store."""
    manifest = Manifest.load(target.state, name) or _recovered(target, name)
    ids = [id for page in manifest.pages.values() for id in page.chunks]
    there: set[str] = set()
    for start in range(0, len(ids), _IDS_AT_ONCE):
        there |= {document.id for document in target.get(ids[start : start + _IDS_AT_ONCE]) if document}
    for key, page in manifest.pages.items():
        if not there.issuperset(page.chunks):
            chunks = {id: mark for id, mark in page.chunks.items() if id in there}
            manifest.pages[key] = replace(page, digest="", chunks=chunks)
    return manifest


def _recovered(target: Target, name: str) -> Manifest:
    """A manifest made from the documents themselves, where theirs was lost."""
    manifest = Manifest(name)
    if not target.count({"source": name}):
        return manifest
    for document in target.documents():
        if document.metadata.get("source") == name:
            key = str(document.metadata.get("page", ""))
            page = manifest.pages.get(key) or PageRecord(str(document.metadata.get("url", "")))
            manifest.pages[key] = replace(page, chunks={**page.chunks, document.id: None})
    return manifest


class _Run:
    """One pass over a source."""

    def __init__(self, manifest: Manifest, changes: Changes, options: IngestOptions, *, is_site: bool) -> None:
        self._manifest = manifest
        self._changes = changes
        self._split = options.split
        self._recipe = f"{EXTRACTOR_VERSION}:{options.split.max_chars}:{options.split.min_chars}"
        self._is_site = is_site
        self._there: set[str] = set()  # pages that are as the store will have them
        self._kept: set[str] = set()  # pages, or folders, that can't be read now
        self._gone: set[str] = set()  # pages that were seen not to be there, or not to be read
        self._texts: dict[str, str] = {}  # which page has which text
        self._skipped: Counter[str] = Counter()
        self._problems: list[str] = []
        self._read = self._unchanged = self._unreached = 0
        self._limit = ""

    def known(self, origin: str) -> Iterator[tuple[str, Known]]:
        """What may be said to the server of pages that the store has for certain."""
        for key, page in self._manifest.pages.items():
            is_certain = page.digest and page.recipe.startswith(f"{self._recipe}:")
            is_certain = is_certain and page.location.startswith(f"{origin}/")
            yield key, Known(*((page.etag, page.last_modified) if is_certain else (None, None)), links=page.links)

    def over(self, visits: Iterable[Visit], on_page: Progress | None) -> IngestReport:
        """Take in each page, then let go of those that are gone."""
        for seen, visit in enumerate(visits, start=1):
            self._take(visit)
            if on_page is not None and visit.status is not Status.UNREACHED:
                on_page(seen, seen + visit.waiting)
        if not self._there:
            shown = "; ".join(self._problems[:_SHOWN_PROBLEMS]) or f"no page holds text ({dict(self._skipped)})"
            raise IngestError(f"nothing of {self._manifest.source} could be read: {shown}")
        removed = [key for key in self._manifest.pages if self._is_to_go(key)]
        for key in removed:
            self._changes.remove(key)
        self._changes.finish()
        return self._report(len(removed))

    def _take(self, visit: Visit) -> None:
        match visit.status:
            case Status.FETCHED if visit.page is not None:
                self._take_content(visit, visit.page)
            case Status.UNCHANGED:
                self._take_unchanged(visit.key, self._manifest.pages[visit.key])
            case Status.FAILED:
                self._fail(visit, visit.reason)
            case Status.UNREACHED:
                self._unreached += 1
                self._limit = visit.reason
            case Status.GONE:
                self._gone.add(visit.key)
                if visit.key not in self._manifest.pages:
                    self._skip(visit.key, visit.reason)
            case _:
                self._skip(visit.key, _in_general(visit.reason))

    def _take_content(self, visit: Visit, page: Page) -> None:
        record = PageRecord(
            location=visit.location,
            digest=hashlib.sha256(page.body).hexdigest(),
            recipe=f"{self._recipe}:{page.media_type}",
            etag=page.etag,
            last_modified=page.last_modified,
            links=page.links,
        )
        before = self._manifest.pages.get(visit.key)
        if before and (before.digest, before.recipe, before.location) == (
            record.digest,
            record.recipe,
            record.location,
        ):
            self._take_unchanged(visit.key, replace(record, text=before.text))
            return
        try:
            text = extract(page.body, page.media_type, charset=page.charset)
        except (IngestError, MissingExtraError) as error:
            self._fail(visit, str(error))
            return
        record = replace(record, text=fingerprint(text.text))
        if not text.text:
            self._skip(visit.key, "no text")
        elif self._is_first(visit.key, record.text):
            self._read += 1
            self._there.add(visit.key)
            self._changes.put(visit.key, record, self._documents(visit, text))

    def _take_unchanged(self, key: str, record: PageRecord) -> None:
        if self._is_first(key, record.text):
            self._unchanged += 1
            self._there.add(key)
            self._changes.keep(key, record)

    def _is_first(self, key: str, text: str) -> bool:
        """Whether no other page had this text; sites show one page at several addresses."""
        first = self._texts.setdefault(text, key)
        if first != key:
            self._skip(key, "the same text as another page")
        return first == key

    def _skip(self, key: str, reason: str) -> None:
        self._gone.add(key)
        self._skipped[reason] += 1

    def _fail(self, visit: Visit, reason: str) -> None:
        before = self._manifest.pages.get(visit.key)
        self._kept.add(visit.key)
        if before is not None:
            self._texts.setdefault(before.text, visit.key)
        kept = "; what was read before is kept" if before else ""
        self._problems.append(f"{visit.location}: {reason}{kept}")

    def _is_to_go(self, key: str) -> bool:
        """Whether a page that is known is to be removed."""
        if key in self._there or key in self._kept:
            return False
        if not self._is_site and any(key.startswith(f"{folder}/") for folder in self._kept):
            return False
        return key in self._gone or not self._unreached

    def _documents(self, visit: Visit, text: PageText) -> list[Document]:
        """A page's chunks as documents; their ids stay when the page changes elsewhere."""
        page = {"source": self._manifest.source, "page": visit.key, "title": text.title}
        page |= {"url": _address(visit.location, text)} if self._is_site else {"path": visit.key}
        if not text.title:
            page["title"] = visit.key.rpartition("/")[2]
        documents = []
        counts: Counter[str] = Counter()
        for chunk in split(text, self._split):
            place = _place(chunk)
            id = fingerprint(self._manifest.source, visit.key, place, str(counts[place]))
            counts[place] += 1
            beside = {"headings": list(chunk.headings), "anchors": list(chunk.anchors), "anchor": chunk.anchor}
            documents.append(Document(id, chunk.text, {**page, **beside, "start": chunk.start, "end": chunk.end}))
        return documents

    def _report(self, removed: int) -> IngestReport:
        problems = list(self._problems)
        if self._unreached:
            problems.append(
                f"the crawl ended at {self._limit}: {self._unreached} pages that are linked were not read, and nothing "
                "was removed of what may be among them"
            )
        if self._skipped["no text"] > self._read + self._unchanged:
            problems.append("most pages hold no text: what a browser makes of them with JavaScript isn't seen")
        changes = self._changes
        return IngestReport(
            source=self._manifest.source,
            pages_read=self._read,
            pages_unchanged=self._unchanged,
            pages_removed=removed,
            pages_failed=len(self._problems),
            pages_skipped=dict(self._skipped.most_common()),
            pages_unreached=self._unreached,
            chunks_added=changes.added,
            chunks_updated=changes.updated,
            chunks_unchanged=changes.unchanged,
            chunks_removed=changes.removed,
            problems=tuple(problems),
        )


def _address(location: str, text: PageText) -> str:
    """The address to show: the page's own idea of it, where that is no more than another spelling."""
    given = canonical_url(text.canonical, location) if text.canonical else None
    return given if given and is_same_page(given, location) else location


def _place(chunk: Chunk) -> str:
    return f"#{chunk.anchor}" if chunk.anchor else " > ".join(chunk.headings)


def _in_general(reason: str) -> str:
    """A reason for skipping without what is particular to one page, so that pages can be counted by it."""
    return reason.partition(" to http")[0].partition(", to ")[0]
