"""What pydoc serves, read as the demo reads it."""

import inspect
import re
import urllib.request
from collections import Counter

import pytest
from site_server import quick
from store_for_ingest import Store

from deepmemory.ingest import IngestOptions, PageText, Status, crawl, extract, ingest, split

MODULES = ("subprocess", "pathlib", "csv", "argparse", "itertools", "json")


@pytest.fixture(scope="module")
def sources(pydoc_url: str) -> dict[str, str]:
    pages = {}
    for name in (*MODULES, "index"):
        with urllib.request.urlopen(f"{pydoc_url}{name}.html", timeout=30) as reply:
            pages[name] = reply.read().decode("utf-8")
    return pages


@pytest.fixture(scope="module")
def pages(sources: dict[str, str]) -> dict[str, PageText]:
    return {name: extract(source) for name, source in sources.items()}


@pytest.mark.parametrize("module", MODULES)
def test_every_anchor_stands_at_the_name_that_it_marks(
    module: str, sources: dict[str, str], pages: dict[str, PageText]
) -> None:
    page = pages[module]
    assert {anchor.name for anchor in page.anchors} == set(re.findall(r'<a name="([^"]+)"', sources[module]))
    for anchor in page.anchors:
        line_start = page.text.rfind("\n", 0, anchor.offset) + 1
        line = page.text[line_start:].split("\n")[0]
        assert line.startswith("#")
        assert anchor.name.rpartition("-")[2] in line


@pytest.mark.parametrize("module", MODULES)
def test_a_page_is_titled_with_its_module_and_holds_no_navigation(module: str, pages: dict[str, PageText]) -> None:
    page = pages[module]
    assert page.title == module
    assert page.text.startswith(f"# {module}\n\n")
    for word in (
        "Module Index",
        "Keywords",
        "lib/python",
        "Module Reference",
        "Method resolution order",
        "__weakref__",
    ):
        assert word not in page.text


def test_functions_and_classes_are_headings_in_order(pages: dict[str, PageText]) -> None:
    lines = [line for line in pages["subprocess"].text.split("\n") if line.startswith("#")]
    assert "### class Popen" in lines
    assert "#### communicate(self, input=None, timeout=None)" in lines
    assert any(line.startswith("### run(*popenargs, input=None, capture_output=False") for line in lines)
    assert lines.index("## Classes") < lines.index("### class Popen") < lines.index("## Functions")


def test_docstrings_come_out_line_by_line_and_once(pages: dict[str, PageText]) -> None:
    import subprocess

    docstring = inspect.cleandoc(subprocess.run.__doc__ or "")
    assert pages["subprocess"].text.count(docstring) == 1
    communicate = inspect.cleandoc(subprocess.Popen.communicate.__doc__ or "")
    assert pages["subprocess"].text.count(communicate.split("\n")[0]) == 1


def test_indentation_within_a_docstring_is_kept(pages: dict[str, PageText]) -> None:
    assert "\n    class excel:\n        delimiter = ','\n" in pages["csv"].text


def test_data_are_lists(pages: dict[str, PageText]) -> None:
    assert "- delimiter = ','\n- doublequote = True\n" in pages["csv"].text
    assert re.search(r"^- name: The final path component, if any\.$", pages["pathlib"].text, re.M)


def test_nothing_but_links_is_no_text(pages: dict[str, PageText]) -> None:
    assert pages["index"].text == ""


@pytest.mark.parametrize("module", MODULES)
def test_each_definition_begins_in_exactly_one_chunk(module: str, pages: dict[str, PageText]) -> None:
    page = pages[module]
    chunks = split(page)
    owners = Counter(name for chunk in chunks for name in chunk.anchors)
    assert owners == Counter(anchor.name for anchor in page.anchors)
    for chunk in chunks:
        for name in chunk.anchors:
            assert name.rpartition("-")[2] in chunk.text


def test_a_function_is_a_chunk_with_its_module_above_it(pages: dict[str, PageText]) -> None:
    chunk = next(chunk for chunk in split(pages["subprocess"]) if "-getoutput" in chunk.anchors)
    assert chunk.anchors == ("-getoutput",)
    assert chunk.anchor == "-getoutput"
    assert chunk.headings[:2] == ("subprocess", "Functions")
    assert chunk.text.startswith("subprocess > Functions\n\n### getoutput(cmd")
    assert "Return output" in chunk.text


def test_a_long_function_goes_on_in_chunks_that_still_link_to_it(pages: dict[str, PageText]) -> None:
    chunks = [chunk for chunk in split(pages["subprocess"]) if chunk.anchor == "-run"]
    assert len(chunks) >= 2
    assert chunks[0].anchors == ("-run",)
    assert all(chunk.anchors == () for chunk in chunks[1:])
    assert all(chunk.text.startswith("subprocess > Functions > run(...)\n\n") for chunk in chunks[1:])


def test_one_line_methods_share_a_chunk_of_their_class(pages: dict[str, PageText]) -> None:
    chunk = next(chunk for chunk in split(pages["subprocess"]) if "Popen-kill" in chunk.anchors)
    assert {"Popen-kill", "Popen-poll", "Popen-send_signal"} <= set(chunk.anchors)
    assert chunk.headings == ("subprocess", "Classes", "class Popen")


def test_the_server_is_crawled_from_its_index_along_chosen_links(pydoc_url: str) -> None:
    options = quick(include=("/csv.html", "/json.*.html", "/json.html"), max_depth=2)
    read = [visit.key for visit in crawl(pydoc_url, options) if visit.status is Status.FETCHED]
    assert read[:3] == ["/", "/csv.html", "/json.html"]
    assert set(read[3:]) >= {"/json.decoder.html", "/json.encoder.html", "/json.scanner.html", "/json.tool.html"}


def test_modules_are_ingested_and_found_unchanged_at_the_next_start(pydoc_url: str) -> None:
    store = Store()
    options = IngestOptions(crawl=quick(max_depth=0), name="pydoc")
    starts = [f"{pydoc_url}{module}.html" for module in MODULES]
    report = ingest(starts, store, options=options)
    assert report.pages_read == len(MODULES)
    assert report.problems == ()
    run = next(found for _, found in store.content().values() if "-run" in found["anchors"])  # type: ignore[operator]
    assert (run["page"], run["title"], run["anchor"]) == ("/subprocess.html", "subprocess", "-run")
    assert run["url"] == f"{pydoc_url}subprocess.html"
    again = ingest(starts, store, options=options)
    assert (again.pages_unchanged, again.changed) == (len(MODULES), False)


def test_addresses_in_memory_do_not_make_a_page_another() -> None:
    def source(address: str) -> str:
        return (
            '<table class="heading"><tr><td class="title"><strong class="title">m</strong></td></tr></table>'
            '<table class="section"><tr><td class="section-title">Functions</td></tr><tr><td class="singlecolumn">'
            f'<dl><dt><a name="-f"><strong>f</strong></a>(key=&lt;object object at {address}&gt;)'
            f"</dt><dd><span class=code>See&nbsp;&lt;x&nbsp;at&nbsp;{address}&gt;.</span></dd></dl></td></tr></table>"
        )

    first, second = extract(source("0x7f113aa6c150")), extract(source("0x7f0b50a6c150"))
    assert first == second
    assert first.text == "# m\n\n## Functions\n\n### f(key=<object object>)\n\nSee <x>."
