"""Crawling real servers on loopback: what is read, in which order, how politely, and what stops it."""

import datetime
import gzip
import itertools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_server import Asked, Reply, Site, page, quick

from deepmemory.errors import IngestError, InputError
from deepmemory.ingest import CrawlOptions, Known, Status, Visit, crawl
from deepmemory.ingest.addresses import is_public
from deepmemory.ingest.urls import canonical_url, prefix_of


def by_key(visits: Iterator[Visit]) -> dict[str, Visit]:
    return {visit.key: visit for visit in visits}


def keys(visits: Iterator[Visit], status: Status = Status.FETCHED) -> list[str]:
    return [visit.key for visit in visits if visit.status is status]


class TestWhatIsRead:
    def test_pages_come_breadth_first_in_the_order_of_links_whatever_answers_first(self, site: Site) -> None:
        site.pages |= {
            "/": page("start", "/slow", "/b", "/c"),
            "/slow": lambda _: Reply(page("slow", "/d"), delay=0.2),
            "/b": page("b", "/e", "/"),
            "/c": page("c", "/d#part", "/b?utm_source=mail"),
            "/d": page("d"),
            "/e": page("e"),
        }
        assert keys(crawl(site.url, quick())) == ["/", "/slow", "/b", "/c", "/d", "/e"]
        assert sorted(site.paths) == ["/", "/b", "/c", "/d", "/e", "/slow"]

    def test_only_the_same_host_and_path_are_crawled(self, site: Site) -> None:
        site.pages |= {
            "/docs/a.html": page(
                "a", "b.html", "/blog/", "https://elsewhere.example/docs/x", "../docs/c", "mailto:x@y.z"
            ),
            "/docs/b.html": page("b"),
            "/docs/c": page("c"),
            "/blog/": page("blog"),
        }
        assert keys(crawl(f"{site.url}/docs/a.html", quick())) == ["/docs/a.html", "/docs/b.html", "/docs/c"]
        assert keys(crawl(f"{site.url}/docs/a.html", quick(prefix="/"))) == [
            "/docs/a.html",
            "/docs/b.html",
            "/blog/",
            "/docs/c",
        ]

    def test_several_starts_at_depth_zero_read_just_those(self, site: Site) -> None:
        site.pages |= {f"/{name}.html": page(name, "/a.html", "/z.html") for name in "abcz"}
        starts = [f"{site.url}/{name}.html" for name in "cab"]
        assert keys(crawl(starts, quick(max_depth=0))) == ["/c.html", "/a.html", "/b.html"]

    def test_patterns_choose_among_the_links(self, site: Site) -> None:
        site.pages |= {
            "/": page("start", "/api/x", "/api/old/y", "/news", "/topic?key=A"),
            **{path: page(path) for path in ("/api/x", "/api/old/y", "/news", "/topic?key=A")},
        }
        assert keys(crawl(site.url, quick(include=("/api/*",), exclude=("*/old/*",)))) == ["/", "/api/x"]
        assert keys(crawl(site.url, quick(include=(f"{site.url}/top*",)))) == ["/", "/topic?key=A"]

    def test_links_are_found_where_pages_have_them(self, site: Site) -> None:
        site.pages |= {
            "/": '<base href="/deep/"><meta http-equiv=refresh content="0; url=r.html"><frameset><frame src=f.html>'
            "</frameset><map><area href=m.html></map><a href=' a.html '>a</a>",
            **{f"/deep/{name}.html": page(name) for name in "rfma"},
        }
        assert set(keys(crawl(site.url, quick()))) == {
            "/",
            "/deep/r.html",
            "/deep/f.html",
            "/deep/m.html",
            "/deep/a.html",
        }

    def test_only_kinds_that_are_read_are_fetched(self, site: Site) -> None:
        site.pages |= {
            "/": page("start", "/guide.md", "/manual", "/data", "/logo.png", "/download"),
            "/guide.md": Reply("# Guide", type="text/markdown"),
            "/manual": Reply(b"%PDF-1.4", type="application/pdf"),
            "/data": Reply("{}", type="application/json"),
            "/logo.png": Reply(b"png", type="image/png"),
            "/download": Reply(b"\0\1", type="application/octet-stream"),
        }
        visits = by_key(crawl(site.url, quick()))
        kinds = {key: visit.page.media_type for key, visit in visits.items() if visit.page}
        assert kinds == {"/": "text/html", "/guide.md": "text/markdown", "/manual": "application/pdf"}
        assert visits["/data"].reason == "application/json is not read"
        assert visits["/logo.png"].reason == "not a page by its name"
        assert "/logo.png" not in site.paths

    def test_the_sitemap_is_read_in_parts_and_compressed(self, site: Site) -> None:
        places = "".join(f"<url><loc>{site.url}/{name}</loc></url>" for name in ("hidden", "other"))
        listing = f"<urlset xmlns='x'>{places}</urlset>"
        site.pages |= {
            "/robots.txt": Reply(f"Sitemap: {site.url}/maps/index.xml", type="text/plain"),
            "/maps/index.xml": Reply(
                f"<sitemapindex><sitemap><loc>{site.url}/maps/one.xml.gz</loc></sitemap></sitemapindex>",
                type="text/xml",
            ),
            "/maps/one.xml.gz": Reply(gzip.compress(listing.encode()), type="application/gzip"),
            "/": page("start"),
            "/hidden": page("hidden"),
            "/other": page("other"),
        }
        assert keys(crawl(site.url, quick())) == ["/", "/hidden", "/other"]
        assert keys(crawl(site.url, quick(sitemap=False))) == ["/"]

    @pytest.mark.parametrize(
        "sitemap",
        [
            "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><urlset><loc>&b;</loc></urlset>",
            "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><urlset><url><loc>http://x/&a;</loc></url></urlset>",
            "<urlset><url><loc>",
            "not xml at all",
            "",
            gzip.compress(b"<urlset>", mtime=0)[:12],
        ],
    )
    def test_a_hostile_or_broken_sitemap_changes_nothing(self, site: Site, sitemap: str | bytes) -> None:
        site.pages |= {"/sitemap.xml": Reply(sitemap, type="text/xml"), "/": page("start", "/a"), "/a": page("a")}
        assert keys(crawl(site.url, quick())) == ["/", "/a"]


