"""What tesseract reads on a page image: words in reading order, with boxes and confidences.

Tesseract is a program of the system and optional; `available` says how to install it. It runs in a process of its own,
one thread each, and is killed when it takes too long.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from PIL import Image

from gemtune.documents.folder import DistilledFolder, Page
from gemtune.documents.light_ground import on_light_ground
from gemtune.errors import GemtuneError, RunError
from gemtune.files import read_json, write_text
from gemtune.run_files import Stored

LANGUAGES = ("ara", "eng")
AUTO = "auto"  # of LANGUAGES, by what is on the page
SECONDS = 180.0  # for one reading; a page takes 3 to 4 s of one core, and the machine may be busy

_PROGRAM = "tesseract"
_INSTALL = (
    "`sudo apt install tesseract-ocr tesseract-ocr-ara` (Debian, Ubuntu) or `brew install tesseract tesseract-lang`"
)
_INHERITED = ("PATH", "HOME", "SYSTEMROOT", "TMPDIR", "TEMP", "TESSDATA_PREFIX")  # of the environment: no key
_WHOLE_PAGE = "3"  # --psm: the one that never fails badly
_DPI = "200"  # not told, it guesses: 21 and 13 % of wrong characters in pdf3 and pdf6 of KITAB-Bench, not 14 and 7
_ORIENTATION = "0"  # --psm: which side is up, and nothing else
_SURE = 80.0  # confidence from which on a word tells which script it is in; Arabic misread as Latin has less
_ARABIC_ONLY, _LATIN_ONLY = 0.02, 0.98  # share of Latin letters, up to which and from which one language reads better
_ARABIC, _LATIN = re.compile("[\u0620-\u064a\u066e-\u06d3]"), re.compile("[A-Za-z]")


# What Pillow raises on damaged files.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class OcrError(GemtuneError):
    """A page image that tesseract cannot read."""


@dataclass(frozen=True)
class Word:
    """A word as tesseract saw it."""

    text: str
    box: Annotated[tuple[int, int, int, int], "left, top, right, bottom", "pixels"]
    confidence: Annotated[float, "from 0 to 100"]
    line: Annotated[int, "of the page, from 0"]
    paragraph: Annotated[int, "of the page, from 0"]


@dataclass(frozen=True, kw_only=True)
class OcrPage(Stored):
    """A page as tesseract read it: a file of `ocr/`, named by the SHA-256 of the page's pixels."""

    asked: Annotated[str, "the languages asked for; `auto`: chosen by the script of the page"]
    languages: Annotated[str, "those it was read with"]
    engine: Annotated[str, "tesseract's version"]
    words: Annotated[list[Word], "in reading order"]
    first: Annotated[list[Word], "as read with all languages, before those of the page were known"] = field(
        default_factory=list
    )

    @property
    def readings(self) -> list[OcrPage]:
        """The page and, where there was one, its first reading: that has the one address in Latin letters."""
        both = "+".join(LANGUAGES)
        return [self, *([replace(self, languages=both, words=self.first, first=[])] if self.first else [])]

    @property
    def text(self) -> str:
        """The words, a line as a line, paragraphs a blank line apart."""
        return "".join(before + word.text for before, word in zip(self._gaps(), self.words, strict=True))

    def spans(self) -> list[tuple[int, int]]:
        """Where in `text` each word is."""
        spans, end = [], 0
        for before, word in zip(self._gaps(), self.words, strict=True):
            start = end + len(before)
            spans.append((start, end := start + len(word.text)))
        return spans

    def _gaps(self) -> list[str]:
        """What stands before each word."""
        gaps = [
            "\n\n" if b.paragraph != a.paragraph else "\n" if b.line != a.line else " " for a, b in pairwise(self.words)
        ]
        return ["", *gaps][: len(self.words)]

    @property
    def confidence(self) -> float:
        """Of its letters and digits, on average; 0 where there are none."""
        counts = [(sum(map(str.isalnum, word.text)), word.confidence) for word in self.words]
        letters = sum(count for count, _ in counts)
        return sum(count * confidence for count, confidence in counts) / letters if letters else 0.0


def available(languages: str = AUTO) -> str | None:
    """Why tesseract cannot read these languages here, with the line that mends it; None where it can."""
    if shutil.which(_PROGRAM) is None:
        return f"tesseract is not installed; {_INSTALL} installs it"
    missing = [language for language in _names(languages) if language not in _installed()]
    packages = " ".join(f"tesseract-ocr-{language}" for language in missing)
    if missing:
        return (
            f"tesseract has no {' and no '.join(missing)}; `sudo apt install {packages}` (Debian, Ubuntu) or "
            "`brew install tesseract-lang` installs it"
        )
    return None


def _names(languages: str) -> list[str]:
    return list(LANGUAGES) if languages == AUTO else languages.split("+")


@cache
def _installed() -> frozenset[str]:
    return frozenset(_run(["--list-langs"]).splitlines()[1:])


@cache
def engine() -> str:
    """The program and its version, as in `tesseract 5.3.0`."""
    return _run(["--version"]).splitlines()[0].strip()


