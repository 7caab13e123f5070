"""Chunks: nothing lost, nothing too long, cut where a reader would cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmemory.errors import InputError
from deepmemory.ingest import PageText, SplitOptions, extract, split
from deepmemory.ingest.cuts import Cutter


def markdown(source: str) -> PageText:
    return extract(source, "text/markdown")


SENTENCE = "The quick brown fox jumps over the lazy dog. "


def test_sections_stand_alone_with_the_headings_above_them() -> None:
    page = markdown(f"# Guide\n\n{SENTENCE * 6}\n\n## Install\n\n{SENTENCE * 6}\n\n### Linux\n\n{SENTENCE * 6}\n")
    chunks = split(page)
    assert [chunk.headings for chunk in chunks] == [("Guide",), ("Guide", "Install"), ("Guide", "Install", "Linux")]
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["# Guide", "Guide", "Guide > Install"]
    assert [chunk.anchor for chunk in chunks] == ["guide", "install", "linux"]


def test_small_sections_under_one_heading_are_joined_and_others_are_not() -> None:
    page = markdown(
        f"# A\n\n## One\n\n{SENTENCE * 3}\n\n## Two\n\n{SENTENCE * 3}\n\n# B\n\n## Three\n\n{SENTENCE * 5}\n"
    )
    assert [chunk.headings for chunk in split(page)] == [("A",), ("B", "Three")]
    assert [chunk.anchors for chunk in split(page)] == [("a", "one", "two"), ("b", "three")]


def test_a_heading_never_stands_without_what_follows_it() -> None:
    page = markdown(f"# A\n\n## B\n\n### C\n\n{SENTENCE * 30}")
    chunks = split(page)
    assert len(chunks) == 2
    assert chunks[0].text.startswith("# A\n\n## B\n\n### C\n\nThe quick")
    assert chunks[1].text.startswith("A > B > C\n\nThe quick")


def test_a_block_of_code_is_not_cut_when_it_fits() -> None:
    code = "```python\n" + "\n\n".join(f"line_{n} = {n}" for n in range(30)) + "\n```"
    page = markdown(f"# A\n\n{SENTENCE * 10}\n\n{code}\n\n{SENTENCE * 10}\n")
    assert sum(code in chunk.text for chunk in split(page)) == 1


def test_code_that_does_not_fit_is_cut_between_lines() -> None:
    code = "\n".join(f"line_number_{n} = compute({n})" for n in range(100))
    page = markdown(f"# A\n\n```python\n{code}\n```\n")
    bodies = [page.text[chunk.start : chunk.end] for chunk in split(page)]
    assert len(bodies) > 2
    lines = {line for body in bodies for line in body.split("\n")}
    assert set(code.split("\n")) <= lines


def test_prose_is_cut_at_sentences_into_parts_of_about_one_size() -> None:
    page = PageText(SENTENCE * 24)  # 1,080 characters, one paragraph
    chunks = split(page)
    assert [page.text[chunk.start : chunk.end].endswith("dog.") for chunk in chunks] == [True, True]
    assert chunks[0].end - chunks[0].start == pytest.approx(540, abs=45)


def test_text_without_any_place_to_cut_is_cut_all_the_same() -> None:
    chunks = split(PageText("x" * 2500))
    assert [chunk.end - chunk.start for chunk in chunks] == [900, 900, 700]


def test_chinese_is_cut_at_its_sentences() -> None:
    page = PageText("这是一个很长的句子它说明了一些事情。" * 60)
    assert all(page.text[: chunk.end].endswith("。") for chunk in split(page))


def test_text_after_a_definition_stands_under_what_it_belongs_to() -> None:
    html = f"<main><h1>M</h1><dl><dt id=f>f(x)</dt><dd>{SENTENCE * 10}</dd></dl><p>{SENTENCE * 10}</p></main>"
    definition, after = split(extract(html))
    assert definition.headings == ("M", "f(x)")
    assert after.headings == ("M",)
    assert (definition.anchor, after.anchor) == ("f", None)


def test_a_long_signature_is_shortened_above_its_parts() -> None:
    signature = "make(" + ", ".join(f"parameter_{n}=None" for n in range(30)) + ")"
    page = extract(f"<title>T</title><main><h1>M</h1><dl><dt id=f>{signature}</dt><dd>{SENTENCE * 40}</dd></dl></main>")
    chunks = split(page)
    assert signature in chunks[0].text
    assert all(chunk.text.startswith("M > make(...)\n\n") for chunk in chunks[1:])


def test_a_stretch_of_blank_lines_is_no_chunk() -> None:
    page = PageText("a" + "\n \n" * 5000 + "b")
    assert [page.text[chunk.start : chunk.end] for chunk in split(page)] == ["a", "b"]


def test_an_empty_page_has_no_chunks() -> None:
    assert split(PageText("")) == []
    assert split(PageText(" \n\n ")) == []


@pytest.mark.parametrize(("most", "least"), [(50, 10), (900, 901), (900, -1), (10**6, 0)])
def test_sizes_that_make_no_sense_are_refused(most: int, least: int) -> None:
    with pytest.raises(InputError, match="max_chars must be from 100"):
        SplitOptions(max_chars=most, min_chars=least)


LINES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=80),
    st.integers(1, 6).map(lambda level: "#" * level + " Heading"),
    st.sampled_from(
        [
            "",
            "",
            "\n" * 200,
            " \n" * 60,
            "```",
            "- item",
            "| a | b |",
            SENTENCE * 5,
            "    indented",
            '<a name="x"></a>',
            "====",
        ]
    ),
)
SOURCES = st.lists(LINES, max_size=40).map("\n".join)
OPTIONS = st.integers(100, 700).flatmap(
    lambda most: st.integers(0, most).map(lambda least: SplitOptions(max_chars=most, min_chars=least))
)


@given(SOURCES, OPTIONS, st.text("ab ", max_size=200))
def test_chunks_cover_the_text_in_order_within_the_size(source: str, options: SplitOptions, title: str) -> None:
    page = markdown(f"---\ntitle: {title}\n---\n{source}")
    chunks = split(page, options)
    end = 0
    for chunk in chunks:
        body = page.text[chunk.start : chunk.end]
        assert page.text[end : chunk.start].strip() == ""
        assert chunk.text.endswith(body)
        assert body.strip()
        assert len(chunk.text) <= options.max_chars
        end = chunk.end
    assert page.text[end:].strip() == ""
    assert [name for chunk in chunks for name in chunk.anchors] == ([a.name for a in page.anchors] if chunks else [])
    assert split(page, options) == chunks


def test_what_should_stay_uncut_is_cut_where_nothing_else_is_left() -> None:
    text = "word " * 60
    parts = Cutter(text, []).cut(0, len(text), 65, uncut=len(text) - 10)
    assert parts[0][0] == 0
    assert parts[-1][1] == len(text)
    assert all(end - start <= 65 for start, end in parts)
    assert all(left[1] == right[0] for left, right in pairwise(parts))
