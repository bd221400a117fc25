"""Pages as pixels, in a child process: PDFs by pdfium, scans by Pillow. JSON in, JSON out; it writes no file.

PDFs come from strangers: a page that crashes pdfium, or asks for too much time or memory, ends its child alone. Threads
crash pdfium, so no two draw in one process.
"""

from __future__ import annotations

import base64
import io
import math
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from gemtune.data.images import IMAGE_SUFFIXES, MOST_LONG, MOST_OPENED, MOST_PIXELS, to_rgb
from gemtune.documents.fingerprints import fingerprint
from gemtune.documents.ocr import OcrError
from gemtune.documents.scan_metadata import scan_metadata
from gemtune.documents.steps import is_blank, pixels_of, prepared
from gemtune.documents.text_layer import MOST
from gemtune.files import JsonObject

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

POINTS = 72.0  # an inch
FINEST = 1_200.0  # dots an inch: a stamp is not drawn as large as a wall
LEAST_SIDE = 8  # pixels
_A4 = 297 / 25.4  # inches of the longest side: of a scan that does not say
_LONGEST = 24  # inches: cameras write 72 dots an inch, and mean nothing by it
_HEAD = 1_024  # bytes in which a PDF says that it is one
_NEVER_SHOWN = "Please wait..."  # all that a form of Adobe's XFA kind draws

_MOST_METADATA = 1_000  # characters of an author, a title, a subject
_MAY_COPY = 1 << 4  # of a PDF's permissions
_XFA = (2, 3)  # pdfium's numbers for such forms
_PASSWORD = 4  # pdfium's number for a missing or a wrong one

# What pypdfium2 and Pillow raise on damaged files.
_UNREADABLE = (OSError, ValueError, TypeError, SyntaxError, LookupError, ArithmeticError, RuntimeError, struct.error)


class _UnusableError(Exception):
    """A document or page that has no picture; the text says what was found, and what to do."""


def answer(request: JsonObject) -> JsonObject:
    """What a request asks for, or {"problem": what was found and what to do}."""
    work: Callable[[JsonObject], JsonObject] = {"open": _open, "draw": _draw, "prepare": _prepare}[request["do"]]
    try:
        return work(request)
    except (_UnusableError, OcrError) as error:
        return {"problem": str(error)}


def _open(request: JsonObject) -> JsonObject:
    """{"pages": how many a document has, "remarks": what it holds that no page shows, "metadata": its author ...}."""
    path = Path(request["path"])
    if not _is_pdf(path):
        with _scan(path) as image:
            count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            return {"pages": count, "remarks": [], "metadata": _shortened(scan_metadata(image))}
    document = _pdf(str(path), request["password"])
    count = len(document)
    if not count:
        raise _UnusableError("has no pages; check the file")
    attached = document.count_attachments()
    remarks = [f"attached files ({attached}) are not read; save them beside it to have them, too"] if attached else []
    metadata = document.get_metadata_dict(skip_empty=True)
    return {"pages": count, "remarks": remarks, "metadata": _shortened(metadata)}


def _shortened(metadata: dict[str, str]) -> dict[str, str]:
    return {key: text[:_MOST_METADATA] for key, text in metadata.items()}


def _draw(request: JsonObject) -> JsonObject:
    """A page's picture, `drawn`, what is known of it, and the picture after its steps, `prepared`."""
    path, number = Path(request["path"]), request["number"]
    if _is_pdf(path):
        image, dpi, text, withheld = _page(_pdf(str(path), request["password"]), number, request)
    else:
        (image, dpi), text, withheld = _frame(path, number), "", ""
    image = image.convert(request["mode"])
    _check_size(image.size)
    drawn = _stored(image)
    return {
        "drawn": {
            **drawn,
            "dpi": dpi,
            "text": text,
            "withheld": withheld,
            "blank": is_blank(image),
            "uniform": all(low == high for low, high in (channel.getextrema() for channel in image.split())),
        },
        "prepared": _result(image, request["steps"], drawn["pixels"]),
    }


def _prepare(request: JsonObject) -> JsonObject:
    """The picture after its steps, `prepared`, of one that was drawn before."""
    with Image.open(request["drawn"], formats=["PNG"]) as image:
        image.load()
    return {"prepared": _result(image, request["steps"], Path(request["drawn"]).stem)}


def _result(drawn: Image.Image, steps: list[Any], pixels: str) -> JsonObject:
    image, done = prepared(drawn, [(name, setting) for name, setting in steps])
    _check_size(image.size)
    stored = {"pixels": pixels} if image is drawn else _stored(image)
    return {**stored, "size": image.size, "steps": done, "fingerprint": fingerprint(image)}


def _stored(image: Image.Image) -> JsonObject:
    """{"pixels": their digest, "png": in base64}. Level 1: level 9 takes ten times as long for a fifth of the size."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return {"pixels": pixels_of(image), "png": base64.b64encode(out.getvalue()).decode()}


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < LEAST_SIDE or max(size) > MOST_LONG * min(size):
        raise _UnusableError(
            f"a picture of {size[0]} x {size[1]} pixels; no model reads that: leave it out (pages.select)"
        )


# --- PDFs -------------------------------------------------------------------------------------------------------------


def _is_pdf(path: Path) -> bool:
    """By its first bytes, not by its name."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise _UnusableError(f"cannot be read ({error.strerror}); check the file") from error
    if not head:
        raise _UnusableError("is empty; check the file")
    return b"%PDF-" in head


