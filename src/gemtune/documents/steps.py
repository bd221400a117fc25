"""What may be done to a page image before it is read: pure functions in a table, each with what it did.

A step takes an image (L or RGB) and its setting, and gives an image and its result as plain data. Angles and boxes
are measured on small copies; only the change itself touches every pixel.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from gemtune.files import JsonObject

Setting = float | None
Step = Callable[[Image.Image, Setting], tuple[Image.Image, JsonObject]]
Grey = NDArray[np.uint8]  # (H, W)

_CELL = 8  # pixels of a side of the cells in which paper and ink are looked for
_LETTERS = 7  # cells: wider than a stroke, so that the brightest of them is paper
_LIGHT = 6  # cells over which the light is taken to be even
_EVEN = 0.5  # share of the page that has one exact grey: then its paper was drawn or cleaned, not photographed
_DARK = 0.6  # of its paper: a page whose middle grey is darker is no ink on paper
_INK = 0.75  # of its paper: darker is ink, by which lines lie
_FAINT = 0.08  # of its paper that a mark is darker, so that light grey letters count, ...
_GRAINS = 7  # ... and times the grain of the paper, so that noise does not

_SMALL = 1_000  # pixels of the copy that a page's angle is measured on
_STEEPEST = 10.0  # degrees
_CLEARER = 1.3  # times as clear as they lie now must lines be at an angle, ...
_PER_DEGREE = 0.4  # ... and so much more for each degree above one: levelled from 5 degrees, text is 4 to 140 times

_TILES = 8  # a side, for clahe


def prepared(image: Image.Image, steps: Sequence[tuple[str, Setting]]) -> tuple[Image.Image, list[JsonObject]]:
    """The image after its steps, and what each did.

    >>> image, done = prepared(Image.new("RGB", (200, 100), "white"), [("resize", 50), ("gray", None)])
    >>> image.size, image.mode, done
    ((50, 25), 'L', [{'step': 'resize', 'setting': 50, 'scale': 0.25}, {'step': 'gray', 'setting': None}])
    """
    done: list[JsonObject] = []
    for after, result in each(image, steps):
        image = after
        done.append(result)
    return image, done


def each(image: Image.Image, steps: Sequence[tuple[str, Setting]]) -> Iterator[tuple[Image.Image, JsonObject]]:
    """Yields the image after every step, with what that did."""
    for name, setting in steps:
        image, result = STEPS[name](image, setting)
        yield image, {"step": name, "setting": setting, **result}


def orient(image: Image.Image, _: Setting) -> tuple[Image.Image, JsonObject]:
    """Upright, by the letters on it; as it is where there are too few of them to tell."""
    from gemtune.documents.ocr import orientation

    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    clockwise = orientation(out.getvalue())
    return (image.rotate(-clockwise, expand=True) if clockwise else image), {"degrees": clockwise}


def flatten(image: Image.Image, _: Setting) -> tuple[Image.Image, JsonObject]:
    """White paper everywhere: divided by its own background. A page that was drawn has nothing to flatten.

    Nor has one that is no ink on paper: a dark slide, a photo.
    """
    if _commonest(image) >= _EVEN:
        return image, {"light": "even"}
    papers = [_background(channel) for channel in image.split()]
    levels = [np.asarray(paper) for paper in papers]
    if np.median(np.asarray(image)) < _DARK * np.median(levels):
        return image, {"light": "dark page"}
    channels = [_flat(channel, paper) for channel, paper in zip(image.split(), papers, strict=True)]
    return Image.merge(image.mode, channels), {"light": "uneven", "paper": [int(np.min(levels)), int(np.max(levels))]}


def deskew(image: Image.Image, least: Setting) -> tuple[Image.Image, JsonObject]:
    """Lines of text level: turned by their angle, if it is at least `least` degrees."""
    degrees = skew(image)
    if abs(degrees) < (least or 0) or not degrees:
        return image, {"degrees": degrees, "turned": False}
    paper = _paper(image)
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=paper)
    return turned, {"degrees": degrees, "turned": True}


def crop(image: Image.Image, margin: Setting) -> tuple[Image.Image, JsonObject]:
    """Without the empty margins, of which `margin` pixels stay; specks are no content."""
    rows, columns = (np.flatnonzero(ink) for ink in _inked(image))
    if not len(rows) or not len(columns):
        return image, {"box": [0, 0, *image.size]}
    around = round(margin or 0)
    box = (
        max(0, int(columns[0]) * _CELL - around),
        max(0, int(rows[0]) * _CELL - around),
        min(image.width, (int(columns[-1]) + 1) * _CELL + around),
        min(image.height, (int(rows[-1]) + 1) * _CELL + around),
    )
    return image.crop(box), {"box": list(box)}


def resize(image: Image.Image, longest: Setting) -> tuple[Image.Image, JsonObject]:
    """Its longest side at most `longest` pixels; never larger than it is."""
    scale = min(1.0, (longest or max(image.size)) / max(image.size))
    if scale == 1:
        return image, {"scale": 1.0}
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS), {"scale": round(scale, 4)}


def autocontrast(image: Image.Image, cut: Setting) -> tuple[Image.Image, JsonObject]:
    """Darkest to black and lightest to white, `cut` percent at each end left out; colours keep their tone."""
    counts = np.cumsum(image.convert("L").histogram())
    low, high = (int(np.searchsorted(counts, counts[-1] * share)) for share in ((cut or 0) / 100, 1 - (cut or 0) / 100))
    return ImageOps.autocontrast(image, cutoff=cut or 0, preserve_tone=True), {"black": low, "white": high}


def clahe(image: Image.Image, limit: Setting) -> tuple[Image.Image, JsonObject]:
    """Contrast made even tile by tile, no grey more than `limit` times as common as the average one.

    It makes noise stronger, too: on a noisy scan it does harm.
    """
    if image.mode == "RGB":
        light, *colours = image.convert("YCbCr").split()
        return Image.merge("YCbCr", [_equalised(light, limit or 1), *colours]).convert("RGB"), {"tiles": _TILES}
    return _equalised(image, limit or 1), {"tiles": _TILES}


def gray(image: Image.Image, _: Setting) -> tuple[Image.Image, JsonObject]:
    """Grey: a third of the bytes, and what an OCR looks at."""
    return image.convert("L"), {}


STEPS: dict[str, Step] = {
    "orient": orient,
    "flatten": flatten,
    "deskew": deskew,
    "crop": crop,
    "resize": resize,
    "autocontrast": autocontrast,
    "clahe": clahe,
    "gray": gray,
}


def pixels_of(image: Image.Image) -> str:
    """The SHA-256 of an image's mode, size and pixels: how a file packs them has no part in it."""
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def is_blank(image: Image.Image) -> bool:
    """Whether nothing is on a page: no ink but specks, which are smaller than a letter.

    >>> is_blank(Image.new("L", (800, 1000), 250))
    True
    """
    rows, columns = _inked(image)
    return not rows.any() or not columns.any()


