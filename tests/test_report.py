"""The report as a file: it stands alone, says what the evaluation says, takes no injection, and is written whole."""

import itertools
import os
import re
import stat
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import html

from deepmemory.backends.base import Ranking
from deepmemory.data import LabelledQueries
from deepmemory.errors import InputError, StorageError
from deepmemory.evaluation import Evaluation, evaluate_rankings
from deepmemory.report import render_report, save_report
from deepmemory.report.svg import element, linear, logarithmic, round_ticks, spaced

HOSTILE = "</title></style></svg><script>alert(1)</script><img src=x onerror=alert(1)>\"' {{ 7 * 7 }}"
SVG = "{http://www.w3.org/2000/svg}"


def ranking(*ids: str) -> Ranking:
    return Ranking(ids, np.linspace(1.0, 0.5, len(ids), dtype=np.float32))


def hit_at(rank: int, depth: int = 100) -> Ranking:
    ids = [f"wrong{place}" for place in range(depth)]
    if rank <= depth:
        ids[rank - 1] = "right"
    return ranking(*ids)


def texts(ids: Sequence[str]) -> Mapping[str, str]:
    return {id_: f"What {id_} says." for id_ in ids}


def evaluation_of(before: Sequence[int], after: Sequence[int], **options: object) -> Evaluation:
    queries = LabelledQueries(tuple(f"question {row}" for row in range(len(before))), ({"right": 1.0},) * len(before))
    options = {"document_text": texts, **options}
    return evaluate_rankings(queries, [*map(hit_at, before)], [*map(hit_at, after)], **options)  # type: ignore[arg-type]


def parse(page: str) -> html.HtmlElement:
    return html.document_fromstring(page)


def words(node: html.HtmlElement) -> str:
    return " ".join(" ".join(node.itertext()).split())


@pytest.fixture
def usual() -> Evaluation:
    before, after = [40, 12, 3, 1, 2, 60] * 10, [2, 5, 1, 2, 2, 8] * 10
    return evaluation_of(before, after, seen_ids=["right"], training_queries=["question 0"], n_documents=1234)


def test_says_what_the_evaluation_says(usual: Evaluation) -> None:
    when = datetime(2030, 5, 6, 7, 8, tzinfo=UTC)
    page = words(parse(render_report(usual, title="Our manual", details={"Embedder": "local"}, when=when)).body)
    assert "Deep Memory found more: recall@10 rose from 50.8% to 100.0% (+49.2 points" in page
    assert "1 of the 60 queries was trained on ('question 0')" in page
    assert "39 gained, 10 lost, 10 unchanged" in page
    assert "First right answer: rank 40 without, rank 2 with" in page
    assert "1,234" in page
    assert "2030-05-06 07:08 UTC" in page
    assert "Embedder local" in page


def test_tables_hold_every_metric_with_its_interval(usual: Evaluation) -> None:
    first = parse(render_report(usual)).find(".//table")
    rows = [words(row) for row in first.findall("./tbody/tr")]
    assert [row.split()[0] for row in rows] == [
        *(f"Recall@{k}" for k in (1, 3, 5, 10, 50, 100)),
        "nDCG@10",
        "MRR@10",
    ]
    lift = usual.headline["recall@10"]
    low, high = (f"{100 * bound:+.1f}" for bound in lift.interval)
    assert f"50.8% 100.0% +49.2 {low} to {high}" in rows[3]


def test_right_hits_are_marked_and_missed_answers_named() -> None:
    queries = LabelledQueries(("one", "two"), ({"a": 1.0}, {"z": 1.0}))
    baseline = [ranking("x", "a"), ranking(*"bcdefghz")]
    evaluation = evaluate_rankings(queries, baseline, [ranking("a", "x"), ranking(*"bcdefzgh")], document_text=texts)
    page = parse(render_report(evaluation))
    first, second = page.findall(".//details[@class='question']")
    assert [words(item) for item in first.iterfind(".//li[@class='right']")] == ["What a says. ✓ right a"] * 2
    missed = second.find(".//div[@class='missed']")
    assert words(missed) == "Right, and not among these What z says. ✓ right z"
    assert first.find(".//div[@class='missed']") is None


def test_stands_alone(usual: Evaluation) -> None:
    source = render_report(usual)
    page = parse(source)
    assert page.findall(".//script") == []
    assert page.findall(".//img") == []
    linked = [value for node in page.iter() for name in ("src", "href", "srcset") if (value := node.get(name))]
    assert linked == ["data:,"]
    assert not re.search(r"@import|url\(|javascript:|\son\w+=", source)
    assert set(re.findall(r"https?://[^\s\"'<]+", source)) == {"http://www.w3.org/2000/svg"}


