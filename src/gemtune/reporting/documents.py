"""What a report shows of pages: scores by document and page, and image, truth and replies side by side, marked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.metrics.arabic import FOLDINGS, fold
from gemtune.metrics.markdown import read_markdown
from gemtune.reporting.facts import Facts, facts_of
from gemtune.run_files import Evaluation, Summary
from gemtune.runs import Run
from gemtune.tasks.documents.replies import page_markdown, read_reply
from gemtune.tasks.documents.scores import CONTENT, METRICS, Truth, is_apart

TASK = "documents"
SHOWN = ("cer", "word_f1", "field_f1", "unsupported")  # of a document and a page
MOST_DOCUMENTS, MOST_PAGES = 50, 300  # lines of the table; the replies of all pages are in eval/
VIEWS = 8  # pages that are shown whole: half of them those that tuned read worst
LONGEST_VIEW = 6_000  # characters of a text beside its page; the whole one is in eval/

Mark = Literal["same", "differs"]
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Line:
    """A document, or a page of one with all its tasks: score -> who has read it -> value."""

    name: str
    pages: int
    scores: Mapping[str, Mapping[str, float]]
    is_page: bool = False


@dataclass(frozen=True)
class Side:
    """A text beside a page, in pieces; what differs from the truth is marked."""

    who: str
    pieces: Sequence[tuple[Mark, str]]
    score: float | None = None
    is_cut: bool = False


@dataclass(frozen=True)
class View:
    """A page with its truth and every reply."""

    name: str
    task: str
    images: Sequence[str]
    truth: Side
    sides: Sequence[Side]


@dataclass(frozen=True)
class Documents:
    """The section of a report."""

    who: Sequence[str]
    scores: Sequence[str]
    foldings: Sequence[tuple[str, Sequence[float]]]  # score and who, and its value in each folding
    lines: Sequence[Line]
    left_out: int
    views: Sequence[View]
    facts: Facts | None = None


@dataclass(frozen=True)
class _Page:
    """A test row with everybody's reply to it."""

    row: Conversation
    replies: Mapping[str, Evaluation]

    @property
    def document(self) -> str:
        return str(self.row.meta.get("document") or self.row.group)

    @property
    def place(self) -> str:
        number = self.row.meta.get("number")
        return self.row.where if number is None else f"page {number}"


def documents_of(run: Run, summary: Summary | None) -> Documents | None:
    """The pages of a run of the task `documents` that was evaluated; None of any other."""
    if summary is None or run.manifest.get("recipe", {}).get("task") != TASK or not run.part("test").is_file():
        return None
    folder = run.evaluation()
    who = [name for name in ("base", "tuned", *summary.beside) if folder.replies(name).is_file()]
    replies = {name: {line.where: line for line in folder.evaluations(name)} for name in who}
    pages = [
        _Page(row, {name: replies[name][row.where] for name in who if row.where in replies[name]})
        for row in read_conversations(run.part("test"))
    ]
    pages = [page for page in pages if page.replies]
    lines, left_out = _lines(pages, who)
    scores = [score for score in SHOWN if any(score in line.scores for line in lines)]
    views = [_view(page) for page in _chosen(pages)]
    facts = facts_of(_texts(page) for page in pages if page.row.meta["task"] == CONTENT)
    return Documents(who, scores, list(_foldings(summary)), lines, left_out, views, facts)


def _texts(page: _Page) -> tuple[str, str, dict[str, str]]:
    """The name of a page, its true text, and everybody's."""
    truth = Truth.of(page.row.meta, page.row.answer).text.text
    texts = {who: read_markdown(page_markdown(read_reply(line.reply))).text for who, line in page.replies.items()}
    return f"{page.document}, {page.place}", truth, texts


# --- tables -----------------------------------------------------------------------------------------------------------


def _foldings(summary: Summary) -> Iterator[tuple[str, Sequence[float]]]:
    """CER and WER of everybody, with each way to compare texts."""
    for rate in ("cer", "wer"):
        names = [f"{rate}_{folding}" for folding in FOLDINGS]
        if not all(name in summary.metrics for name in names):
            continue
        sides = {"base": [summary.metrics[name].base.mean for name in names]}
        sides["tuned"] = [summary.metrics[name].tuned.mean for name in names]
        for who, compared in summary.beside.items():
            if all(name in compared for name in names):
                sides[who] = [compared[name].base.mean for name in names]
        for who, values in sides.items():
            yield f"{rate.upper()}, {who}", values


def _lines(pages: Sequence[_Page], who: Sequence[str]) -> tuple[list[Line], int]:
    """A line a document and one below it for each of its pages, and how many documents are left out."""
    of_document: dict[str, list[_Page]] = {}
    for page in pages:
        of_document.setdefault(page.document, []).append(page)
    lines: list[Line] = []
    shown = 0
    for document, own in of_document.items():
        if shown == MOST_DOCUMENTS or (shown and len(lines) + len(own) > MOST_PAGES):
            break
        shown += 1
        places: dict[str, list[_Page]] = {}
        for page in own:
            places.setdefault(page.place, []).append(page)
        lines.append(Line(document, len(places), _scores(own, who)))
        pages_shown = list(places.items())[:MOST_PAGES]
        lines += (Line(place, 1, _scores(tasks, who), is_page=True) for place, tasks in pages_shown)
    return lines, len(of_document) - shown