class TestManners:
    def test_robots_are_obeyed_and_who_asks_says_so(self, site: Site) -> None:
        site.pages |= {
            "/robots.txt": Reply("User-agent: *\nDisallow: /private/\nAllow: /private/open", type="text/plain"),
            "/": page("start", "/private/x", "/private/open", "/a"),
            **{path: page(path) for path in ("/private/x", "/private/open", "/a")},
        }
        visits = by_key(crawl(site.url, quick()))
        assert visits["/private/x"].status is Status.SKIPPED
        assert visits["/private/x"].reason == "robots.txt forbids it"
        assert visits["/private/open"].status is Status.FETCHED
        assert "/private/x" not in site.paths
        assert all(asked.headers["User-Agent"].startswith("deepmemory/") for asked in site.asked)
        assert by_key(crawl(site.url, quick(respect_robots=False)))["/private/x"].status is Status.FETCHED

    def test_the_delay_that_robots_ask_for_is_kept(self, site: Site) -> None:
        site.pages |= {
            "/robots.txt": Reply("User-agent: deepmemory\nCrawl-delay: 0.15", type="text/plain"),
            "/": page("start", "/a", "/b"),
            "/a": page("a"),
            "/b": page("b"),
        }
        assert len(keys(crawl(site.url, quick(sitemap=False)))) == 3
        moments = [asked.moment for asked in site.asked]
        assert all(later - earlier > 0.1 for earlier, later in itertools.pairwise(moments[1:]))

    def test_a_site_that_forbids_everything_is_not_read(self, site: Site) -> None:
        site.pages |= {"/robots.txt": Reply("User-agent: *\nDisallow: /", type="text/plain"), "/": page("start")}
        with pytest.raises(IngestError, match=r"no page of .* could be read: .*robots\.txt forbids it"):
            list(crawl(site.url, quick()))
        assert site.paths == ["/robots.txt"]

    def test_rules_that_cannot_be_read_forbid_everything(self, site: Site) -> None:
        site.pages |= {"/robots.txt": Reply("down", 500), "/": page("start")}
        with pytest.raises(IngestError, match=r"its robots\.txt couldn't be read: the server answered 500, 2 times"):
            list(crawl(site.url, quick()))

    def test_a_page_instead_of_rules_is_none(self, site: Site) -> None:
        site.pages |= {"/robots.txt": Reply("<p>User-agent: *\nDisallow: /", type="text/html"), "/": page("start")}
        assert keys(crawl(site.url, quick())) == ["/"]

    def test_what_did_not_change_is_not_fetched_again_and_still_leads_on(self, site: Site) -> None:
        site.pages |= {
            "/": Reply(page("start", "/a"), etag=True),
            "/a": Reply(page("a", "/b"), etag=True),
            "/b": Reply(page("b"), headers={"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}),
        }
        first = by_key(crawl(site.url, quick()))
        known = {
            key: Known(visit.page.etag, visit.page.last_modified, visit.page.links)
            for key, visit in first.items()
            if visit.page
        }
        assert first["/b"].page is not None
        assert first["/b"].page.last_modified == "Wed, 01 Jan 2025 00:00:00 GMT"
        site.pages["/a"] = Reply(page("a", "/b", text="Changed."), etag=True)
        second = crawl(site.url, quick(), known=known)
        assert {visit.key: visit.status for visit in second} == {
            "/": Status.UNCHANGED,
            "/a": Status.FETCHED,
            "/b": Status.FETCHED,
        }
        assert site.asked[-1].headers["If-Modified-Since"] == "Wed, 01 Jan 2025 00:00:00 GMT"

    def test_a_server_that_asks_to_wait_is_asked_again_after_that(self, site: Site) -> None:
        answers = iter([Reply("later", 503, {"Retry-After": "1"}), Reply(page("start"))])
        site.pages["/"] = lambda _: next(answers)
        assert keys(crawl(site.url, quick(sitemap=False))) == ["/"]
        assert site.asked[-1].moment - site.asked[-2].moment > 0.9

    def test_a_server_that_asks_for_too_much_has_failed_for_now(self, site: Site) -> None:
        site.pages["/"] = Reply("later", 429, {"Retry-After": "3600"})
        with pytest.raises(IngestError, match="answered 429 and asks to come back in 3600 seconds"):
            list(crawl(site.url, quick()))


class TestLimits:
    @pytest.fixture
    def endless(self, site: Site) -> Site:
        """A calendar: each day links to the next."""

        class Pages(dict):  # type: ignore[type-arg]
            def get(self, path: str, default: object = None) -> object:
                if not path.startswith("/day/"):
                    return default
                day = int(path.rpartition("/")[2])
                return page(f"day {day}", f"/day/{day + 1}", f"/day/{day + 1000}")

        site.pages = Pages()
        return site

    def test_pages(self, endless: Site) -> None:
        visits = list(crawl(f"{endless.url}/day/1", quick(max_pages=20, prefix="/")))
        assert len(keys(iter(visits))) == 20
        left = [visit for visit in visits if visit.status is Status.UNREACHED]
        assert left
        assert {visit.reason for visit in left} == {"the limit of 20 pages"}

    def test_depth_is_part_of_what_is_asked_for_and_leaves_nothing_unreached(self, endless: Site) -> None:
        visits = list(crawl(f"{endless.url}/day/1", quick(max_depth=2, prefix="/")))
        assert sorted(visit.key for visit in visits) == sorted(f"/day/{day}" for day in (1, 2, 1001, 3, 1002, 2001))
        assert {visit.status for visit in visits} == {Status.FETCHED}

    def test_bytes(self, endless: Site) -> None:
        visits = list(crawl(f"{endless.url}/day/1", quick(max_total_bytes=1000, prefix="/", concurrency=1)))
        assert len(keys(iter(visits))) == 1000 // len(page("day 1", "/day/2", "/day/1001")) + 1
        assert visits[-1].reason == "the limit of 1,000 bytes"

    def test_seconds(self, site: Site) -> None:
        site.pages |= {"/": page("start", "/slow"), "/slow": Reply(page("slow"), delay=30)}
        visits = by_key(crawl(site.url, quick(max_seconds=1.0, timeout=30)))
        assert visits["/"].status is Status.FETCHED
        assert visits["/slow"].status is Status.UNREACHED
        assert visits["/slow"].reason == "the limit of 1 seconds"

    def test_a_page_that_is_too_large_is_skipped_whether_it_says_so_or_not(self, site: Site) -> None:
        site.pages |= {
            "/": page("start", "/says", "/streams", "/bomb"),
            "/says": Reply(b"x" * 5_000),
            "/streams": lambda _: Reply(itertools.repeat(b"x" * 1_000, 100_000)),
            "/bomb": Reply(gzip.compress(b"x" * 5_000_000), headers={"Content-Encoding": "gzip"}),
        }
        visits = by_key(crawl(site.url, quick(max_page_bytes=4_000)))
        for key in ("/says", "/streams", "/bomb"):
            assert (visits[key].status, visits[key].reason) == (Status.SKIPPED, "larger than 4,000 bytes")

    def test_addresses_that_grow_without_end_are_left(self, site: Site) -> None:
        class Pages(dict):  # type: ignore[type-arg]
            def get(self, path: str, default: object = None) -> object:
                return page(path, "docs/more/") if not path.endswith((".txt", ".xml")) else default

        site.pages = Pages()
        visits = list(crawl(site.url, quick()))
        assert len(keys(iter(visits))) == 4
        assert visits[-1].reason == "an address that repeats itself"

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"max_pages": 0}, "max_pages must be 1 or more, but is 0"),
            ({"delay": -1}, "delay must be 0 or more"),
            ({"timeout": float("nan")}, "timeout must be more than 0"),
            ({"include": "/docs/*"}, "include is a list of patterns"),
            ({"prefix": "docs"}, "prefix must begin with '/'"),
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, wrong: dict[str, object], message: str) -> None:
        with pytest.raises(InputError, match=message):
            CrawlOptions(**wrong)  # type: ignore[arg-type]