def test_plots_are_well_formed_and_described(usual: Evaluation) -> None:
    plots = [ET.fromstring(plot) for plot in re.findall(r"<svg xmlns.*?</svg>", render_report(usual), re.DOTALL)]
    assert len(plots) == 6  # curves and bars, wide and narrow, and a forest for each of two metrics
    ids = [node.get("id") for plot in plots for node in plot.iter() if node.get("id")]
    assert len(ids) == len(set(ids)) == 12
    for plot in plots:
        assert plot.find(f"{SVG}title") is not None
        assert plot.findtext(f"{SVG}desc")
        left, top, width, height = map(float, plot.get("viewBox", "").split())
        for mark in plot.iter(f"{SVG}circle"):
            assert left <= float(mark.get("cx", "nan")) <= left + width
            assert top <= float(mark.get("cy", "nan")) <= top + height
        for bar in plot.iter(f"{SVG}rect"):
            assert float(bar.get("width", "nan")) > 0
            assert 0 <= float(bar.get("height", "nan")) <= height


def test_hostile_text_stays_text() -> None:
    queries = LabelledQueries((HOSTILE, f"{HOSTILE} 2"), ({HOSTILE: 1.0}, {HOSTILE: 1.0}))
    evaluation = evaluate_rankings(
        queries,
        [ranking("x", HOSTILE)] * 2,
        [ranking(HOSTILE, "x")] * 2,
        document_text=lambda ids: dict.fromkeys(ids, HOSTILE),
        training_queries=[f"{HOSTILE} 2"],
    )
    page = parse(render_report(evaluation, title=HOSTILE, details={HOSTILE: HOSTILE}))
    assert page.findall(".//script") == page.findall(".//img") == []
    assert page.findtext(".//title") == page.findtext(".//h1") == HOSTILE
    assert page.findtext(".//h3") == HOSTILE
    assert HOSTILE in {node.text for node in page.iter("bdi")}
    assert HOSTILE in {node.text for node in page.iter("dt")}
    assert HOSTILE in words(page.find(".//svg[@class='lifts-wide']"))


@pytest.mark.parametrize(
    "text", ["nul \x00, escape \x1b[31m and \x9f", "half a pair \ud83d", "\u202eright to left", "🦄 é 漢"]
)
def test_odd_characters_are_written_as_valid_text(tmp_path: Path, text: str) -> None:
    evaluation = evaluation_of([3], [1], document_text=lambda ids: dict.fromkeys(ids, text))
    written = save_report(evaluation, tmp_path / "report.html", title=text).read_text("utf-8")
    assert not re.search(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", written)
    assert parse(written).findtext(".//h1")


def test_long_texts_are_cut_at_a_word() -> None:
    evaluation = evaluation_of([3], [1], document_text=lambda ids: dict.fromkeys(ids, "word " * 500))
    snippet = parse(render_report(evaluation)).find(".//span[@class='snippet']").text
    assert snippet.endswith("word …")
    assert len(snippet) < 250


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        (evaluation_of([4, 9, 300], [4, 9, 300]), "the layer is off, or it changes nothing here"),
        (evaluation_of([40], [1]), "One query can't tell a lift from chance."),
        (
            evaluation_of([30] * 40, [2] * 40, training_queries=[f"question {n}" for n in range(40)]),
            "what was memorised",
        ),
        (evaluation_of([1] * 40, [50] * 40), "Deep Memory found less"),
        (evaluation_of([300] * 3, [300] * 3, document_text=None), "no recall to reach with fewer hits"),
        (evaluation_of([40] * 12, [1] * 12, document_text=None), "With only 12 queries the intervals are rough"),
        (evaluation_of([1, 3], [1, 1], top_k=[2]), "Recall@2"),
        (
            evaluate_rankings(LabelledQueries(("q",), ({"a": 1.0},)), [ranking("a")], [ranking("a")]),
            "rises from 100.0% at k = 1 to 100.0% at k = 1",
        ),
        (
            evaluate_rankings(LabelledQueries(("q",), ({"a": 1.0},)), [ranking("b")], [ranking()]),
            "0 gained, 0 lost, 1 unchanged",
        ),
    ],
    ids=["identical", "one-query", "all-leaked", "lost", "nothing-found", "few", "no-ten", "one-document", "no-hits"],
)
def test_edge_cases_have_their_page(evaluation: Evaluation, expected: str) -> None:
    page = render_report(evaluation)
    assert expected in words(parse(page))
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", page).lower()
    for plot in re.findall(r"<svg xmlns.*?</svg>", page, re.DOTALL):
        ET.fromstring(plot)


