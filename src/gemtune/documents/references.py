"""The true text of a document, where the user has put one beside it, and what of it each page has.

`NAME.md` or `NAME.txt` beside `NAME.pdf` is the text of the whole document, and `NAME.3.md` that of its third page.
Form feeds divide a text into pages. One without them is divided by what tesseract or the text layer reads on each page:
words go to the page that has them, in order, and a page that has too few of its words gets none.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gemtune.errors import DataError
from gemtune.files import READING, os_errors

ENDINGS = (".md", ".txt")
LEAST = 0.2  # of a page's part that is on that page, and of the page's words that it is as long as

_ALONE = 0.25  # of a word that is on a page, but not beside the same word
_LINE = 0.5

_WORD = re.compile(r"\S+")
_LETTERS = re.compile(r"[^\w]|_")


def reference_files(document: Path, numbers: list[int]) -> list[Path]:
    """The files beside a document with its true text."""
    names = [document.stem, *(f"{document.stem}.{number}" for number in numbers)]
    paths = [document.with_name(name + ending) for name in names for ending in ENDINGS]
    return [path for path in paths if path.is_file()]


def references_of(document: Path, texts: Mapping[int, str]) -> dict[int, str]:
    """The true text of each page of a document; `texts` is what is read on its pages, by number, in order."""
    files = {path.stem: _text(path) for path in reversed(reference_files(document, list(texts)))}
    whole = files.get(document.stem, "")
    parts = _by_form_feeds(whole, list(texts)) if "\f" in whole else divided(whole, texts)
    alone = {number: files[f"{document.stem}.{number}"] for number in texts if f"{document.stem}.{number}" in files}
    return {**parts, **alone}


def _text(path: Path) -> str:
    try:
        with os_errors(path, READING):
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from error


def _by_form_feeds(text: str, numbers: list[int]) -> dict[int, str]:
    """
    >>> _by_form_feeds("one\\ftwo\\fthree\\f", [1, 3])
    {1: 'one', 3: 'three'}
    """
    pages = [page.strip() for page in text.split("\f")]
    return {number: pages[number - 1] for number in numbers if number <= len(pages) and pages[number - 1]}


def divided(text: str, texts: Mapping[int, str]) -> dict[int, str]:
    """The text cut into the parts of pages, in order, so that most words are in a part whose page has them.

    >>> divided("the red fox\\nruns home", {1: "a title", 2: "the red fox", 3: "runs home"})
    {2: 'the red fox', 3: 'runs home'}
    """
    words = list(_WORD.finditer(text))
    if len(texts) < 2 or not words:
        return {number: text.strip() for number in texts if words}
    tokens = [_folded(word[0]) for word in words]
    scores = np.stack([_on_page(tokens, page) for page in texts.values()], axis=1)  # (words, pages)
    begins_line = np.array([text.rfind("\n", before, word.start()) >= 0 for before, word in _gaps(words)])
    sizes = np.array([len(page.split()) for page in texts.values()])
    numbers = np.array(list(texts))
    while numbers.size:
        page_of = _path(scores, begins_line)
        counts = np.bincount(page_of, minlength=len(numbers))
        sure = np.bincount(page_of, scores[np.arange(len(words)), page_of], len(numbers))
        has_part = (sure >= LEAST * counts) & (counts > LEAST * sizes)
        if has_part.all():
            break
        numbers, sizes, scores = numbers[has_part], sizes[has_part], scores[:, has_part]
    return {int(number): _cut(text, words, np.flatnonzero(page_of == place)) for place, number in enumerate(numbers)}


def _cut(text: str, words: list[re.Match[str]], part: np.ndarray) -> str:
    return text[words[part[0]].start() : words[part[-1]].end()]


def _on_page(tokens: list[str], page: str) -> np.ndarray:
    """For each word, how sure it is that it is on a page: 1 with its neighbour, less alone, 0 where it is not there."""
    there = [_folded(word) for word in page.split()]
    alone, pairs = set(there), set(itertools.pairwise(there))
    scores = np.zeros(len(tokens))
    for index, token in enumerate(tokens):
        before, after = tokens[index - 1 : index], tokens[index + 1 : index + 2]
        near = (before and (before[0], token) in pairs) or (after and (token, after[0]) in pairs)
        scores[index] = 1.0 if near else _ALONE if token in alone else 0.0
    return scores


def _gaps(words: list[re.Match[str]]) -> Iterator[tuple[int, re.Match[str]]]:
    """Each word after the first, with the end of the one before it."""
    return ((before.end(), word) for before, word in itertools.pairwise(words))


def _path(scores: np.ndarray, begins_line: np.ndarray) -> np.ndarray:
    """(words, pages) -> the page of each word, never before that of the word before it, for the highest sum.

    A part that begins a line is likelier.
    """
    total = np.cumsum(scores, axis=0)
    words, pages = scores.shape
    best, cut = total[:, 0], np.zeros((pages, words), np.int64)  # cut: where a page's part begins when it ends here
    for page in range(1, pages):
        start = np.concatenate(
            [[0.0], best[:-1] - total[:-1, page]]
        )  # a part that begins at a word, less what is before
        begins = np.maximum.accumulate(np.arange(words) * (start >= np.maximum.accumulate(start)))
        stay = total[:, page] + start[begins]
        cut[page] = np.where(stay > best, begins, np.arange(words) + 1)
        best = np.maximum(stay, best)
    page_of, end = np.zeros(words, np.int64), words
    for page in range(pages - 1, 0, -1):
        begin = int(cut[page][end - 1]) if end else 0
        page_of[begin:end] = page
        end = min(begin, end)
    return page_of


def _folded(word: str) -> str:
    """A word without marks, so that a text and a reading of it meet.

    >>> _folded("الأُمَّة،") == _folded("الامة")
    True
    """
    plain = unicodedata.normalize("NFKD", word)
    return _LETTERS.sub("", "".join(letter for letter in plain if not unicodedata.combining(letter))).casefold()