class TestWhatGoesWrong:
    @pytest.mark.parametrize("start", ["ftp://x.example/", "http://", "nonsense", "http://user:pw@x.example/", ""])
    def test_a_start_that_is_no_address_is_refused(self, start: str) -> None:
        with pytest.raises(InputError, match="no address to start at"):
            list(crawl(start))

    def test_starts_on_two_hosts_are_refused(self) -> None:
        with pytest.raises(InputError, match="stays on one host"):
            list(crawl(["http://a.example/", "http://b.example/"]))

    def test_no_start_is_refused(self) -> None:
        with pytest.raises(InputError, match="one address or more"):
            list(crawl([]))

    def test_a_server_that_is_not_there(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(IngestError, match=r"can't be crawled.*no connection"):
            list(crawl(f"http://127.0.0.1:{port}/", quick(retries=0)))

    def test_a_name_that_nobody_has(self) -> None:
        with pytest.raises(IngestError, match="can't be crawled"):
            list(crawl("http://no-such-host.invalid/", CrawlOptions(retries=0, timeout=2)))

    def test_a_start_that_is_gone(self, site: Site) -> None:
        with pytest.raises(IngestError, match=r"no page of .*/missing could be read: .*answered 404"):
            list(crawl(f"{site.url}/missing", quick()))

    def test_pages_that_fail_are_told_apart_from_those_that_are_gone(self, site: Site) -> None:
        site.pages |= {
            "/": page("start", "/gone", "/missing", "/forbidden", "/broken", "/cut", "/empty"),
            "/gone": Reply("", 410),
            "/forbidden": Reply("", 403),
            "/broken": Reply("", 500),
            "/cut": Reply(b"half", headers={"Content-Length": "1000", "Connection": "close"}),
            "/empty": Reply("", 204),
        }
        visits = by_key(crawl(site.url, quick(timeout=0.5)))
        assert {key: visits[key].status.value for key in visits} == {
            "/": "fetched",
            "/gone": "gone",
            "/missing": "gone",
            "/forbidden": "failed",
            "/broken": "failed",
            "/cut": "failed",
            "/empty": "failed",
        }
        assert visits["/broken"].reason == "the server answered 500, 2 times"

    def test_a_page_that_fails_still_leads_where_it_led(self, site: Site) -> None:
        site.pages |= {"/": page("start", "/a"), "/a": Reply("", 500), "/b": page("b")}
        visits = by_key(crawl(site.url, quick(), known={"/a": Known(links=("/b",))}))
        assert visits["/b"].status is Status.FETCHED

    def test_what_is_no_http(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                while True:
                    try:
                        connection, _ = server.accept()
                    except OSError:
                        return
                    with connection:
                        connection.recv(1000)
                        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

            threading.Thread(target=answer, daemon=True).start()
            with pytest.raises(IngestError, match="can't be crawled"):
                list(crawl(f"http://127.0.0.1:{server.getsockname()[1]}/", quick(retries=0)))
            server.shutdown(socket.SHUT_RDWR)

    def test_a_page_that_drips_does_not_hold_the_crawl(self, site: Site) -> None:
        def drip(_: Asked) -> Reply:
            def drops() -> Iterator[bytes]:
                while not site.released.wait(0.05):
                    yield b"x"

            return Reply(drops())

        site.pages |= {"/": page("start", "/drips", "/a"), "/drips": drip, "/a": page("a")}
        visits = by_key(crawl(site.url, quick(timeout=0.15, retries=0)))
        assert visits["/drips"].status is Status.FAILED
        assert visits["/drips"].reason == "the server didn't answer in time"
        assert visits["/a"].status is Status.FETCHED

    def test_a_server_that_goes_away_is_not_asked_for_each_page(self, site: Site) -> None:
        site.pages |= {
            "/": page("start", *(f"/{n}" for n in range(100))),
            **{f"/{n}": Reply("", 503) for n in range(100)},
        }
        visits = list(crawl(site.url, quick(retries=0)))
        assert len(keys(iter(visits), Status.FAILED)) < 20
        assert visits[-1].status is Status.UNREACHED
        assert "times in a row" in visits[-1].reason

    def test_leaving_early_ends_the_requests(self, site: Site) -> None:
        site.pages |= {"/": page("start", "/slow"), "/slow": Reply(page("slow"), delay=30)}
        visits = crawl(site.url, quick(timeout=30))
        assert next(visits).key == "/"
        visits.close()  # type: ignore[attr-defined]


class TestRedirects:
    def test_a_page_that_moved_is_read_where_it_is(self, site: Site) -> None:
        site.pages |= {
            "/": page("start", "/old", "/new"),
            "/old": Reply("", 301, {"Location": "/new"}),
            "/new": page("new"),
        }
        visits = by_key(crawl(site.url, quick()))
        assert visits["/old"].status is Status.SKIPPED
        assert visits["/new"].status is Status.FETCHED
        assert site.paths.count("/new") == 1

    def test_a_start_that_moved_takes_the_scope_with_it(self, site: Site) -> None:
        site.pages |= {
            "/docs/": Reply("", 302, {"Location": "/en/latest/"}),
            "/en/latest/": page("start", "/en/latest/a", "/docs/b", "/en/v1/"),
            "/en/latest/a": page("a"),
            "/docs/b": page("b"),
        }
        assert keys(crawl(f"{site.url}/docs/", quick())) == ["/en/latest/", "/en/latest/a"]

    def test_a_start_may_move_to_another_host(self, site: Site) -> None:
        with Site("127.0.0.2") as other:
            site.pages["/"] = Reply("", 301, {"Location": f"{other.url}/home/"})
            other.pages |= {"/home/": page("home", "/home/a", f"{site.url}/b"), "/home/a": page("a")}
            visits = list(crawl(site.url, quick()))
        assert [visit.location for visit in visits if visit.status is Status.FETCHED] == [
            f"{other.url}/home/",
            f"{other.url}/home/a",
        ]

    @pytest.mark.parametrize("target", ["/a", "/", "https://elsewhere.example/", "javascript:alert(1)", "http://["])
    def test_redirects_that_lead_nowhere(self, site: Site, target: str) -> None:
        site.pages |= {"/": page("start", "/a"), "/a": Reply("", 302, {"Location": target})}
        visits = by_key(crawl(site.url, quick()))
        assert visits["/a"].status in (Status.SKIPPED, Status.FAILED)
        assert "redirects" in visits["/a"].reason

    def test_a_start_that_redirects_to_itself(self, site: Site) -> None:
        site.pages["/"] = Reply("", 302, {"Location": "/"})
        with pytest.raises(IngestError, match="it redirects to itself"):
            list(crawl(site.url, quick()))

    def test_redirects_without_end(self, site: Site) -> None:
        def onward(asked: Asked) -> Reply:
            return Reply("", 302, {"Location": f"/hop?n={int(asked.path.partition('=')[2] or 0) + 1}"})

        class Pages(dict):  # type: ignore[type-arg]
            def get(self, path: str, default: object = None) -> object:
                return onward if path.startswith("/hop") else super().get(path, default)

        site.pages = Pages({"/": page("start", "/hop")})
        visits = list(crawl(site.url, quick()))
        assert visits[-1].reason == "it redirects on and on"
        assert len(visits) == 12


class TestPrivateAddresses:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
        ],
    )
    def test_they_are_refused_however_they_are_spelled(self, site: Site, host: str) -> None:
        site.pages["/"] = page("start")
        with pytest.raises((IngestError, InputError), match=r"private address|is unknown|is no address"):
            list(crawl(f"http://{host}:{site.port}/", CrawlOptions(retries=0, delay=0)))
        assert site.asked == []

    def test_a_redirect_does_not_lead_to_one(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        # Loopback's first address stands for a public one here, since no test may reach a real one.
        monkeypatch.setattr("deepmemory.ingest.addresses.is_public", lambda address: address == "127.0.0.1")
        with Site("127.0.0.2") as inner:
            inner.pages["/"] = page("secret")
            site.pages["/"] = Reply("", 302, {"Location": f"{inner.url}/"})
            with pytest.raises(IngestError, match=r"127\.0\.0\.2 is the private address 127\.0\.0\.2"):
                list(crawl(site.url, quick(allow_private=False)))
            assert inner.asked == []

    def test_a_name_is_refused_for_any_of_its_addresses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A name server that answers with a public address and a private one, as those who attack with it do.
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.215.14", "10.0.0.7")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(IngestError, match=r"docs\.example is the private address 10\.0\.0\.7"):
            list(crawl("http://docs.example/", CrawlOptions(retries=0)))

    def test_the_connection_goes_to_the_address_that_was_checked(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The name resolves once to what passes; asked again, it would lead elsewhere.
        site.pages["/"] = page("start")
        answers = iter(["127.0.0.1"])
        real = socket.getaddrinfo

        def resolve(host: str, port: int, *rest: object, **more: object) -> object:
            return real(next(answers) if host == "docs.example" else host, port, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr("deepmemory.ingest.addresses.is_public", lambda address: address == "127.0.0.1")
        options = quick(allow_private=False, respect_robots=False, sitemap=False, retries=0)
        assert keys(crawl(f"http://docs.example:{site.port}/", options)) == ["/"]
        assert site.asked[0].headers["Host"] == f"docs.example:{site.port}"


class TestEncryptedSites:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """A certificate for localhost, with its key, in one file."""
        x509 = pytest.importorskip("cryptography.x509", reason="makes the certificate")
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path / "localhost.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        return path

    def test_the_certificate_is_that_of_the_name_and_not_of_the_address(
        self, site: Site, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.pages |= {"/": page("start", "/a"), "/a": page("a")}
        site.encrypt(certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setattr("deepmemory.ingest.addresses.is_public", lambda address: True)
        options = quick(allow_private=False, retries=0)
        assert keys(crawl(f"https://localhost:{site.port}/", options)) == ["/", "/a"]
        with pytest.raises(IngestError, match="certificate"):
            list(crawl(f"https://127.0.0.1:{site.port}/", options))

    def test_a_certificate_that_nobody_vouches_for_is_refused(self, site: Site, certificate: Path) -> None:
        site.pages["/"] = page("start")
        site.encrypt(certificate)
        with pytest.raises(IngestError, match="certificate"):
            list(crawl(f"https://localhost:{site.port}/", quick(retries=0)))
        assert site.asked == []


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "one"),
        [
            ("HTTP://Docs.Example:80", "http://docs.example/"),
            ("https://docs.example:443/a/../b/./c#part", "https://docs.example/b/c"),
            ("http://docs.example/%7Eann/%c3%bc?", "http://docs.example/~ann/%C3%BC"),
            ("http://docs.example/a?utm_source=x&b=1&gclid=y&a=2", "http://docs.example/a?b=1&a=2"),
            ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
            ("http://docs.example/a b", "http://docs.example/a%20b"),
            (" http://docs.example/index.html ", "http://docs.example/index.html"),
            ("http://[::1]:8000/x", "http://[::1]:8000/x"),
        ],
    )
    def test_a_page_has_one_spelling(self, address: str, one: str) -> None:
        assert canonical_url(address) == one
        assert canonical_url(one) == one

    @pytest.mark.parametrize(
        ("link", "leads_to"),
        [
            ("b.html#x", "http://docs.example/guide/b.html"),
            ("?q=1", "http://docs.example/guide/a.html?q=1"),
            ("../c", "http://docs.example/c"),
            ("//other.example/d", "http://other.example/d"),
            ("#top", "http://docs.example/guide/a.html"),
            ("", "http://docs.example/guide/a.html"),
            ("../../../../e", "http://docs.example/e"),
            ("mailto:ann@example.com", None),
            ("javascript:void(0)", None),
            ("http://user:secret@docs.example/", None),
            ("http://docs.example:99999/", None),
            ("http://[broken", None),
            ("http://bad host/", None),
            ("data:text/html,x", None),
        ],
    )
    def test_links_lead_where_a_browser_would_go(self, link: str, leads_to: str | None) -> None:
        assert canonical_url(link, "http://docs.example/guide/a.html") == leads_to

    @pytest.mark.parametrize(
        ("start", "prefix"),
        [
            ("http://x.example", "/"),
            ("http://x.example/docs/", "/docs/"),
            ("http://x.example/docs", "/docs/"),
            ("http://x.example/docs/index.html", "/docs/"),
            ("http://x.example/en/v1.2/", "/en/v1.2/"),
        ],
    )
    def test_a_start_stands_for_its_folder(self, start: str, prefix: str) -> None:
        assert prefix_of(canonical_url(start) or "") == prefix

    @pytest.mark.parametrize(
        ("address", "public"),
        [
            ("93.184.215.14", True),
            ("2606:4700::1111", True),
            ("::ffff:93.184.215.14", True),
            ("127.0.0.1", False),
            ("10.0.0.1", False),
            ("172.16.0.1", False),
            ("192.168.1.1", False),
            ("169.254.169.254", False),
            ("100.64.0.1", False),
            ("0.0.0.0", False),
            ("224.0.0.1", False),
            ("255.255.255.255", False),
            ("::1", False),
            ("::", False),
            ("fe80::1%eth0", False),
            ("fd00::1", False),
            ("ff02::1", False),
            ("::ffff:10.0.0.1", False),
            ("64:ff9b::a00:1", False),
            ("2002:a00:1::", False),
        ],
    )
    def test_public_addresses_are_told_from_others(self, address: str, public: bool) -> None:
        assert is_public(address) is public
