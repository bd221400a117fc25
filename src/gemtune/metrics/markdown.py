"""A page's Markdown taken apart: its words without markup, its headings and list entries, its tables."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz, process
from rapidfuzz.distance import LCSseq

from gemtune.metrics.arabic import fold

SAME = 80.0  # similarity from which a heading or list entry of a reply is the one of the truth
MOST_SPAN = 1_000  # as in browsers

_TABLE_ENDS = re.compile(r"<(/?)table\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)\b([^<>]*)>")
_SPAN = re.compile(r"\b(colspan|rowspan)\s*=\s*[\"']?\s*(\d{1,9})", re.IGNORECASE)
_RULE_SIGNS = set("|:- \t")
_PIPE = re.compile(r"(?<!\\)\|")

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)")
_HTML_HEADING = re.compile(r"<h([1-6])\b[^<>]*>([^<>]*)</h[1-6]>", re.IGNORECASE)
_ENTRY = re.compile(r"[ \t]*(?:[-*+•▪●◦‣–][ \t]+|([0-9٠-٩۰-۹]{1,3}[.)][ \t]+))(.*)")
_LINE = re.compile(r"[ \t]*([-*_=][ \t]*){3,}")
_FENCE = re.compile(r"[ \t]*(```|~~~)[\w-]{0,20}[ \t]*")
_MARKUP = re.compile(
    r"!\[[^\[\]\n]{0,500}\](?:\([^()\n]{0,2000}\))?"  # a figure: what it shows is not on the page
    r"|<!--[^<]{0,2000}-->|</?[a-zA-Z][^<>]{0,2000}>",
    re.DOTALL,
)
_LINK = re.compile(r"\[([^\[\]\n]{0,500})\]\([^()\n]{0,2000}\)")
_EMPHASIS = re.compile(r"(?<!\\)(\*{1,3}|__|~~|`+)")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+.!|<>~-])")


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    columns: int = 1
    rows: int = 1


Table = tuple[tuple[Cell, ...], ...]  # rows of cells, as they are written


@dataclass(frozen=True)
class Markdown:
    """What a page says, and how it is built.

    >>> page = read_markdown("# A **b**\\n\\n- c\\n1. d\\n\\n| e | f |\\n|---|---|\\n| 1 | x\\\\|y |\\n![g](figure)")
    >>> page.text, page.headings, page.entries, page.outline
    ('A b\\n\\nc\\n1. d\\n\\ne f\\n1 x|y', ('A b',), ('c', '1. d'), ('h1', 'entry', 'entry', 'table', 'figure'))
    """

    text: str
    headings: tuple[str, ...]
    entries: tuple[str, ...]
    tables: tuple[Table, ...]
    outline: tuple[str, ...]  # the headings, list entries, tables and figures, in order


@lru_cache(maxsize=512)  # a truth is compared with several replies
def read_markdown(source: str) -> Markdown:
    """The parts of a page's Markdown; plain text is Markdown without any."""
    lines, tables = _split_tables(source)
    headings: list[str] = []
    entries: list[str] = []
    outline: list[str] = []
    texts: list[str] = []
    waiting = iter(tables)
    for line in lines:
        if line == "\0":
            outline.append("table")
            texts += (" ".join(cell.text for cell in row if cell.text) for row in next(waiting))
            continue
        outline += ["figure"] * line.count("![")
        if _LINE.fullmatch(line[:500]) or _FENCE.fullmatch(line[:500]):
            continue
        if heading := _heading(line):
            level, text = heading
            outline.append(f"h{level}")
            headings.append(text)
        elif entry := _ENTRY.fullmatch(line):
            text = (entry[1] or "").strip() + " " * bool(entry[1]) + inline(entry[2])
            outline.append("entry")
            entries.append(text)
        else:
            text = inline(line.lstrip("> ") if line.lstrip().startswith(">") else line)
        texts.append(text)
    return Markdown("\n".join(texts).strip(), tuple(headings), tuple(entries), tuple(tables), tuple(outline))


def _heading(line: str) -> tuple[int, str] | None:
    if match := _HEADING.fullmatch(line):
        return len(match[1]), inline(match[2].rstrip().rstrip("#"))
    match = _HTML_HEADING.search(line)
    return (int(match[1]), inline(line)) if match else None


def inline(text: str) -> str:
    """A line without its markup: emphasis, links, figures, tags, escapes and entities.

    >>> inline(r"**a** [b](http://c) 2 \\* 3 &lt;d&gt; <br> ![e](f)")
    'a b 2 * 3 <d>'
    """
    if text.isalnum():
        return text
    text = _LINK.sub(r"\1", _MARKUP.sub(" ", text))
    return html.unescape(_ESCAPE.sub(r"\1", _EMPHASIS.sub("", text))).strip()


# --- tables -----------------------------------------------------------------------------------------------------------