def _scores(pages: Sequence[_Page], who: Sequence[str]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for score in SHOWN:
        for name in who:
            rows = [page.replies[name].scores for page in pages if name in page.replies]
            rows = [row for row in rows if score in row]
            if rows:
                table.setdefault(score, {})[name] = _combined(score, rows)
    return table


def _combined(score: str, rows: Sequence[Mapping[str, float]]) -> float:
    combine = METRICS[score].combine
    if combine is None:
        return float(np.mean([row[score] for row in rows]))
    names = [name for name in rows[0] if all(name in row for row in rows)]
    return float(combine({name: np.array([row[name] for row in rows]) for name in names}))


# --- pages side by side -----------------------------------------------------------------------------------------------


def _chosen(pages: Sequence[_Page]) -> list[_Page]:
    """The pages that tuned read worst, and as many spread over the others, in the order of the data."""
    judged = [page for page in pages if "tuned" in page.replies and "similarity" in page.replies["tuned"].scores]
    worst = sorted(judged, key=lambda page: page.replies["tuned"].scores["similarity"])[: VIEWS // 2]
    rest = [page for page in judged if page not in worst]
    spread = rest[:: max(1, -(-len(rest) // (VIEWS - len(worst))))] if rest else []
    return [page for page in judged if page in worst or page in spread][:VIEWS]


def _view(page: _Page) -> View:
    meta, row = page.row.meta, page.row
    is_content, has_truth = meta["task"] == CONTENT, is_apart(meta)
    truth = readable(str(meta["reference"]) if has_truth else row.answer, is_content)
    replies = {who: line for who, line in page.replies.items() if has_truth or who != "teacher"}  # its own answer
    texts = {who: readable(line.reply, is_content) for who, line in replies.items()}
    marked = {who: differences(truth, text) for who, text in texts.items()}
    against = marked.get("tuned") or next(iter(marked.values()))
    return View(
        name=f"{page.document}, {page.place}, {meta['task']}",
        task=str(meta["task"]),
        images=row.image_paths,
        truth=Side("true text" if has_truth else "the teacher's answer", against[0]),
        sides=[Side(who, marked[who][1], line.scores.get("similarity"), line.cut) for who, line in replies.items()],
    )


def readable(text: str, is_content: bool) -> str:
    """A reply for people: a page's Markdown; of fields, a line each, such as `source.issuer: Ministry`."""
    reply = read_reply(text)
    if is_content:
        shown = page_markdown(reply)
    else:
        shown = "\n".join(_field_lines(reply.value, "")) if isinstance(reply.value, dict) else text
    return shown[:LONGEST_VIEW]


def _field_lines(value: object, at: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _field_lines(below, f"{at}.{name}" if at else str(name))
    elif isinstance(value, list) and value:
        for number, below in enumerate(value, 1):
            yield from _field_lines(below, f"{at}[{number}]")
    elif value not in (None, "", [], {}):
        yield f"{at}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def differences(truth: str, reply: str) -> tuple[list[tuple[Mark, str]], list[tuple[Mark, str]]]:
    """Both texts in pieces, each word that is not in the other at its place marked; foldings do not count.

    >>> differences("القاهرة في 2024", "القاهره فى ٢٠٢٣")
    ([('same', 'القاهرة في '), ('differs', '2024')], [('same', 'القاهره فى '), ('differs', '٢٠٢٣')])
    """
    before, after = list(_WORD.finditer(truth)), list(_WORD.finditer(reply))
    keys = [[fold(word[0]) for word in words] for words in (before, after)]
    counted = [[number for number, key in enumerate(side) if key] for side in keys]  # not bare punctuation
    same: tuple[set[int], set[int]] = ({*range(len(before))}, {*range(len(after))})
    first, second = ([side[number] for number in numbers] for side, numbers in zip(keys, counted, strict=True))
    for step in Levenshtein.opcodes(first, second):
        if step.tag != "equal":
            same[0].difference_update(counted[0][step.src_start : step.src_end])
            same[1].difference_update(counted[1][step.dest_start : step.dest_end])
    return _pieces(truth, before, same[0]), _pieces(reply, after, same[1])


def _pieces(text: str, words: Sequence[re.Match[str]], same: set[int]) -> list[tuple[Mark, str]]:
    """The text cut where the mark changes; the space between two words that differ goes with them."""
    pieces: list[tuple[Mark, str]] = []
    start = 0
    for number, word in enumerate(words):
        mark: Mark = "same" if number in same else "differs"
        gap = text[start : word.start()]
        if pieces and pieces[-1][0] == mark:
            pieces[-1] = mark, pieces[-1][1] + gap + word[0]
        elif mark == "same":
            pieces.append((mark, gap + word[0]))
        else:
            before = (pieces.pop()[1] if pieces else "") + gap
            if before:
                pieces.append(("same", before))
            pieces.append((mark, word[0]))
        start = word.end()
    return pieces
