"""PDFs and scans that tests draw: of lines of text, encrypted, turned, damaged or with a form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pikepdf
from PIL import Image, ImageDraw, ImageFont

LINES = tuple(f"line {number} of a letter about {number * 37} boxes" for number in range(1, 30))


def make_pdf(
    path: Path, *pages: Sequence[str], size: tuple[float, float] = (595, 842), rotate: int = 0, **save: Any
) -> Path:
    """A PDF with a page for each sequence of lines; `save` is pikepdf's, such as its encryption."""
    with pikepdf.new() as pdf:
        for lines in pages:
            add_page(pdf, lines, size, rotate)
        path.parent.mkdir(parents=True, exist_ok=True)
        pdf.save(path, **save)
    return path


def add_page(pdf: pikepdf.Pdf, lines: Sequence[str], size: tuple[float, float] = (595, 842), rotate: int = 0) -> Any:
    """The page, for what else should be on it."""
    text = b"".join(b"(%s) Tj T*\n" % line.encode("latin-1") for line in lines)
    page = pdf.add_blank_page()
    page.obj.MediaBox = [0, 0, *size]
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    fonts = pikepdf.Dictionary(F1=pikepdf.Dictionary({key: pikepdf.Name(value) for key, value in font.items()}))
    page.obj.Resources = pikepdf.Dictionary(Font=fonts)
    page.obj.Contents = pdf.make_stream(b"BT /F1 14 Tf 20 TL 60 %d Td\n%s ET" % (size[1] - 60, text))
    if rotate:
        page.obj.Rotate = rotate
    return page


def written_page(lines: Sequence[str] = LINES, size: tuple[int, int] = (1000, 1400)) -> Image.Image:
    """A page image, black on white."""
    page = Image.new("L", size, 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(24)
    for number, line in enumerate(lines):
        draw.text((100, 100 + 40 * number), line, font=font, fill=0)
    return page