def read(image: Path, cache: Path | None = None, languages: str = AUTO, *, seconds: float = SECONDS) -> OcrPage:
    """What stands on a page image; OcrError when tesseract is not there, or cannot read it within `seconds`.

    `cache` is the folder of what was read before: by the image's name, which is the SHA-256 of its pixels.
    """
    kept = cache / image.stem[:2] / f"{image.stem}.json" if cache else None
    if kept and kept.is_file() and (page := _kept(kept)) and page.asked == languages:
        return page
    if fault := available(languages):
        raise OcrError(fault)
    page = _read(image, languages, seconds)
    if kept:
        write_text(kept, json.dumps(page.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n")
    return page


def _kept(path: Path) -> OcrPage | None:
    """What was read before; None where the file is damaged: the page is read again."""
    try:
        return OcrPage.from_json(read_json(path), path)
    except RunError:
        return None


def _read(image: Path, asked: str, seconds: float) -> OcrPage:
    languages = "+".join(LANGUAGES) if asked == AUTO else asked
    try:
        data = on_light_ground(image)
    except _UNREADABLE as error:
        raise OcrError(f"{image.name}: cannot be decoded ({error})") from error
    words, first = _words(image.name, data, languages, seconds), []
    if asked == AUTO and (better := languages_for(words)) != languages:
        words, first, languages = _words(image.name, data, better, seconds), words, better
    return OcrPage(asked=asked, languages=languages, engine=engine(), words=words, first=first)


def languages_for(words: Sequence[Word]) -> str:
    """What reads a page best, by the script of what a first reading with all languages is sure of.

    Both together rescue mixed pages and hurt purely Arabic ones: 15 % of characters wrong become 18 %.
    """
    sure = "".join(word.text for word in words if word.confidence >= _SURE)
    latin, arabic = len(_LATIN.findall(sure)), len(_ARABIC.findall(sure))
    share = latin / (latin + arabic) if latin + arabic else 0.5
    return "ara" if share <= _ARABIC_ONLY else "eng" if share >= _LATIN_ONLY else "+".join(LANGUAGES)


def _words(name: str, data: bytes, languages: str, seconds: float) -> list[Word]:
    settings = ["--psm", _WHOLE_PAGE, "--dpi", _DPI]
    table = _run(["stdin", "stdout", "-l", languages, *settings, "tsv"], data, name, seconds)
    lines: dict[tuple[str, ...], int] = {}
    paragraphs: dict[tuple[str, ...], int] = {}
    words = []
    for row in table.splitlines()[1:]:
        level, *place, left, top, width, height, confidence, text = row.split("\t", 11)
        if level == "5" and text.strip():
            line = lines.setdefault(tuple(place[:4]), len(lines))
            paragraph = paragraphs.setdefault(tuple(place[:3]), len(paragraphs))
            x, y = int(left), int(top)
            box = (x, y, x + int(width), y + int(height))
            words.append(Word(text.strip(), box, float(confidence), line, paragraph))
    return words


def orientation(image: bytes, *, seconds: float = SECONDS) -> int:
    """By how many degrees a page image must be turned clockwise to stand upright: 0, 90, 180 or 270.

    0 where too little is on the page to tell. The image is the bytes of a file.
    """
    if fault := available("osd"):
        raise OcrError(fault)
    try:
        report = _run(["stdin", "stdout", "--psm", _ORIENTATION], image, "a page", seconds)
    except OcrError as error:
        if "Too few characters" in str(error):
            return 0
        raise
    found = re.search(r"^Rotate: (\d+)", report, re.MULTILINE)
    return int(found[1]) % 360 if found else 0


def read_pages(
    folder: DistilledFolder, pages: Sequence[Page], tick: Callable[[str, int, int], None], workers: int | None = None
) -> dict[str, OcrPage | OcrError]:
    """What tesseract reads on pages, by their `image`, or why it cannot; one process a core, what was read is kept."""
    if fault := available():
        return {page.image: OcrError(fault) for page in pages}

    def attempt(image: str) -> OcrPage | OcrError:
        try:
            return read(folder.root / image, folder.ocr)
        except OcrError as error:
            return error

    read_texts: dict[str, OcrPage | OcrError] = {}
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        readings = {pool.submit(attempt, image): image for image in dict.fromkeys(page.image for page in pages)}
        try:
            for done, reading in enumerate(as_completed(readings), 1):
                read_texts[readings[reading]] = reading.result()
                tick("pages read by tesseract", done, len(readings))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return read_texts


def _run(arguments: list[str], data: bytes | None = None, name: str = "tesseract", seconds: float = SECONDS) -> str:
    """Tesseract's standard output; OcrError with its last words where it fails."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        done = subprocess.run(  # noqa: S603  # tesseract, with arguments of ours
            [shutil.which(_PROGRAM) or _PROGRAM, *arguments],
            input=data,
            capture_output=True,
            timeout=seconds,
            env={**environment, "OMP_THREAD_LIMIT": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise OcrError(f"{name}: tesseract takes longer than {seconds:g} s") from error
    if done.returncode:
        said = "; ".join(done.stderr.decode(errors="replace").strip().splitlines()[-2:])
        raise OcrError(f"{name}: tesseract failed ({said or f'it ended with {done.returncode}'})")
    return done.stdout.decode(errors="replace")