def _split_tables(source: str) -> tuple[list[str], list[Table]]:
    """The lines without the tables, `\\0` where each was, and the tables: those of HTML, and those of pipes."""
    pieces, html_tables = _split_html(source.replace("\0", " "))
    rest = "\n\0\n".join(pieces).splitlines()
    tables: list[Table] = []
    lines: list[str] = []
    number, waiting = 0, iter(html_tables)
    while number < len(rest):
        end = _end_of_pipes(rest, number)
        if end > number:
            tables.append(_pipe_table(rest[number:end]))
            lines.append("\0")
        else:
            lines.append(rest[number])
            if rest[number] == "\0":
                tables.append(next(waiting))
        number = max(end, number + 1)
    return lines, tables


def _split_html(source: str) -> tuple[list[str], list[Table]]:
    """What is around the HTML tables, one piece more than there are tables; a table in a table is part of it."""
    pieces, tables, depth, start = [""], [], 0, 0
    for tag in _TABLE_ENDS.finditer(source):
        if not tag[1]:
            if depth == 0:
                pieces[-1] += source[start : tag.start()]
                start = tag.end()
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                beside, table = _html_table(source[start : tag.start()])
                pieces[-1] += f"\n{beside}"
                pieces.append("")
                tables.append(table)
                start = tag.end()
    if depth:
        beside, table = _html_table(source[start:])
        return [*pieces[:-1], f"{pieces[-1]}\n{beside}", ""], [*tables, table]
    return [*pieces[:-1], pieces[-1] + source[start:]], tables


def _end_of_pipes(lines: Sequence[str], start: int) -> int:
    """The line after the Markdown table that starts here; `start` where none does."""
    if start + 1 >= len(lines) or "|" not in lines[start]:
        return start
    rule = lines[start + 1]
    if "|" not in rule or "-" not in rule or not set(rule) <= _RULE_SIGNS:
        return start
    end = start + 2
    while end < len(lines) and "|" in lines[end]:
        end += 1
    return end


def _pipe_table(lines: Sequence[str]) -> Table:
    """A row a line, but for the rule below the head; any `|` without a backslash divides cells."""
    return tuple(tuple(map(Cell, _pipe_cells(line))) for number, line in enumerate(lines) if number != 1)


def _pipe_cells(line: str) -> Iterator[str]:
    inner = line.strip().removeprefix("|")
    inner = inner if inner.endswith("\\|") else inner.removesuffix("|")
    return (inline(cell.strip()) for cell in _PIPE.split(inner))


def _html_table(inner: str) -> tuple[str, Table]:
    """What is between <table> and </table>, whether or not its ends are marked: text beside the cells, and the rows."""
    rows: list[list[Cell]] = []
    beside: list[str] = []  # a caption
    cell: list[str] | None = None  # the pieces of the one that is open
    spans: dict[str, int] = {}
    start = 0
    for tag in [*_TAG.finditer(inner), None]:
        (beside if cell is None else cell).append(inner[start : tag.start() if tag else len(inner)])
        name = tag[2].lower() if tag else "tr"
        if name in ("td", "th", "tr") and cell is not None:
            words = " ".join(inline("".join(cell)).split())
            rows[-1].append(Cell(words, spans.get("colspan", 1), spans.get("rowspan", 1)))
            cell = None
        if tag is None:
            break
        start = tag.end()
        if cell is not None:
            cell.append(tag[0])
        elif name == "tr" and not tag[1]:
            rows.append([])
        elif name in ("td", "th") and not tag[1]:
            rows = rows or [[]]
            cell = []
            spans = {key.lower(): min(max(int(number), 1), MOST_SPAN) for key, number in _SPAN.findall(tag[3])}
    return " ".join(" ".join(beside).split()), tuple(tuple(row) for row in rows if row)


# --- comparing --------------------------------------------------------------------------------------------------------


def same_lines_f1(reply: Sequence[str], truth: Sequence[str]) -> float:
    """F1 of headings or list entries: each of the truth finds at most one of the reply that is nearly the same.

    >>> same_lines_f1(["Introduction", "More"], ["Introductlon"]), same_lines_f1([], [])
    (0.6666666666666666, 1.0)
    """
    if not reply or not truth or reply == truth:
        return float(tuple(reply) == tuple(truth))
    free = dict(enumerate(map(fold, reply)))
    hits = 0
    for line in map(fold, truth):
        nearest = process.extractOne(line, free, scorer=fuzz.ratio, score_cutoff=SAME)
        if nearest:
            del free[nearest[2]]
            hits += 1
    return 2 * hits / (len(reply) + len(truth))


def outline_f1(reply: Sequence[str], truth: Sequence[str]) -> float:
    """F1 of the longest part of an outline that both have in the same order; 1.0 where neither has any.

    >>> outline_f1(["h1", "entry", "table"], ["h1", "table"]), outline_f1([], []), outline_f1(["h1"], [])
    (0.8, 1.0, 0.0)
    """
    if not reply or not truth:
        return float(tuple(reply) == tuple(truth))
    return 2 * LCSseq.similarity(reply, truth) / (len(reply) + len(truth))