def skew(image: Image.Image) -> float:
    """The angle of its lines of text in degrees; turning by it levels them. 0.0 where no angle is clearly the best.

    The rows of ink are sharpest at the right angle: a projection profile, coarse to fine, of ink that is sheared by
    arithmetic on its coordinates.
    """
    small = image.convert("L")
    small.thumbnail((_SMALL, _SMALL), Image.Resampling.BOX)
    paper = _background(small, 4).resize(small.size, Image.Resampling.BILINEAR)
    rows, columns = np.nonzero(np.asarray(small) < _INK * np.asarray(paper, np.float32))
    if len(rows) < _SMALL:
        return 0.0
    height, across = small.height, (columns - small.width / 2).astype(np.float32)
    down = rows.astype(np.float32) + height  # so that no row is negative

    def clarity(degrees: float) -> float:
        sheared = (down - across * np.float32(math.tan(math.radians(degrees)))).astype(np.int32)
        profile = np.bincount(sheared, minlength=3 * height).astype(np.float64)
        return float(np.square(np.diff(profile)).sum())

    best, reach = 0.0, _STEEPEST
    for spacing in (0.5, 0.1, 0.02):
        angles = [best + spacing * k for k in range(-round(reach / spacing), round(reach / spacing) + 1)]
        best = max((angle for angle in angles if abs(angle) <= _STEEPEST), key=clarity)
        reach = spacing
    gain = _CLEARER + _PER_DEGREE * max(0.0, abs(best) - 1)
    is_clear = clarity(best) > gain * clarity(0.0) and abs(best) < _STEEPEST
    return round(best, 2) if is_clear else 0.0