@lru_cache(maxsize=1)  # pages of a document come one after the other
def _pdf(path: str, password: str | None) -> PdfDocument:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path, password=password)
    except pypdfium2.PdfiumError as error:
        if error.err_code != _PASSWORD:
            raise _UnusableError(
                "cannot be opened: damaged, or no PDF; open it in a viewer and save it again"
            ) from error
        if password is None:
            raise _UnusableError("needs a password; pages.passwords names the variable that holds it") from error
        raise _UnusableError("its password is wrong; check the variable that pages.passwords names") from error
    if document.get_formtype():
        document.init_forms()  # before a page is loaded, or its fields stay unseen
    return document


def _page(document: PdfDocument, number: int, request: JsonObject) -> tuple[Image.Image, float, str, str]:
    """The picture of a page, its dots an inch, its text and why that is withheld."""
    import pypdfium2

    try:
        with closing(document[number - 1]) as page:
            text, withheld = _text(document, page)
            if document.get_formtype() in _XFA and text.lstrip().startswith(_NEVER_SHOWN):
                raise _UnusableError("an XFA form: only Adobe's reader shows it; print it to a PDF there")
            width, height = page.get_size()
            if not (width > 0 and height > 0 and math.isfinite(width * height)):
                raise _UnusableError(f"a page of {width:g} x {height:g} points; nothing can be drawn on it")
            dpi = dots_an_inch((width, height), request["dpi"], request["least_side"])
            _check_size((math.ceil(width * dpi / POINTS), math.ceil(height * dpi / POINTS)))
            with closing(page.render(scale=dpi / POINTS, grayscale=request["mode"] == "L")) as bitmap:
                return bitmap.to_pil().convert(request["mode"]), round(dpi, 2), text, withheld
    except pypdfium2.PdfiumError as error:
        raise _UnusableError(f"cannot be drawn ({error}); open it in a viewer and print it to a new PDF") from error


def dots_an_inch(size: tuple[float, float], dpi: float, least_side: int) -> float:
    """What a page of a size in points is drawn at: finer where it is small, coarser where it would be too large.

    >>> dots_an_inch((595, 842), 200, 2200), round(dots_an_inch((576, 394), 200, 2200)), dots_an_inch((9, 9), 200, 2200)
    (200, 275, 1200.0)
    >>> round(dots_an_inch((2384, 3370), 300, 2200))  # A0
    127
    """
    finer = max(dpi, min(least_side * POINTS / max(size), FINEST))
    return min(finer, POINTS * math.sqrt(MOST_OPENED / (size[0] * size[1])))


def _text(document: PdfDocument, page: PdfPage) -> tuple[str, str]:
    """The text layer of a page, or why it is not taken."""
    import pypdfium2.raw

    if not pypdfium2.raw.FPDF_GetDocPermissions(document) & _MAY_COPY:
        return "", "its owner does not let text be copied"
    with closing(page.get_textpage()) as layer:
        if layer.count_chars() > MOST:
            return "", f"{layer.count_chars():,} characters are no page's text"
        return layer.get_text_range(), ""


# --- scans ------------------------------------------------------------------------------------------------------------


@contextmanager
def _scan(path: Path) -> Iterator[ImageFile]:
    """An image file, opened; Pillow is given no path, for it scrambles a TIFF on its side that it maps itself."""
    try:
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")  # our own limits follow, and damaged EXIF data do no harm
            with Image.open(stream, formats=list(IMAGE_SUFFIXES)) as image:
                yield image
    except UnidentifiedImageError as error:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise _UnusableError(f"is neither a PDF nor an image ({kinds}); convert it, or leave it out") from error
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise _UnusableError(f"cannot be decoded ({error}); check the file") from error


def _frame(path: Path, number: int) -> tuple[Image.Image, float]:
    """A frame of a scan in RGB, its pixels square, and its dots an inch."""
    with _scan(path) as image:
        image.seek(number - 1)
        if image.width * image.height > MOST_PIXELS:
            limit = f"wanted at most {MOST_PIXELS / 1e6:.0f} million: scan it coarser"
            raise _UnusableError(f"{image.width} x {image.height} pixels; {limit}")
        longest = max(image.size)
        across, down = (float(dots) for dots in image.info.get("dpi", (0, 0)))
        rgb = to_rgb(image)
    if across > 0 and down > 0 and not 0.95 < across / down < 1.05:  # a fax: 204 x 98
        stretched = (round(rgb.width * max(1, down / across)), round(rgb.height * max(1, across / down)))
        return rgb.resize(stretched, Image.Resampling.BICUBIC), max(across, down)
    says = across if across > 0 and longest / across < _LONGEST else longest / _A4
    return rgb, round(says * max(rgb.size) / longest, 2)
