"""A store kept in step with sites and folders: what is added, updated, kept and removed, and what survives trouble."""

import gzip
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from site_server import Reply, Site, page, quick
from store_for_ingest import Store

from deepmemory.errors import Cancelled, IngestError, InputError, NewerFormatError
from deepmemory.ingest import IngestOptions, IngestReport, SplitOptions, ingest

WORDS = "Some words that make a paragraph long enough to stand alone, as paragraphs in documentation mostly do. "


def from_site(site: Site, store: Store, **options: object) -> IngestReport:
    return ingest(site.url + "/", store, options=IngestOptions(crawl=quick(**options)))


def chunks(report: IngestReport) -> tuple[int, int, int, int]:
    return report.chunks_added, report.chunks_updated, report.chunks_unchanged, report.chunks_removed


@pytest.fixture
def three(site: Site) -> Site:
    """Three pages, each with two sections of a chunk each."""

    def two_sections(name: str, *links: str) -> str:
        nav = "".join(f'<a href="{link}">x</a>' for link in links)
        first = f"<h1 id=top>{name}</h1><p>{name}: {WORDS * 3}</p>"
        return f"<nav>{nav}</nav><main>{first}<h2 id=more>More of {name}</h2><p>{WORDS * 3}</p></main>"

    site.pages |= {
        "/": Reply(two_sections("start", "/a", "/b"), etag=True),
        "/a": Reply(two_sections("alpha", "/"), etag=True),
        "/b": two_sections("beta"),
    }
    return site