def _commonest(image: Image.Image) -> float:
    """The share of a page that its commonest grey has.

    >>> _commonest(Image.new("L", (2, 2), 255))
    1.0
    """
    counts = image.convert("L").histogram()
    return max(counts) / sum(counts)


def _background(channel: Image.Image, cell: int = _CELL) -> Image.Image:
    """The paper behind the ink of one channel, a pixel a cell."""
    small = channel.reduce(min(cell, *channel.size))
    return small.filter(ImageFilter.MaxFilter(_LETTERS)).filter(ImageFilter.GaussianBlur(_LIGHT))


def _flat(channel: Image.Image, background: Image.Image) -> Image.Image:
    paper = np.asarray(background.resize(channel.size, Image.Resampling.BILINEAR), np.float32)
    white = np.asarray(channel) * (255 / np.maximum(paper, 1))
    return Image.fromarray(np.minimum(white, 255).round().astype(np.uint8))


def _paper(image: Image.Image) -> tuple[int, ...]:
    """The colour of its paper, for what a turn lays bare: that which most of the brighter half has."""
    colours = []
    for channel in image.split():
        counts = np.array(channel.histogram())
        middle = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
        colours.append(middle + int(np.argmax(counts[middle:])))
    return tuple(colours)


def _inked(image: Image.Image) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The rows and columns of cells with ink on them."""
    grey = image.convert("L")
    cells = np.asarray(grey.reduce(_CELL // 2), np.float32)
    size = (cells.shape[1], cells.shape[0])
    paper = np.asarray(_background(grey).resize(size, Image.Resampling.BILINEAR), np.float32)
    darker = paper - cells
    usual = np.median(darker)
    grain = np.median(np.abs(darker - usual))
    ink = np.zeros([side + side % 2 for side in cells.shape], bool)
    ink[: cells.shape[0], : cells.shape[1]] = darker > np.maximum(_FAINT * paper, usual + _GRAINS * grain)
    pairs = ink.reshape(ink.shape[0] // 2, 2, ink.shape[1] // 2, 2).sum((1, 3)) >= 2  # one alone is a speck
    return pairs.any(1), pairs.any(0)


def _equalised(channel: Image.Image, limit: float) -> Image.Image:
    """One channel, each pixel by the grey curves of the four tiles around it: (H, W)."""
    grey = np.asarray(channel)
    tall, wide = (-(-side // _TILES) for side in grey.shape)
    curves = np.empty((_TILES, _TILES, 256), np.float32)
    for row in range(_TILES):
        for column in range(_TILES):
            tile = grey[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
            curves[row, column] = _curve(tile, limit)
    sides = zip(grey.shape, (tall, wide), strict=True)
    y, x = (np.clip((np.arange(side) + 0.5) / step - 0.5, 0, _TILES - 1) for side, step in sides)
    top, left = y.astype(int), x.astype(int)
    below, right = np.minimum(top + 1, _TILES - 1), np.minimum(left + 1, _TILES - 1)
    out = np.empty_like(grey)
    for line, (upper, lower, share) in enumerate(zip(top, below, y - top, strict=True)):
        curve = curves[upper] * (1 - share) + curves[lower] * share  # (tiles, 256)
        values = grey[line]
        part = x - left
        out[line] = (curve[left, values] * (1 - part) + curve[right, values] * part).round()
    return Image.fromarray(out)


def _curve(tile: Grey, limit: float) -> NDArray[np.float32]:
    """Grey -> grey that makes a tile's greys about equally common, what is over the limit spread over all."""
    if not tile.size:
        return np.arange(256, dtype=np.float32)
    counts = np.bincount(tile.ravel(), minlength=256).astype(np.float64)
    most = max(1.0, limit * tile.size / 256)
    over = np.maximum(counts - most, 0).sum()
    counts = np.minimum(counts, most) + over / 256
    return (np.cumsum(counts) * (255 / tile.size)).astype(np.float32)
