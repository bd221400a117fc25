"""A page's Markdown taken apart, also where it is not quite Markdown."""

from __future__ import annotations

import pytest

from gemtune.metrics.markdown import Cell, inline, outline_f1, read_markdown, same_lines_f1


def cells(source: str) -> list[list[list[str]]]:
    return [[[cell.text for cell in row] for row in table] for table in read_markdown(source).tables]


PIPES = "| a | b |\n|:--|--:|\n| 1 | 2 |"
HTML = "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table>"


@pytest.mark.parametrize(
    "source",
    [
        PIPES,
        HTML,
        "a|b\n-|-\n1|2",
        HTML.replace("table", "TABLE").replace("td", "TD"),
        f"x\n\n{PIPES}\n\ny",
        "<table><tr><td>a<td>b<tr><td>1<td>2",
        "<table border=1>\n<tr>\n<td>a</td>\n<td><b>b</b></td></tr><tr><td>1</td><td>2",
    ],
)
def test_one_table_in_many_spellings(source: str) -> None:
    assert cells(source) == [[["a", "b"], ["1", "2"]]]
    assert "1 2" in read_markdown(source).text and "|" not in read_markdown(source).text


def test_spans_and_empty_cells_stay() -> None:
    [table] = read_markdown('<table><tr><td colspan="2" rowspan=3>a</td><td></td></tr></table>').tables
    assert table == ((Cell("a", 2, 3), Cell("")),)
    assert cells("|a||c|\n|-|-|-|\n||x|\n") == [[["a", "", "c"], ["", "x"]]]


def test_a_pipe_that_is_not_escaped_makes_a_cell_more() -> None:
    assert cells("| a | b |\n|---|---|\n| 1 | x|y |\n| 2 | x\\|y |") == [[["a", "b"], ["1", "x", "y"], ["2", "x|y"]]]


@pytest.mark.parametrize("span", ["999999999", "0", "-3", "x", "1e9"])
def test_absurd_spans_are_bounded(span: str) -> None:
    [table] = read_markdown(f'<table><tr><td colspan="{span}">a</td></tr></table>').tables
    assert 1 <= table[0][0].columns <= 1_000


def test_a_table_in_a_table_and_text_after_it() -> None:
    page = read_markdown("<table><tr><td><table><tr><td>in</td></tr></table></td><td>out</td></tr></table>after")
    assert page.outline == ("table",) and page.text.endswith("after") and "out" in page.text


def test_a_caption_is_text_of_the_page() -> None:
    page = read_markdown("x <table border='1'><caption> جدول <b>١</b></caption><tr><td>a</td></tr></table> y <table>z")
    assert page.text.split() == ["x", "جدول", "١", "a", "y", "z"] and len(page.tables) == 2


def test_text_has_no_markup_and_all_the_words() -> None:
    source = "# T\n<div dir='rtl'>**Bold** and *thin* `code`</div>\n---\n> said\n* point\n١. أول\n![map](m.png) [site](http://x)"
    page = read_markdown(source)
    assert page.text.split() == ["T", "Bold", "and", "thin", "code", "said", "point", "١.", "أول", "site"]
    assert page.headings == ("T",) and page.entries == ("point", "١. أول")
    assert page.outline == ("h1", "entry", "entry", "figure")


def test_plain_text_is_markdown_without_any() -> None:
    text = "صفحة بلا علامات\nوسطر ثان - بشرطة 5 * 3"
    assert read_markdown(text).outline == ()
    assert read_markdown(text).text.split("\n")[0] == "صفحة بلا علامات"


def test_what_looks_like_a_tag_and_is_none_stays() -> None:
    assert inline("3 < 4 and 5 > 2") == "3 < 4 and 5 > 2"
    assert inline("&lt;b&gt; \\* \\#") == "<b> * #"


@pytest.mark.parametrize(
    "piece", ["<", "<table>", "|", "[", "![", "<!--", "*", "\\", "#", "<td>", "| - |\n", "`", "</table>"]
)
def test_any_amount_of_half_markup_is_read(piece: str) -> None:
    assert isinstance(read_markdown(piece * 20_000).text, str)


def test_empty_is_empty() -> None:
    page = read_markdown("")
    assert (page.text, page.headings, page.tables, page.outline) == ("", (), (), ())


def test_headings_and_entries_find_their_like_once() -> None:
    assert same_lines_f1(["مقدمه", "مقدمة"], ["مقدّمة"]) == pytest.approx(2 / 3)
    assert same_lines_f1(["a b c"], ["x y z"]) == 0.0


def test_an_outline_is_in_order() -> None:
    assert outline_f1(("h1", "table", "entry"), ("h1", "entry", "table")) == pytest.approx(2 / 3)