class TestSites:
    def test_documents_say_where_they_come_from(self, three: Site) -> None:
        store = Store()
        report = from_site(three, store)
        assert (report.pages_read, *chunks(report)) == (3, 6, 0, 0, 0)
        text, metadata = next(
            found for found in store.content().values() if found[1]["page"] == "/a" and found[1]["anchor"] == "more"
        )
        assert text.startswith("alpha\n\n## More of alpha\n\nSome words")
        start, end = metadata.pop("start"), metadata.pop("end")
        assert metadata == {
            "source": f"{three.url}/",
            "page": "/a",
            "url": f"{three.url}/a",
            "title": "alpha",
            "headings": ["alpha", "More of alpha"],
            "anchors": ["more"],
            "anchor": "more",
        }
        assert isinstance(start, int)
        assert isinstance(end, int)
        assert text.endswith(store.pages()["/a"][1][-(end - start) :])

    def test_the_second_time_nothing_is_embedded(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        before = store.content()
        store.embedded()
        report = from_site(three, store)
        assert chunks(report) == (0, 0, 6, 0)
        assert (report.pages_read, report.pages_unchanged) == (0, 3)
        assert not report.changed
        assert store.embedded() == []
        assert store.content() == before

    def test_a_change_is_all_that_is_embedded_and_ids_stay(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        before = store.content()
        store.embedded()
        reply = three.pages["/a"]
        assert isinstance(reply, Reply)
        assert isinstance(reply.body, str)
        # A longer first section shifts the second, whose text stays as it is.
        three.pages["/a"] = Reply(reply.body.replace("alpha: ", "alpha, changed: "), etag=True)
        report = from_site(three, store)
        assert chunks(report) == (0, 1, 5, 0)
        after = store.content()
        assert set(after) == set(before)
        assert [text.split("\n")[0] for text in store.embedded()] == ["# alpha"]
        shifted = next(
            id for id, (_, beside) in before.items() if beside["page"] == "/a" and beside["anchor"] == "more"
        )
        assert after[shifted][0] == before[shifted][0]
        assert after[shifted][1]["start"] == before[shifted][1]["start"] + len(", changed")  # type: ignore[operator]

    def test_pages_that_are_gone_or_no_longer_linked_are_removed(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        del three.pages["/b"]
        report = from_site(three, store)
        assert (report.pages_removed, report.chunks_removed) == (1, 2)
        assert set(store.pages()) == {"/", "/a"}
        reply = three.pages["/"]
        assert isinstance(reply, Reply)
        assert isinstance(reply.body, str)
        three.pages["/"] = reply.body.replace('href="/a"', 'href="/"')
        assert from_site(three, store).pages_removed == 1
        assert set(store.pages()) == {"/"}

    def test_a_page_that_comes_back_gets_its_old_ids(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        before = store.content()
        beta = three.pages.pop("/b")
        from_site(three, store)
        three.pages["/b"] = beta
        from_site(three, store)
        assert store.content() == before

    @pytest.mark.parametrize("status", [500, 503, 403, 429])
    def test_a_page_that_fails_for_now_keeps_what_it_had(self, three: Site, status: int) -> None:
        store = Store()
        from_site(three, store)
        before = store.content()
        beta = three.pages["/b"]
        three.pages["/b"] = Reply("", status)
        report = from_site(three, store, retries=0)
        assert store.content() == before
        assert (report.pages_failed, report.is_complete, report.chunks_removed) == (1, False, 0)
        assert report.problems == (f"{three.url}/b: the server answered {status}; what was read before is kept",)
        three.pages["/b"] = beta
        assert from_site(three, store).is_complete

    def test_pages_behind_one_that_fails_are_kept(self, three: Site) -> None:
        store = Store()
        three.pages["/"] = page("start", "/a", "/b", text=WORDS)
        from_site(three, store)
        three.pages["/"] = Reply("", 500)
        report = from_site(three, store, retries=0)
        assert set(store.pages()) == {"/", "/a", "/b"}
        assert report.pages_failed == 1

    def test_what_a_limit_leaves_out_is_not_removed(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        three.pages["/"] = page("start", "/new1", "/new2", "/a", text=WORDS)
        three.pages["/new1"] = page("new1", text=WORDS)
        report = from_site(three, store, max_pages=2)
        assert report.pages_unreached > 0
        assert report.pages_removed == 0
        assert set(store.pages()) == {"/", "/a", "/b", "/new1"}
        assert "the limit of 2 pages" in report.problems[-1]

    def test_a_limit_does_not_keep_what_is_known_to_be_gone(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        del three.pages["/a"]
        report = from_site(three, store, max_pages=1, concurrency=1)
        assert report.pages_unreached > 0
        report = from_site(three, store, max_pages=2, concurrency=1)
        assert "/a" not in store.pages()
        assert "/b" in store.pages()

    def test_fewer_links_deep_means_fewer_pages(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        from_site(three, store, max_depth=0)
        assert set(store.pages()) == {"/"}

    def test_one_page_at_several_addresses_is_stored_once(self, site: Site) -> None:
        store = Store()
        site.pages |= {
            "/": page("start", "/index.html", "/a?print=1", "/a", text=WORDS),
            "/index.html": page("start", text=WORDS),
            "/a": page("a", text=WORDS),
            "/a?print=1": page("a", "/other", text=WORDS),
        }
        for _ in range(2):
            report = from_site(site, store)
            assert set(store.pages()) == {"/", "/a?print=1"}
            assert report.pages_skipped["the same text as another page"] == 2

    def test_a_page_is_shown_at_its_canonical_address_if_that_is_the_page(self, site: Site) -> None:
        store = Store()
        site.pages |= {
            "/": f'<link rel=canonical href="{site.url}/index.html"><a href="/a?x=1">a</a><p>{WORDS}',
            "/a?x=1": f'<link rel=canonical href="{site.url}/"><p>Another page. {WORDS}',
        }
        from_site(site, store)
        urls = {metadata["page"]: metadata["url"] for _, metadata in store.content().values()}
        assert urls == {"/": f"{site.url}/index.html", "/a?x=1": f"{site.url}/a?x=1"}

    def test_a_named_source_may_move_to_another_address(self, three: Site) -> None:
        store = Store()
        options = IngestOptions(crawl=quick(), name="guide")
        ingest(f"{three.url}/", store, options=options)
        ids = set(store.content())
        store.embedded()
        with Site() as elsewhere:
            elsewhere.pages = three.pages
            report = ingest(f"{elsewhere.url}/", store, options=options)
            assert set(store.content()) == ids
            assert {str(beside["url"]).startswith(elsewhere.url) for _, beside in store.content().values()} == {True}
        assert store.embedded() == []
        assert chunks(report) == (0, 0, 6, 0)

    def test_other_sizes_split_anew(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        ingest(f"{three.url}/", store, options=IngestOptions(crawl=quick(), split=SplitOptions(max_chars=300)))
        assert all(len(text) <= 300 for text, _ in store.content().values())
        assert len(store.content()) > 6

    def test_two_sources_keep_apart(self, three: Site, tmp_path: Path) -> None:
        store = Store()
        (tmp_path / "a.md").write_text(f"# A\n\n{WORDS}")
        from_site(three, store)
        ingest(tmp_path, store)
        three.pages = {"/": page("only", text=WORDS)}
        from_site(three, store)
        assert set(store.pages()) == {"/", "a.md"}

    def test_a_site_that_answers_no_more_changes_nothing(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        before = store.content()
        three.stop()
        with pytest.raises(IngestError, match="can't be crawled"):
            from_site(three, store, retries=0)
        assert store.content() == before

    def test_pages_without_text_are_counted_and_said(self, site: Site) -> None:
        store = Store()
        site.pages |= {
            "/": page("start", "/a", "/b", text=WORDS),
            "/a": "<div id=root></div><script>render()</script>",
            "/b": "<div id=app></div>",
        }
        report = from_site(site, store)
        assert report.pages_skipped == {"no text": 2}
        assert "JavaScript" in report.problems[-1]


class TestTheStoreIsTheTruth:
    def test_documents_that_somebody_deleted_come_back(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        before = store.content()
        store.delete(ids=list(before)[:3])
        report = from_site(three, store)
        assert chunks(report) == (3, 0, 3, 0)
        assert store.content() == before

    def test_a_lost_record_is_made_anew_from_the_documents(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        (blob,) = store.state.list("ingest")
        store.state.delete(blob)
        del three.pages["/b"]
        from_site(three, store)
        assert set(store.pages()) == {"/", "/a"}

    @pytest.mark.parametrize(
        "damage", [b"", b"not gzip", gzip.compress(b"[]", mtime=0), gzip.compress(b'{"format": 1}', mtime=0)]
    )
    def test_so_is_a_damaged_one(self, three: Site, damage: bytes) -> None:
        store = Store()
        from_site(three, store)
        before = store.content()
        (blob,) = store.state.list("ingest")
        store.state.write(blob, damage)
        from_site(three, store)
        assert store.content() == before

    def test_one_of_a_newer_version_is_left_alone(self, three: Site) -> None:
        store = Store()
        from_site(three, store)
        (blob,) = store.state.list("ingest")
        newer = gzip.compress(json.dumps({"format": 99}).encode())
        store.state.write(blob, newer)
        with pytest.raises(NewerFormatError, match="newer version"):
            from_site(three, store)
        assert store.state.read(blob) == newer

    def test_work_that_is_cancelled_goes_on_the_next_time(self, three: Site) -> None:
        store, whole = Store(), Store()
        from_site(three, whole)

        def stop(done: int, total: int) -> None:
            if done == 2:
                raise Cancelled

        with pytest.raises(Cancelled):
            ingest(f"{three.url}/", store, options=IngestOptions(crawl=quick()), on_page=stop)
        from_site(three, store)
        assert store.content() == whole.content()

    def test_progress_is_told(self, three: Site) -> None:
        pages: list[tuple[int, int]] = []
        stored: list[tuple[int, int]] = []
        ingest(
            f"{three.url}/",
            Store(),
            options=IngestOptions(crawl=quick()),
            on_page=lambda *at: pages.append(at),
            on_chunk=lambda *at: stored.append(at),
        )
        assert [done for done, _ in pages] == [1, 2, 3]
        assert pages[-1] == (3, 3)
        assert all(done <= total for done, total in pages + stored)
        assert stored[-1] == (6, 6)


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        root = tmp_path / "handbook"
        (root / "deep" / "er").mkdir(parents=True)
        (root / "a.md").write_text(f"# Alpha\n\n{WORDS}")
        (root / "b.html").write_text(f"<title>Beta</title><main><p>{WORDS} b</p></main>")
        (root / "deep" / "c.txt").write_text(f"{WORDS} c")
        (root / "deep" / "er" / "d.rst").write_text(f"Delta\n=====\n\n{WORDS} d\n")
        (root / "logo.png").write_bytes(b"png")
        (root / ".hidden.md").write_text("hidden")
        (root / ".git").mkdir()
        (root / ".git" / "e.md").write_text("hidden")
        return root

    def test_files_of_each_kind_are_read_and_others_counted(self, folder: Path) -> None:
        store = Store()
        report = ingest(folder, store)
        assert set(store.pages()) == {"a.md", "b.html", "deep/c.txt", "deep/er/d.rst"}
        assert report.pages_skipped == {".png is not read": 1}
        titles = {beside["page"]: beside["title"] for _, beside in store.content().values()}
        assert titles == {"a.md": "Alpha", "b.html": "Beta", "deep/c.txt": "c.txt", "deep/er/d.rst": "Delta"}
        beside = next(iter(store.content().values()))[1]
        assert beside["source"] == str(folder)
        assert beside["path"] == beside["page"]
        assert "url" not in beside

    def test_changes_are_followed(self, folder: Path) -> None:
        store = Store()
        ingest(str(folder), store)
        (folder / "a.md").write_text(f"# Alpha\n\nChanged. {WORDS}")
        (folder / "b.html").unlink()
        (folder / "new.md").write_text(f"# New\n\n{WORDS}")
        report = ingest(str(folder), store)
        assert chunks(report) == (1, 1, 2, 1)
        assert set(store.pages()) == {"a.md", "deep/c.txt", "deep/er/d.rst", "new.md"}

    def test_links_out_of_the_folder_are_not_followed(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "secret.md").write_text("secret")
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "x.md").write_text("secret")
        (folder / "link.md").symlink_to(tmp_path / "secret.md")
        (folder / "folder").symlink_to(tmp_path / "outside")
        (folder / "within.md").symlink_to(folder / "deep" / "c.txt")
        (folder / "dangling.md").symlink_to(folder / "nothing.md")
        store = Store()
        report = ingest(folder, store)
        assert not any("secret" in text for text, _ in store.content().values())
        assert report.pages_skipped["a link out of the folder"] == 1
        assert report.problems == (f"{folder / 'dangling.md'}: it can't be read: No such file or directory",)

    def test_a_single_file(self, folder: Path) -> None:
        store = Store()
        ingest(folder / "a.md", store)
        assert set(store.pages()) == {"a.md"}

    def test_files_that_cannot_be_read_are_told_together_and_keep_what_they_had(self, folder: Path) -> None:
        store = Store()
        (folder / "x.pdf").write_bytes(b"%PDF-1.4 broken")
        (folder / "y.pdf").write_bytes(b"%PDF-1.4 broken too")
        ingest(folder, store)
        before = store.content()
        (folder / "a.md").unlink()
        (folder / "a.md").symlink_to(folder / "nothing")
        report = ingest(folder, store)
        assert report.pages_failed == 3
        assert len(report.problems) == 3
        assert store.content() == before

    def test_without_the_extra_a_pdf_is_one_problem_among_files_that_are_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pypdf", None)
        (folder / "x.pdf").write_bytes(b"%PDF-1.7")
        report = ingest(folder, Store())
        assert report.pages_read == 4
        assert "pip install 'deepmemory[pdf]'" in report.problems[0]
        with pytest.raises(IngestError, match="pip install"):
            ingest(folder / "x.pdf", Store())

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
    def test_a_folder_that_cannot_be_listed_keeps_what_it_had(self, folder: Path) -> None:
        store = Store()
        ingest(folder, store)
        (folder / "deep").chmod(0)
        try:
            report = ingest(folder, store)
        finally:
            (folder / "deep").chmod(0o755)
        assert report.pages_failed == 1
        assert "deep/c.txt" in store.pages()

    def test_a_name_that_is_no_text(self, folder: Path) -> None:
        try:
            Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.md")).write_text(f"# Coffee\n\n{WORDS}")
        except OSError:
            pytest.skip("this file system takes only names that are text")
        store = Store()
        ingest(folder, store)
        assert "caf\ufffd.md" in store.pages()

    @pytest.mark.parametrize("content", [{}, {"logo.png": b"png"}])
    def test_a_folder_with_nothing_to_read(self, tmp_path: Path, content: dict[str, bytes]) -> None:
        for name, data in content.items():
            (tmp_path / name).write_bytes(data)
        with pytest.raises(IngestError, match="holds no file that is read"):
            ingest(tmp_path, Store())

    def test_a_folder_that_lost_its_files_changes_nothing(self, folder: Path) -> None:
        store = Store()
        ingest(folder, store)
        before = store.content()
        folder.rename(folder.with_name("elsewhere"))
        folder.mkdir()
        with pytest.raises(IngestError, match="holds no file"):
            ingest(folder, store)
        assert store.content() == before

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(IngestError, match="doesn't exist: name a folder, a file, or an address"):
            ingest(tmp_path / "nowhere", Store())

    @pytest.mark.parametrize("source", ["", "  ", []])
    def test_no_source_at_all(self, source: object) -> None:
        with pytest.raises(InputError):
            ingest(source, Store())  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["one", "two", "three"]), min_size=1),
        min_size=1,
        max_size=4,
    )
)
def test_after_any_changes_the_store_is_as_after_a_first_run(
    tmp_path_factory: pytest.TempPathFactory, versions: list[dict[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("versions")
    options = IngestOptions(name="notes")
    store, fresh = Store(), Store()
    for version in versions:
        for path in root.iterdir():
            path.unlink()
        for name, text in version.items():
            (root / f"{name}.md").write_text(f"# {name}\n\n{text}\n\n## {text}\n\n{WORDS * len(text)}\n")
        ingest(root, store, options=options)
    ingest(root, fresh, options=options)
    assert store.content() == fresh.content()
