"""White letters on a dark band become dark letters on white: tesseract takes a dark band for a picture and skips it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

_CELL = 8  # pixels of a side: what is looked at is the mean of a cell
_STROKE = 5  # cells, 5 mm at 200 dots an inch: strokes of letters on a band are narrower
_DARK = 100  # grey below which a cell is dark
_WIDE, _HIGH = 20, 3  # cells of a band, at least; smaller ones are letters, or pictures
_FULL = 0.65  # of a band's pixels that are dark: bold letters on white have fewer, and a frame around a page

Cells = NDArray[np.bool_]


def on_light_ground(image: Path) -> bytes:
    """The bytes of an image file; of one with dark bands, those of a PNG in which they are inverted."""
    with Image.open(image) as page:
        gray, resolution = page.convert("L"), page.info.get("dpi")
    if min(gray.size) < _CELL * _STROKE:
        return image.read_bytes()
    cells = gray.reduce(_CELL).filter(ImageFilter.MinFilter(_STROKE)).filter(ImageFilter.MaxFilter(_STROKE))
    pixels, found = np.array(gray), False
    for top, left, bottom, right in _rectangles(np.asarray(cells) < _DARK):
        band = pixels[top * _CELL : bottom * _CELL, left * _CELL : right * _CELL]
        if (band < _DARK).mean() >= _FULL:
            band[:], found = 255 - band, True
    if not found:
        return image.read_bytes()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1, **({"dpi": resolution} if resolution else {}))
    return out.getvalue()


def _rectangles(is_dark: Cells) -> Iterator[tuple[int, int, int, int]]:
    """Top, left, bottom and right of dark cells that hang together and are as large as a band, in cells."""
    waiting = is_dark.copy()
    for row, column in np.argwhere(is_dark):
        if not waiting[row, column]:
            continue
        rows, columns = np.array(_connected(waiting, int(row), int(column))).T
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        if right - left >= _WIDE and bottom - top >= _HIGH:
            yield int(top), int(left), int(bottom), int(right)


def _connected(waiting: Cells, row: int, column: int) -> list[tuple[int, int]]:
    """The dark cells that hang together with one, which are taken from those that wait."""
    height, width = waiting.shape
    waiting[row, column] = False
    cells = [(row, column)]
    for y, x in cells:
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= near[0] < height and 0 <= near[1] < width and waiting[near]:
                waiting[near] = False
                cells.append(near)
    return cells
