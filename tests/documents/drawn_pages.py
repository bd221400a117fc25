"""Page images with known text, drawn with Amiri: what OCR and redaction are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont, features

from gemtune.documents import ocr
from gemtune.documents.folder import Page

needs_tesseract = pytest.mark.skipif(
    ocr.available() is not None or not features.check("raqm"), reason="tesseract and libraqm are the system's"
)
Box = tuple[int, int, int, int]


def draw(path: Path, lines: Sequence[str], size: tuple[int, int] = (1400, 700), letters: int = 44) -> list[Box]:
    """Draws one line below the other, Arabic from the right; the box of each."""
    page = Image.new("L", size, 255)
    pen = ImageDraw.Draw(page)
    with (files("fontpkg_amiri") / "files" / "Amiri-Regular.ttf").open("rb") as stream:
        font = ImageFont.truetype(stream, letters, layout_engine=ImageFont.Layout.RAQM)
    boxes = []
    for number, line in enumerate(lines):
        is_arabic = any("\u0600" <= letter <= "\u06ff" for letter in line)
        place = (size[0] - 60 if is_arabic else 60, 50 + 2 * letters * number)
        direction = {"direction": "rtl", "language": "ar"} if is_arabic else {}
        pen.text(place, line, 0, font, "ra" if is_arabic else "la", **direction)
        boxes.append(tuple(map(int, pen.textbbox(place, line, font, "ra" if is_arabic else "la", **direction))))
    page.save(path)
    return boxes


def page_named(image: str, document: str = "letter.pdf", number: int = 1, **fields: object) -> Page:
    """A line of pages.jsonl about an image."""
    page = {"document": document, "number": number, "image": image, "drawn": image, "size": (1400, 700), "dpi": 200.0}
    page |= {"source": "", "steps": [], "fingerprint": "0" * 64, "blank": False}
    return Page(**{**page, **fields})
