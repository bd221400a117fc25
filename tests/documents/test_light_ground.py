import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from documents.drawn_pages import draw, needs_tesseract
from gemtune.documents.light_ground import on_light_ground
from gemtune.documents.ocr import read

LINES = ["The committee met on Monday morning", "call 01018090147 at any time", "and approved the budget of the year"]


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("L"))


def with_band(path):
    """The second line is white on a black band."""
    boxes = draw(path, LINES)
    with Image.open(path) as page:
        page.load()
    left, top, right, bottom = boxes[1][0] - 24, boxes[1][1] - 16, boxes[1][2] + 24, boxes[1][3] + 16
    page.paste(ImageOps.invert(page.crop((left, top, right, bottom))), (left, top))
    page.save(path)
    return left, top, right, bottom


def test_a_dark_band_is_inverted_and_nothing_else(tmp_path):
    path = tmp_path / "page.png"
    left, top, right, bottom = with_band(path)
    before, after = pixels(path.read_bytes()), pixels(on_light_ground(path))
    inner = np.s_[top + 16 : bottom - 16, left + 16 : right - 16]
    assert (after[inner] == 255 - before[inner]).all()
    outside = np.ones(before.shape, bool)
    outside[top - 8 : bottom + 8, left - 8 : right + 8] = False
    assert (after[outside] == before[outside]).all()


@pytest.mark.parametrize("what", ["bold letters", "frame", "small picture", "white", "tiny"])
def test_a_page_without_a_dark_band_is_not_touched(tmp_path, what):
    path = tmp_path / "page.png"
    if what == "bold letters":
        draw(path, ["BBBB WWWW MMMM"], letters=150)
    else:
        page = Image.new("RGB", (30, 30) if what == "tiny" else (1200, 900), "white")
        pen = ImageDraw.Draw(page)
        if what == "frame":
            pen.rectangle((20, 20, 1180, 880), outline="black", width=40)
        elif what == "small picture":
            pen.rectangle((200, 200, 320, 300), "black")
        page.save(path)
    assert on_light_ground(path) == path.read_bytes()


@needs_tesseract
def test_tesseract_reads_white_on_black(tmp_path):
    with_band(tmp_path / "page.png")
    assert "01018090147" in read(tmp_path / "page.png", languages="eng").text
