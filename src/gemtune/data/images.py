"""The image that a row names is looked up, checked, stored once by its content, and opened as plain RGB.

Images come from strangers: only formats that Pillow reads by itself are opened, sizes are checked before a pixel is
decoded, and every image is decoded once, so that a truncated file is noticed before training.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from gemtune.data.conversation import Conversation, Part
from gemtune.errors import RowError
from gemtune.files import sha256_of, write_bytes

IMAGE_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
MOST_BYTES = 64 << 20  # of one image file
MOST_PIXELS = 100_000_000  # of a JPEG, which is decoded at half its size, ...
MOST_WHOLE = 50_000_000  # ... and of what can only be decoded whole: A2 at 300 dpi has 35 million
MOST_WEBP = 40_000_000  # of a WebP, whose decoder takes up to 20 bytes a pixel: 0.8 GB
MOST_OPENED = 25_000_000  # larger pictures are halved when they are opened; models look at 1 to 13 million
LEAST_SIDE = 8  # pixels; smaller ones are markers and placeholders
MOST_LONG = 200  # times as long as wide; a longer one is a line once a model has shrunk it, and Qwen refuses it
SMALL_PREVIEW = (64, 64)  # a JPEG is decoded at about this size to see that it is complete

ORIENTATION = 0x0112  # EXIF's tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BAND = 512  # rows of a large picture that are converted at a time

ReadImage = Callable[[str], bytes]  # a name in a row -> the image's bytes; RowError when there is none
PrepareImage = Callable[[bytes], bytes]  # an image's bytes -> those that a model is to see; RowError as above

_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
# What Pillow raises on damaged pictures and on settings of theirs that make no sense.
_UNDECODABLE = (OSError, ValueError, TypeError, SyntaxError, LookupError, ArithmeticError, MemoryError, struct.error)

_MOST_NAME = 255  # bytes of a file's name: a digest in hex is base64, too
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]{64,}")


class ImageStore:
    """A folder of images, each stored once, named by the SHA-256 of its bytes."""

    def __init__(self, data: Path, read: ReadImage, prepare: PrepareImage = lambda data: data):
        self._data, self._read, self._prepare = data, read, prepare

    def resolve(self, conversation: Conversation) -> Conversation:
        """The conversation with every image copied into the data directory and named by its path and size there."""
        if not conversation.images:
            return conversation
        messages = tuple(replace(m, parts=tuple(map(self._resolve, m.parts))) for m in conversation.messages)
        return replace(conversation, messages=messages)

    def _resolve(self, part: Part) -> Part:
        return part if part.image is None else self.put(part.image)

    def put(self, reference: str | bytes) -> Part:
        """An image part for a path, URL, data URL, base64 text or the bytes themselves; RowError says what is wrong."""
        data = self._prepare(self._bytes(reference))
        suffix, size = check_image(data)
        digest = hashlib.sha256(data).hexdigest()
        name = f"images/{digest[:2]}/{digest}{suffix}"
        path = self._data / name
        if not is_whole(path):
            write_bytes(path, data)
        return Part(image=name, size=size)

    def _bytes(self, reference: str | bytes) -> bytes:
        if isinstance(reference, bytes):
            return reference
        if reference.startswith("data:"):
            head, _, text = reference.partition(",")
            if not head.endswith(";base64"):
                raise RowError("bad image", f"a data URL that begins {head[:40]!r}; wanted data:image/...;base64,...")
            return _decoded(text)
        if not _BASE64.fullmatch(reference):
            return self._read(reference)
        try:
            return self._read(reference) if len(reference) <= _MOST_NAME else _decoded(reference)
        except RowError as error:
            if error.reason != "missing image":
                raise
            return _decoded(reference)


def is_whole(path: Path) -> bool:
    """Whether a stored image is there, and is what was stored: its name is the SHA-256 of its bytes."""
    return path.is_file() and sha256_of(path) == path.stem


def reference_of(value: object, place: str) -> str | bytes:
    """A row's value for an image as a path, a URL, base64 text or bytes.

    >>> reference_of({"bytes": None, "path": "a/cup.png"}, "images[1]")
    'a/cup.png'
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path") or value.get("url") or value.get("base64")
    if isinstance(value, Image.Image):
        return _as_png(value)
    if isinstance(value, bytes | bytearray | memoryview) and len(value):
        return bytes(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    is_empty = value is None or isinstance(value, str | bytes | bytearray | memoryview | list | tuple)
    kind = "empty" if is_empty and not value else f"a {type(value).__name__}"
    raise RowError("missing image", f"{place} is {kind}; wanted a path, a URL, base64 text or bytes")


def _as_png(image: Image.Image) -> bytes:
    """A picture that a Hub data set has opened, upright: its own pixels where PNG has their mode, else in RGB."""
    _check_pixels(image)
    out = io.BytesIO()
    with _decoding():
        image = _turned(image, _orientation(image))  # PNG keeps no note of how to turn it
        (image if image.mode in _PNG_MODES else to_rgb(image)).save(out, "PNG")
    return out.getvalue()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise RowError("bad image", f"base64 that cannot be decoded ({error})") from error


def check_image(data: bytes) -> tuple[str, tuple[int, int]]:
    """The suffix of an image's format, and the (width, height) it is opened with; RowError when it cannot be used."""
    if len(data) > MOST_BYTES:
        raise RowError("image too large", f"{len(data) / 1e6:.0f} MB; wanted at most {MOST_BYTES / 1e6:.0f} MB")
    with _opened(io.BytesIO(data)) as image:
        _check_pixels(image)
        suffix = IMAGE_SUFFIXES.get(str(image.format), ".jpg")  # the only other one is MPO: two JPEGs in a file
        size = _upright(image)
        image.draft("RGB", SMALL_PREVIEW)
        image.load()
        to_rgb(image.crop((0, 0, LEAST_SIDE, LEAST_SIDE)))  # its palette, profile and transparency make sense
    return suffix, size


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    size = f"{width} x {height} pixels"
    is_whole = image.format not in ("JPEG", "MPO") or image.info.get("progressive")
    most = MOST_WEBP if image.format == "WEBP" else MOST_WHOLE if is_whole else MOST_PIXELS
    if width * height > most:
        limit = f"wanted at most {most / 1e6:.0f} million"
        raise RowError("image too large", f"{size} (a decompression bomb?); {limit}")
    if min(width, height) < LEAST_SIDE:
        raise RowError("image too small", f"{size}; wanted at least {LEAST_SIDE} each way")
    if max(width, height) > MOST_LONG * min(width, height):
        raise RowError("image too long", f"{size}; a model would see a line: cut it into pieces")


@contextmanager
def _opened(source: Path | io.BytesIO) -> Iterator[Image.Image]:
    # Pillow maps an uncompressed TIFF that it is given by path, and then scrambles one that lies on its side.
    with (
        _decoding(),
        source.open("rb") if isinstance(source, Path) else source as stream,
        Image.open(stream, formats=list(IMAGE_SUFFIXES)) as image,
    ):
        yield image


@contextmanager
def _decoding() -> Iterator[None]:
    """Turns what Pillow says of a picture it cannot decode into a RowError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limits follow, and damaged EXIF data do no harm
            yield
    except UnidentifiedImageError as error:
        raise RowError("bad image", f"not an image in {', '.join(IMAGE_SUFFIXES)}") from error
    except Image.DecompressionBombError as error:
        raise RowError("image too large", f"{error}; wanted at most {MOST_PIXELS / 1e6:.0f} million pixels") from error
    except _UNDECODABLE as error:
        raise RowError("bad image", f"cannot be decoded: {str(error) or type(error).__name__}") from error


def size_of(path: Path) -> tuple[int, int]:
    """The (width, height) that `open_rgb` opens an image file with; its pixels are not decoded."""
    with _opened(path) as image:
        return _upright(image)


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = _opened_size(image.size)
    return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)  # swapped sides


def _halvings(size: tuple[int, int]) -> int:
    """How often a picture is halved to be opened, as a factor.

    >>> _halvings((5000, 5000)), _halvings((6000, 5000)), _halvings((10_000, 10_000))
    (1, 2, 2)
    """
    factor = 1
    while size[0] * size[1] > MOST_OPENED * factor * factor:
        factor *= 2
    return factor


def _opened_size(size: tuple[int, int]) -> tuple[int, int]:
    factor = _halvings(size)
    return -(-size[0] // factor), -(-size[1] // factor)


def _orientation(image: Image.Image) -> int:
    """EXIF's number for how a picture lies; 1, upright, where its EXIF data are damaged, and for a TIFF.

    Pillow turns those itself, and says their size so.
    """
    if image.format == "TIFF":
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except _UNDECODABLE:
        return 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """The picture upright; `ImageOps.exif_transpose` would write its EXIF data again, which may be damaged."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def open_rgb(path: Path) -> Image.Image:
    """The image of a file as a person sees it, in RGB: rotated as its EXIF data say, on white, its first frame.

    One of more than MOST_OPENED pixels is halved: it then takes 0.3 GB to open, a WebP 0.8.
    """
    with _opened(path) as image:
        image.seek(0)
        return to_rgb(image)


def stored_image(data: Path, name: str) -> Path | None:
    """The image of a data directory by its path there.

    None where it is gone or not what was stored, and for any other picture of the disk.
    """
    try:
        path = (data / name).resolve()
        is_there = path.is_relative_to(data.resolve()) and path.suffix in IMAGE_SUFFIXES.values() and is_whole(path)
    except (OSError, ValueError, RuntimeError):  # too long a name, a NUL, links in a circle
        return None
    return path if is_there else None


def thumbnail(path: Path, side: int = 160) -> str:
    """A small JPEG of an image file as a data URL for a page, which gets no byte of the file itself."""
    image = open_rgb(path)
    image.thumbnail((side, side))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode: transparent pixels on white, grey scaled to 8 bits, CMYK by its own colour profile.

    >>> to_rgb(Image.new("I;16", (1, 1), 65535)).getpixel((0, 0)), to_rgb(Image.new("LA", (1, 1), 0)).getpixel((0, 0))
    ((255, 255, 255), (255, 255, 255))
    """
    orientation, factor, size = _orientation(image), _halvings(image.size), _opened_size(image.size)
    if factor > 1:
        image.draft(None, size)  # a JPEG is then decoded at this size; None keeps its mode
    white = _white(image)
    rgb = _in_rgb(image, white) if image.size == size else _halved(image, factor, white)
    return _turned(rgb, orientation)


def _halved(image: Image.Image, factor: int, white: float) -> Image.Image:
    """The RGB of a large picture, smaller by a factor, a band at a time: whole, it would be held several times."""
    rgb = Image.new("RGB", _opened_size(image.size))
    for top, box in _bands(image):
        rgb.paste(_in_rgb(image.crop(box), white).reduce(factor), (0, top // factor))
    return rgb


def _bands(image: Image.Image) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    width, height = image.size
    return ((top, (0, top, width, min(height, top + _BAND))) for top in range(0, height, _BAND))


def _in_rgb(image: Image.Image, white: float) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(image, white)).convert("RGB")
    if image.mode == "CMYK" and (profile := image.info.get("icc_profile")):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return image.convert("RGB")  # the profile is damaged
    image = image.convert("LA") if image.mode == "La" else image  # Pillow knows no other way out of it
    if image.mode in ("LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image.convert("RGB")


def _white(image: Image.Image) -> float:
    """The value of white in grey of 16 or 32 bits; 32 bits do not say.

    Then it is 1 (floats alone), 255 or 65,535, the least of them that no pixel exceeds, or the brightest pixel.
    """
    if image.mode not in ("F", "I"):
        return 65535
    brightest = max(float(_numbers(image.crop(box)).max(initial=0)) for _, box in _bands(image))
    whites = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    return next((white for white in whites if brightest <= white), brightest)


def _numbers(image: Image.Image) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(image, np.float32), posinf=0.0, neginf=0.0)


def _eight_bits(image: Image.Image, white: float) -> NDArray[np.uint8]:
    """Grey of 16 or 32 bits as 8 bits: (H, W)."""
    return np.rint((_numbers(image) * (255 / white)).clip(0, 255)).astype(np.uint8)