def test_thousands_of_queries_make_a_page_that_is_no_larger() -> None:
    rng = np.random.default_rng(1)
    ids = [ranking("right", "wrong"), ranking("wrong", "right"), ranking("wrong", "worse")]
    n = 5000
    runs = [[ids[choice] for choice in rng.integers(3, size=n)] for _ in range(2)]
    queries = LabelledQueries(tuple(f"question {row}" for row in range(n)), ({"right": 1.0},) * n)
    page = render_report(evaluate_rankings(queries, runs[0], runs[1], document_text=texts))
    assert len(page) < 300_000
    bars = parse(page).find(".//svg[@class='lifts-wide']").findall(".//rect")
    assert 100 < len(bars) <= 240


def test_no_data_is_invented_where_labels_are_unknown() -> None:
    page = words(parse(render_report(evaluation_of([9] * 4, [1] * 4))).body)
    assert "Seen and unseen" not in page
    assert "trained on (" not in page
    assert "Questions that lost most" not in page


def test_saving_replaces_the_whole_file_and_leaves_nothing_beside_it(usual: Evaluation, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old" * 100_000)
    assert save_report(usual, str(target)) == target
    assert target.read_text("utf-8").startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_the_file_has_the_mode_of_any_other(usual: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    report = save_report(usual, tmp_path / "report.html")
    assert stat.S_IMODE(report.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_paths_that_can_not_be_written(usual: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs the name of a file, but .* is a folder"):
        save_report(usual, tmp_path)
    with pytest.raises(InputError, match=r"there is no folder .*missing"):
        save_report(usual, tmp_path / "missing" / "report.html")
    for name in ("x" * 300 + ".html", "zero\0byte.html"):
        with pytest.raises(StorageError, match=r"can't write .*: .*; what was there before is unchanged"):
            save_report(usual, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files is POSIX's")
def test_a_disk_that_is_full_leaves_the_old_report(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("the old report")
    script = textwrap.dedent("""
        import resource, sys
        import numpy as np
        from deepmemory.backends.base import Ranking
        from deepmemory.data import LabelledQueries
        from deepmemory.errors import StorageError
        from deepmemory.evaluation import evaluate_rankings
        from deepmemory.report import save_report

        run = [Ranking(("a",), np.ones(1, np.float32))]
        evaluation = evaluate_rankings(LabelledQueries(("q",), ({"a": 1.0},)), run, run)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            save_report(evaluation, sys.argv[1])
        except StorageError as error:
            print(error)
    """)
    ran = subprocess.run(
        [sys.executable, "-B", "-c", script, str(target)],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    )
    assert ran.stdout == f"can't write {str(target)!r}: File too large; what was there before is unchanged\n"
    assert target.read_text() == "the old report"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "LC_ALL": "C"}


finite = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(finite, finite, st.integers(2, 8))
def test_ticks_are_round_few_ascending_and_cover_the_range(one: float, other: float, about: int) -> None:
    low, high = min(one, other), max(one, other)
    if high - low < 1e-6 * max(1.0, abs(low), abs(high)):
        return
    ticks = round_ticks(low, high, about)
    slack = 1e-6 * (high - low)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert len(ticks) <= about + 3
    assert all(after > before for before, after in itertools.pairwise(ticks))
    step = ticks[1] - ticks[0]
    assert f"{step:.3e}"[0] in "125"


def test_ticks_of_nothing_are_one() -> None:
    assert round_ticks(3.0, 3.0) == [3.0]
    assert round_ticks(-0.02, 0.31) == [-0.1, 0.0, 0.1, 0.2, 0.3, 0.4]


def test_scales() -> None:
    assert [linear(0, 2, 10, 30)(value) for value in (0, 1, 2)] == [10, 20, 30]
    assert [linear(0, 1, 30, 10)(value) for value in (0, 1)] == [30, 10]
    assert linear(5, 5, 0, 10)(5) == 5
    assert [round(logarithmic(1, 100, 0, 10)(value), 6) for value in (1, 10, 100)] == [0, 5, 10]
    assert spaced([1, 2, 9, 10], linear(0, 10, 0, 10), 2) == [2, 10]


def test_elements_escape_what_they_are_given() -> None:
    assert element("text", "a < b", class_='"x"', stroke_width=1.50, x=None) == (
        '<text class="&#34;x&#34;" stroke-width="1.5">a &lt; b</text>'
    )
