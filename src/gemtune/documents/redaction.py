"""Solid boxes over what must not be seen on a page image, from the boxes of the words that tesseract read."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapidfuzz.fuzz import partial_ratio_alignment

from gemtune.documents.folder import Page
from gemtune.documents.ocr import OcrPage, Word
from gemtune.documents.personal_data.reading_orders import Reading, fold, readings
from gemtune.documents.render import pixels_of
from gemtune.files import write_bytes

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

_ALIKE = 85.0  # percent: how much of a value tesseract must have read right for its place to be known


@dataclass(frozen=True)
class Redaction:
    """A value that is covered, and where; the value itself stays in memory."""

    kind: str
    value: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Sendable:
    """A page that may go to a teacher, by this image of it. What is redacted there is no label: those become null."""

    page: Page
    image: Path
    redactions: tuple[Redaction, ...] = ()


def boxes_over(ocr: OcrPage, start: int, end: int) -> list[Box]:
    """Boxes over the words that a part of the text touches: one a line, wider by half a line on every side."""
    lines: dict[int, list[Word]] = {}
    for word, (left, right) in zip(ocr.words, ocr.spans(), strict=True):
        if left < end and start < right:
            lines.setdefault(word.line, []).append(word)
    heights = {line: sorted(word.box[3] - word.box[1] for word in ocr.words if word.line == line) for line in lines}
    return [_around(words, heights[line][len(heights[line]) // 2] // 2 + 1) for line, words in lines.items()]


def _around(words: Sequence[Word], margin: int) -> Box:
    lefts, tops, rights, bottoms = zip(*(word.box for word in words), strict=True)
    return max(0, min(lefts) - margin), max(0, min(tops) - margin), max(rights) + margin, max(bottoms) + margin


def places_of(value: str, ocr: OcrPage) -> list[tuple[int, int]]:
    """Where in the text of `ocr` a value from elsewhere stands, as start and end; as far as it was read right."""
    wanted = _letters(fold(value)).text
    texts = [_letters(reading) for reading in readings(ocr.text)]
    spans = {text.span(place, place + len(wanted)) for text in texts for place in _all_in(wanted, text.text)}
    whole = [span for span in spans if _is_of_whole_words(ocr.text, *span)]
    if whole or not wanted:
        return sorted(whole)
    alignments = ((partial_ratio_alignment(wanted, text.text, score_cutoff=_ALIKE), text) for text in texts)
    near = [(found.score, text.span(found.dest_start, found.dest_end)) for found, text in alignments if found]
    return [_to_whole_words(ocr.text, *max(near)[1])] if near else []


def without_redacted(value: object, redactions: Sequence[Redaction]) -> object:
    """A label without what is covered on its page: a field that is that value is null, a text that has it has █ there.

    >>> covered = [Redaction("phone", "0122 876 2033", ())]
    >>> without_redacted({"phone": "٠١٢٢٨٧٦٢٠٣٣", "text": "call 01228762033 now", "pages": 2}, covered)
    {'phone': None, 'text': 'call █ now', 'pages': 2}
    """
    if isinstance(value, dict):
        return {name: without_redacted(inner, redactions) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_redacted(inner, redactions) for inner in value]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    text = str(value)
    for wanted in filter(None, (_letters(fold(redaction.value)).text for redaction in redactions)):
        letters = _letters(fold(text))
        if letters.text == wanted:
            return None
        for start, end in sorted(letters.span(at, at + len(wanted)) for at in _all_in(wanted, letters.text))[::-1]:
            text = f"{text[:start]}█{text[end:]}"
    return value if text == str(value) else text


def _to_whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    while start and not text[start - 1].isspace():
        start -= 1
    while end < len(text) and not text[end].isspace():
        end += 1
    return start, end


def _is_of_whole_words(text: str, start: int, end: int) -> bool:
    return not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())


def _letters(reading: Reading) -> Reading:
    """A reading's letters and digits alone."""
    kept = [place for place, character in enumerate(reading.text) if character.isalnum()]
    return Reading("".join(reading.text[place] for place in kept).lower(), [reading.places[place] for place in kept])


def _all_in(wanted: str, text: str) -> Iterable[int]:
    place = text.find(wanted) if wanted else -1
    while place >= 0:
        yield place
        place = text.find(wanted, place + 1)


def redact(image: Path, boxes: Iterable[Box], folder: Path) -> Path:
    """A copy of a page image with black boxes and nothing but pixels in its file, named by the SHA-256 of those."""
    from PIL import Image, ImageDraw

    with Image.open(image) as file:
        page = file.convert(file.mode if file.mode in ("L", "RGB") else "RGB")
    page.info = {}
    pen = ImageDraw.Draw(page)
    for box in boxes:
        pen.rectangle(box, "black")
    name = pixels_of(page)
    path = folder / name[:2] / f"{name}.png"
    if not path.is_file():
        data = io.BytesIO()
        page.save(data, "PNG", compress_level=1)
        write_bytes(path, data.getvalue())
    return path
