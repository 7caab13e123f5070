"""Pages as sites really build them, and what is to be read from them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmemory.ingest import PageText, extract

PAGES = Path(__file__).parent / "pages"


def page(name: str) -> PageText:
    return extract((PAGES / f"{name}.html").read_bytes())


def at(text: PageText, name: str) -> str:
    """The line at an anchor, from the anchor on."""
    offset = next(anchor.offset for anchor in text.anchors if anchor.name == name)
    return text.text[offset:].split("\n")[0]


@pytest.mark.parametrize("name", ["sphinx", "mkdocs", "docusaurus", "gitbook", "old_school"])
def test_the_main_text_is_read_with_its_structure_and_nothing_around_it(name: str) -> None:
    assert page(name).text + "\n" == (PAGES / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("sphinx", "orchard.harvest — picking what is ripe"),
        ("mkdocs", "Installing"),
        ("docusaurus", "Routing"),
        ("gitbook", "Vector store"),
        ("old_school", "The Tide Manual"),
    ],
)
def test_the_title_is_the_first_heading(name: str, title: str) -> None:
    assert page(name).title == title


def test_a_page_without_headings_is_called_what_its_head_says() -> None:
    assert extract("<title> A \n page </title><p>Text.").title == "A page"


def test_the_canonical_address_is_kept() -> None:
    assert page("mkdocs").canonical == "https://lantern.example.io/guide/install/"
    assert page("old_school").canonical is None


@pytest.mark.parametrize(
    ("name", "anchor", "line"),
    [
        ("sphinx", "orchard.harvest.pick", "orchard.harvest.pick(tree, *, into=None, ripe_only=True) → list"),
        ("sphinx", "orchard.harvest.Basket.empty", "empty()"),
        ("sphinx", "baskets", "Using baskets"),
        ("sphinx", "using-baskets", "Using baskets"),
        ("sphinx", "module-orchard.harvest", "orchard.harvest — picking what is ripe"),
        ("sphinx", "table-fruit", "Fruit by month"),
        ("mkdocs", "lantern.trim", "trim(wick, by=1)"),
        ("docusaurus", "options", "Options"),
        ("gitbook", "create-a-store", "Create a store"),
        ("old_school", "harbour", "--harbour name"),
    ],
)
def test_an_anchor_points_to_what_it_marks(name: str, anchor: str, line: str) -> None:
    assert at(page(name), anchor) == line


def test_anchors_of_lines_of_code_and_of_navigation_are_none() -> None:
    names = {anchor.name for anchor in page("mkdocs").anchors} | {anchor.name for anchor in page("docusaurus").anchors}
    assert not any(name.startswith("__") for name in names)
    assert names == {"installing", "first-light", "lantern.trim", "defining", "options"}


def test_sections_know_the_headings_that_they_stand_under() -> None:
    text = page("sphinx")
    paths = {text.text[section.start :].split("\n")[0]: section.path[1:] for section in text.sections}
    assert paths["#### empty()"] == ("Using baskets", "class orchard.harvest.Basket(capacity=40)", "empty()")
    # After a method's description, the text belongs to its class again.
    assert paths["A basket is also a context manager."] == (
        "Using baskets",
        "class orchard.harvest.Basket(capacity=40)",
    )
    assert paths["## Kinds of fruit"] == ("Kinds of fruit",)


def test_code_blocks_are_where_they_say() -> None:
    text = page("docusaurus")
    blocks = [text.text[start:end] for start, end in text.code]
    assert len(blocks) == 3
    assert all(block.startswith("```") and block.endswith("```") for block in blocks)
    assert blocks[2] == '```js\nexport const route = {\n  from: "bay",\n\n};\n```'


def test_code_that_holds_a_fence_gets_a_longer_one() -> None:
    assert extract("<main><pre>```\nx\n```</pre></main>").text == "````\n```\nx\n```\n````"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one<br>two</p>", "one\ntwo"),
        (
            "<ul><li><p>a</p><p>b</p></li><li></li><li>c<ol start=3><li>d<li>e</ol></li></ul>",
            "- a\n\n  b\n- c\n  3. d\n  4. e",
        ),
        ("<p>E = <math><mi>m</mi><annotation encoding='application/x-tex'>mc^2</annotation></math></p>", "E = $mc^2$"),
        ("<p>soft&shy;ware zero&#8203;width a&nbsp;b</p>", "software zerowidth a b"),
        ("<p>seen<span style='display: none'>hidden</span><span hidden>too</span></p>", "seen"),
        ("<p>1 < 2 & 3</p>", "1 < 2 & 3"),
        ("<h1>A</h1><p>x</p><h3>B</h3><p>y</p>", "# A\n\nx\n\n### B\n\ny"),
        ("<div>loose <b>text</b><div>inner</div> after</div>", "loose text\n\ninner\n\nafter"),
        ("<table><tr><td>only<td>cells</tr></table>", "| only | cells |"),
        ("<p>Unclosed <b>bold<p>next", "Unclosed bold\n\nnext"),
    ],
)
def test_elements(html: str, text: str) -> None:
    assert extract(f"<main>{html}</main>").text == text


@pytest.mark.parametrize(
    "html", ["", "   ", "<html></html>", "<h1>Only a heading</h1>", "<nav>Only links</nav>", "\0\0"]
)
def test_a_page_that_says_nothing_has_no_text(html: str) -> None:
    assert extract(html).text == ""


def test_a_page_without_marks_is_narrowed_to_where_its_text_is() -> None:
    links = "".join(f"<li><a href='/{n}'>Chapter {n} of the long book</a></li>" for n in range(30))
    text = extract(
        f"<body><div id=top><ul>{links}</ul></div>"
        f"<div id=c><div><h1>Real</h1><p>{'Words of the page. ' * 20}</p></div></div>"
        "<div class=cookie-banner><p>We use cookies.</p></div></body>"
    ).text
    assert text.startswith("# Real\n\nWords of the page.")
    assert "Chapter" not in text
    assert "cookies" not in text


def test_a_section_about_cookies_is_no_banner() -> None:
    assert "Baked" in extract("<main><section id=cookie-notice><h2>Cookies</h2><p>Baked.</p></section></main>").text


def test_a_page_nested_beyond_reason_is_read_all_the_same() -> None:
    for opened in ("<div>", "<pre><div>", "<h1><b>", "<ul><li>", "<table><tr><td>"):
        page = extract("<main><p>before</p>" + opened * 600 + "deep")
        assert "before" in page.text
        assert "deep" in page.text


WORDS = st.integers(0, 10**6).map(lambda n: f"w{n}w")
INLINE = st.sampled_from(["b", "i", "code", "span", "a"])
BLOCKS = st.sampled_from(["p", "div", "section", "blockquote", "li", "h2", "h4", "td", "dd", "dt", "pre"])
TREES = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.tuples(INLINE, st.lists(inner, max_size=3)), st.tuples(BLOCKS, st.lists(inner, min_size=1, max_size=4))
    ),
    max_leaves=25,
)


def rendered(tree: object, words: list[str]) -> str:
    if isinstance(tree, str):
        words.append(tree)
        return f" {tree} "
    tag, children = tree  # type: ignore[misc]
    inner = "".join(rendered(child, words) for child in children)
    around = {"li": "<ul>{}</ul>", "td": "<table><tr>{}</tr></table>", "dd": "<dl>{}</dl>", "dt": "<dl>{}</dl>"}
    return around.get(tag, "{}").format(f"<{tag}>{inner}</{tag}>")


@given(st.lists(TREES, min_size=1, max_size=5))
def test_no_word_is_lost_repeated_or_moved(trees: list[object]) -> None:
    words: list[str] = []
    html = "<main>x0x" + "".join(rendered(tree, words) for tree in trees) + "</main>"
    text = extract(html).text
    found = [word.strip("`|") for word in text.replace("`", " ").replace("|", " ").split()]
    assert [word for word in found if word.startswith("w")] == words
