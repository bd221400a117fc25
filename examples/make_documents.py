"""Makes the PDFs of examples/documents/ and what is on their pages: `python examples/make_documents.py`.

Letters, invoices, forms, tables, minutes and notices, Arabic and bilingual, as a scanner leaves them: skewed, unevenly
lit, noisy, stamped and signed. What is on a page is known to the letter, because it was drawn. The same seed gives the
same bytes. It needs `pip install fontpkg-amiri`, and Pillow's raqm, which joins Arabic letters.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import math
import random
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFont, features

from document_texts import SHARED, Block, Document, Kind, documents

HERE = Path(__file__).resolve().parent
PAGE = (595, 842)  # A4, in points, as all sizes here
MARGIN = 48.0
SIZES = {"title": 1.5, "heading": 1.2, "header": 0.85}  # times the size of the text
BOLD = {"title", "heading"}
RTL = {"direction": "rtl", "language": "ar"}

Pixels = NDArray[np.uint8]  # of a grey page: (rows, columns)


# --- a page -----------------------------------------------------------------------------------------------------------


def font_files() -> Path:
    """The folder of Amiri's files; ends the program where Arabic cannot be drawn."""
    if not features.check("raqm"):
        sys.exit("Pillow has no raqm here, and would draw Arabic letters apart; install the system's libfribidi0")
    found = find_spec("fontpkg_amiri")
    if found is None or not found.submodule_search_locations:
        sys.exit("the font is missing: pip install fontpkg-amiri")
    return Path(found.submodule_search_locations[0]) / "files"


@functools.cache
def font(pixels: int, bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_files() / f"Amiri-{'Bold' if bold else 'Regular'}.ttf", pixels)


def is_arabic(text: str) -> bool:
    """Whether the first letter is.

    >>> is_arabic("(12) بيت"), is_arabic("A بيت")
    (True, False)
    """
    return next((letter > "\u0600" for letter in text if letter.isalpha()), False)


@dataclass(frozen=True)
class Line:
    """A line of text where it was drawn: its left end, baseline, width and size, in points from the top left."""

    text: str
    x: float
    y: float
    width: float
    size: float


@dataclass
class Page:
    """A page while it is drawn: its picture, the lines on it, and its blocks as they ended up."""

    dpi: int
    size: float  # of the text, in points
    blocks: list[Block] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    y: float = MARGIN

    def __post_init__(self) -> None:
        self.image = Image.new("L", tuple(self.pixels(side) for side in PAGE), 255)
        self.pen = ImageDraw.Draw(self.image)

    def pixels(self, points: float) -> int:
        return round(points * self.dpi / 72)

    def width(self, text: str, size: float, bold: bool) -> float:
        settings = RTL if is_arabic(text) else {}
        return font(self.pixels(size), bold).getlength(text, **settings) * 72 / self.dpi

    def wrapped(self, text: str, size: float, bold: bool, room: float) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.width(longer, size, bold) > room:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def write(
        self, text: str, box: tuple[float, float], size: float, *, bold: bool = False, middle: bool = False
    ) -> int:
        """Text from the side that its language starts on, or in the middle of the box; returns how many lines."""
        left, right = box
        lines = self.wrapped(text, size, bold, right - left)
        for number, line in enumerate(lines):
            width, y = self.width(line, size, bold), self.y + size * (1.15 + 1.5 * number)
            x = (left + right - width) / 2 if middle else right - width if is_arabic(text) else left
            settings = RTL if is_arabic(text) else {}
            place = (self.pixels(x), self.pixels(y))
            self.pen.text(place, line, fill=20, font=font(self.pixels(size), bold), anchor="ls", **settings)
            self.lines.append(Line(line, x, y, width, size))
        return len(lines)

    def rule(self, *points: float, width: float = 0.8, fill: int = 60) -> None:
        self.pen.line([self.pixels(point) for point in points], fill=fill, width=max(1, self.pixels(width)))


INSIDE = (MARGIN, PAGE[0] - MARGIN)


def draw_block(page: Page, block: Block, draw: random.Random) -> None:
    """Draws a block at the page's place, and moves that below it."""
    size = page.size * SIZES.get(block.kind, 1.0)
    if block.kind == "table":
        _draw_table(page, block.rows)
    elif block.kind == "pair":
        _draw_pair(page, block.rows[0][0], block.text)
    elif block.kind == "item":
        _draw_item(page, block)
    elif block.kind == "signature":
        _draw_signature(page, block.text, draw)
    elif block.kind == "stamp":
        _draw_stamp(page, block.text, draw)
    elif block.kind != "space":
        middle = block.kind in ("title", "header")
        lines = page.write(block.text, INSIDE, size, bold=block.kind in BOLD, middle=middle)
        page.y += size * (1.5 * lines + 0.55)
        if block.kind == "title":
            page.rule(MARGIN + 120, page.y, PAGE[0] - MARGIN - 120, page.y)


def height(page: Page, block: Block) -> float:
    """About what a block takes, in points: what starts a new page."""
    size, room = page.size * SIZES.get(block.kind, 1.0), INSIDE[1] - INSIDE[0]
    if block.kind == "table":
        return len(block.rows) * page.size * 1.9 + 10
    lines = len(page.wrapped(block.text, size, block.kind in BOLD, room))
    return {"signature": 70.0, "stamp": 0.0, "pair": page.size * 2.2}.get(block.kind, size * (1.5 * lines + 0.55))


def _draw_table(page: Page, rows: tuple[tuple[str, ...], ...]) -> None:
    """Columns from right to left, as wide as what is in them."""
    size, step = page.size * 0.9, page.size * 1.9
    widths = [max(page.width(row[i], size, n == 0) for n, row in enumerate(rows)) + 14 for i in range(len(rows[0]))]
    scale = (INSIDE[1] - INSIDE[0]) / sum(widths)
    edges = [INSIDE[1]]
    for width in widths:
        edges.append(edges[-1] - width * scale)
    top = page.y
    for number, row in enumerate(rows):
        if number == 0:
            box = (edges[-1], page.y, edges[0], page.y + step)
            page.pen.rectangle([page.pixels(side) for side in box], fill=225)
        for cell, right, left in zip(row, edges, edges[1:], strict=False):
            page.write(cell, (left, right), size, bold=number == 0, middle=True)
        page.rule(edges[-1], page.y, edges[0], page.y)
        page.y += step
    page.rule(edges[-1], page.y, edges[0], page.y)
    for edge in edges:
        page.rule(edge, top, edge, page.y)
    page.y += 10


def _draw_pair(page: Page, label: str, value: str) -> None:
    middle = INSIDE[1] - 170
    page.write(f"{label}:", (middle, INSIDE[1] - 6), page.size, bold=True)
    page.write(value, (INSIDE[0] + 120, middle - 8), page.size, middle=True)
    page.pen.rectangle(
        [page.pixels(side) for side in (INSIDE[0] + 120, page.y + 1, middle - 4, page.y + page.size * 1.8)],
        outline=110,
        width=max(1, page.pixels(0.7)),
    )
    page.y += page.size * 2.2


def _draw_item(page: Page, block: Block) -> None:
    arabic, size = is_arabic(block.text), page.size
    mark = INSIDE[1] - 8 if arabic else INSIDE[0] + 2
    if block.ticked is None:
        dot = (mark, page.y + size * 0.65, mark + 4, page.y + size * 0.65 + 4)
        page.pen.ellipse([page.pixels(side) for side in dot], fill=20)
    else:
        box = (mark - 4, page.y + size * 0.25, mark + 6, page.y + size * 0.25 + 10)
        page.pen.rectangle([page.pixels(side) for side in box], outline=20, width=max(1, page.pixels(0.8)))
        if block.ticked:
            page.rule(box[0] + 1, box[1] + 5, box[0] + 4, box[3] - 1, box[2] + 2, box[1] - 3, width=1.4, fill=10)
    lines = page.write(block.text, (INSIDE[0] + 16, INSIDE[1] - 18), size)
    page.y += size * (1.5 * lines + 0.4)


def _draw_signature(page: Page, title: str, draw: random.Random) -> None:
    """A title and a scrawl below it, on the left, where Arabic letters are signed."""
    page.write(title, (INSIDE[0], INSIDE[0] + 190), page.size, bold=True, middle=True)
    x, y = INSIDE[0] + 60, page.y + page.size * 1.9 + 16
    loops, lean, tall = draw.uniform(4, 7), draw.uniform(5, 10), draw.uniform(10, 17)
    points = []
    for step in range(160):
        t = step / 159
        swing, fade = 2 * math.pi * loops * t, 1 - 0.75 * t
        wide = x + 80 * t - lean * math.sin(swing) * fade
        points.append((wide, y - tall * math.cos(swing * 0.97) * fade + 6 * math.sin(3 * t) - 10 * t**3))
    points += [(x + 96, y - 12), (x + 20, y + 17), (x + 110, y + 11)]  # and a stroke below
    page.pen.line([(page.pixels(a), page.pixels(b)) for a, b in points], fill=45, width=max(1, page.pixels(1.1)))
    page.y += 70


def _draw_stamp(page: Page, text: str, draw: random.Random) -> None:
    """A round stamp, turned a little, over whatever is there."""
    side = page.pixels(104)
    stamp = Image.new("L", (side, side), 255)
    pen, letters = ImageDraw.Draw(stamp), font(page.pixels(13), True)
    for inset in (1, 6):
        edge = page.pixels(inset)
        pen.ellipse((edge, edge, side - edge, side - edge), outline=90, width=max(1, page.pixels(1.3)))
    words, lines = text.split(), [text] if len(text) < 16 else []
    lines = lines or [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
    for number, line in enumerate(lines):
        y = side / 2 + (number - (len(lines) - 1) / 2) * page.pixels(17) + page.pixels(4)
        pen.text((side / 2, y), line, font=letters, fill=90, anchor="ms", **RTL)
    stamp = stamp.rotate(draw.uniform(-18, 18), Image.Resampling.BICUBIC, fillcolor=255)
    left = page.pixels(draw.uniform(250, 380))
    top = min(page.pixels(page.y - draw.uniform(60, 90)), page.image.height - side)
    box = (left, top, left + side, top + side)
    page.image.paste(ImageChops.multiply(page.image.crop(box), stamp), box)


def drawn(document: Document, draw: random.Random, dpi: int) -> list[Page]:
    """The pages of a document, each with its number at the foot where there are several."""
    size = draw.choice((13, 14.5, 16))
    pages = [Page(dpi, size)]
    for index, block in enumerate(document.blocks):
        signed = takewhile(lambda after: after.kind in ("signature", "stamp"), document.blocks[index + 1 :])
        room = sum(height(pages[-1], part) for part in (block, *signed))  # a signature is not alone on its page
        full = pages[-1].y + room > PAGE[1] - MARGIN - 20
        if block.kind == "break" or (full and block.kind != "stamp"):
            pages.append(Page(dpi, size))
        if block.kind != "break":
            draw_block(pages[-1], block, draw)
            pages[-1].blocks.append(block)
    for number, page in enumerate(pages, start=1):
        if len(pages) > 1 and page.lines:
            page.y = PAGE[1] - MARGIN
            page.blocks.append(Block("foot", f"{number} / {len(pages)}"))
            page.write(page.blocks[-1].text, INSIDE, size * 0.8, middle=True)
    return pages


# --- what a scanner does to it ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scan:
    """How a document was scanned: 0 is a clean copy."""

    damage: tuple[str, ...] = ()  # by the names of the task `fields`
    turn: float = 0.0  # degrees, at most, to either side
    shade: float = 0.0  # the share of light that the darkest corner loses
    noise: float = 0.0  # standard deviation, of 255
    quality: int = 0  # of its JPEG; 0: black and white, as a fax
    dpi: int = 150


SCANS = (
    Scan(),
    Scan(("uneven_light",), shade=0.45, quality=22, dpi=110),
    Scan(("skewed",), turn=2.5),
    Scan(("noisy",), noise=7, quality=18, dpi=110),
    Scan(("skewed", "uneven_light", "noisy"), turn=1.8, shade=0.35, noise=4, quality=20, dpi=110),
    Scan(("faded",), shade=0.1, quality=22, dpi=120),
)


def scanned(image: Image.Image, scan: Scan, random_numbers: np.random.Generator) -> Image.Image:
    """The page as this scan leaves it."""
    if scan.turn:
        angle = float(random_numbers.choice((-1, 1)) * random_numbers.uniform(scan.turn / 2, scan.turn))
        image = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=255)
    pixels = np.asarray(image, dtype=np.float32)
    if "faded" in scan.damage:
        pixels = 110 + pixels * (235 - 110) / 255
    if scan.shade:
        rows, columns = np.linspace(0, 1, pixels.shape[0])[:, None], np.linspace(0, 1, pixels.shape[1])[None, :]
        corner = random_numbers.choice((0, 1), 2)
        pixels = pixels * (1 - scan.shade * (abs(rows - corner[0]) * 0.4 + abs(columns - corner[1]) * 0.6) ** 1.5)
    if scan.noise:
        pixels = pixels + random_numbers.normal(0, scan.noise, pixels.shape)
    grey: Pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return Image.fromarray(grey)


# --- a PDF ------------------------------------------------------------------------------------------------------------

# A font without shapes: two bytes are a letter's code point, for the text under a picture.
FONT = (
    b"<</Type/Font/Subtype/Type0/BaseFont/Unseen/Encoding/Identity-H/DescendantFonts[4 0 R]/ToUnicode 5 0 R>>",
    b"<</Type/Font/Subtype/CIDFontType2/BaseFont/Unseen/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
    b"/Supplement 0>>/DW 500>>",
)
TO_UNICODE = (
    b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /Unseen def /CMapType 2 def "
    b"1 begincodespacerange <0000> <FFFF> endcodespacerange 1 beginbfrange <0000> <FFFF> <0000> endbfrange "
    b"endcmap end end"
)


def write_pdf(path: Path, pages: list[tuple[Image.Image, list[Line]]], scan: Scan, turned: bool) -> None:
    """A PDF of page images, their lines as unseen text under them; `turned` stores them on their side."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", *FONT, _stream(b"", TO_UNICODE)]
    for image, lines in pages:
        dots = 72 / scan.dpi
        stored = image.transpose(Image.Transpose.ROTATE_90) if turned else image
        width, height = stored.width * dots, stored.height * dots
        number = len(objects) + 1
        resources = f"/Resources<</Font<</F 3 0 R>>/XObject<</I {number + 2} 0 R>>>>"
        turn = "/Rotate 90" if turned else ""
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width:.2f} {height:.2f}]{turn}{resources}"
            f"/Contents {number + 1} 0 R>>".encode()
        )
        text = "".join(_unseen(line) for line in lines)
        objects.append(_stream(b"", f"q {width:.2f} 0 0 {height:.2f} 0 0 cm /I Do Q {text}".encode()))
        objects.append(_picture(stored, scan.quality))
    kids = " ".join(f"{number} 0 R" for number in range(6, len(objects) + 1, 3))
    objects[1] = f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>".encode()
    out, places = io.BytesIO(b""), []
    out.write(b"%PDF-1.5\n")
    for number, body in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())


def _stream(head: bytes, body: bytes) -> bytes:
    packed = body if head else zlib.compress(body, 9)
    return b"<<%b/Length %d>>stream\n%b\nendstream" % (head or b"/Filter/FlateDecode", len(packed), packed)


def _picture(image: Image.Image, quality: int) -> bytes:
    """A page's image: JPEG, or black and white as fax machines pack it."""
    head = f"/Type/XObject/Subtype/Image/Width {image.width}/Height {image.height}"
    out = io.BytesIO()
    if quality:
        image.save(out, "JPEG", quality=quality, optimize=True)
        return _stream(f"{head}/ColorSpace/DeviceGray/BitsPerComponent 8/Filter/DCTDecode".encode(), out.getvalue())
    black = image.point(lambda level: 255 * (level > 150)).convert("1", dither=Image.Dither.NONE)
    black.save(out, "TIFF", compression="group4", strip_size=1 << 24)
    with Image.open(out) as tiff:
        start, length = tiff.tag_v2[273][0], tiff.tag_v2[279][0]  # type: ignore[attr-defined]
        inverted = "true" if tiff.tag_v2[262] == 1 else "false"  # type: ignore[attr-defined]
    parameters = f"/DecodeParms<</K -1/Columns {image.width}/Rows {image.height}/BlackIs1 {inverted}>>"
    head += f"/ColorSpace/DeviceGray/BitsPerComponent 1/Filter/CCITTFaxDecode{parameters}"
    return _stream(head.encode(), out.getvalue()[start : start + length])


def _unseen(line: Line) -> str:
    """A line as text that is not painted, stretched over the letters that are seen."""
    shown = in_sight_order(line.text)
    stretch = 100 * line.width / (len(shown) * 0.5 * line.size)
    codes = shown.encode("utf-16-be").hex()
    place = f"1 0 0 1 {line.x:.1f} {PAGE[1] - line.y:.1f} Tm"
    return f"BT 3 Tr /F {line.size:.1f} Tf {stretch:.1f} Tz {place} <{codes}> Tj ET\n"


def in_sight_order(text: str) -> str:
    """A line as the eye meets its letters from left to right, which is how PDFs hold them.

    >>> in_sight_order("\u0628\u062a 12/5 AB") == "12/5 AB \u062a\u0628"
    True
    """
    if not is_arabic(text):
        return text
    runs: list[tuple[bool, str]] = []
    for word in text.split(" "):
        arabic = any("\u0621" <= letter <= "\u064a" for letter in word)
        runs.append((arabic, word[::-1] if arabic else word))
    ordered: list[str] = []
    held: list[str] = []
    for arabic, word in runs:  # words from right to left, but those of a left-to-right run in their own order
        if arabic:
            ordered, held = [word, *held, *ordered], []
        else:
            held.append(word)
    return " ".join([*held, *ordered])


# --- the truth --------------------------------------------------------------------------------------------------------

DATE = re.compile(r"(?<![\d٠-٩])[\d٠-٩]{1,2}/[\d٠-٩]{1,2}/[\d٠-٩]{4}")
JOINED = {"item": "list", "pair": "form"}  # blocks that are one element with the same ones beside them


def content(page: Page) -> dict[str, list[dict[str, str]]]:
    """What is on a page, as the page task `content` wants it."""
    elements: list[tuple[str, str]] = []
    for block in page.blocks:
        kind, text = element(block)
        if kind in JOINED.values() and elements and elements[-1][0] == kind:
            elements[-1] = (kind, f"{elements[-1][1]}\n{text}")
        elif text:
            elements.append((kind, text))
    return {"elements": [{"type": kind, "markdown": text} for kind, text in elements]}


def text_of(page: Page) -> str:
    """What is on a page, as Markdown."""
    return "\n\n".join(part["markdown"] for part in content(page)["elements"])


def element(block: Block) -> tuple[str, str]:
    """The type and the Markdown of a block."""
    if block.kind == "table":
        head, *rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in block.rows)
        lines = "".join(f"<tr>{row}</tr>" for row in (head.replace("td>", "th>"), *rows))
        return "table", f"<table>{lines}</table>"
    if block.kind == "pair":
        return "form", f"{block.rows[0][0]}: {block.text}"
    if block.kind == "item":
        tick = {None: "- ", True: "[x] ", False: "[ ] "}[block.ticked]
        return "list" if block.ticked is None else "form", tick + block.text
    marks = {"title": "# ", "heading": "## "}
    kinds = {"text": "paragraph", "foot": "page_number"}
    return kinds.get(block.kind, block.kind), marks.get(block.kind, "") + block.text


def fields(document: Document, page: Page, number: int, pages: int, scan: Scan) -> dict[str, object]:
    """What a page is, as the page task `fields` wants it: only what this page says."""
    said = {kind: [block.text for block in page.blocks if block.kind == kind] for kind in get_args(Kind)}
    text = " ".join(line.text for line in page.lines)
    first = document.source in said["title"]
    languages = [name for name, letter in (("ar", "[\u0621-\u064a]"), ("en", "[A-Za-z]{3}")) if re.search(letter, text)]
    stamps = [{"kind": "stamp", "text": stamp} for stamp in said["stamp"]]
    attached = next((line for line in said["text"] if line.startswith(ATTACHED)), "")
    return {
        "classification": {
            "kind": document.kind if document.kind in KNOWN else "other",
            "title": next(iter([*said["heading"], *said["title"]]), None),
            "languages": languages,
        },
        "source": {
            "issuer": document.source if first else None,
            "department": None,
            "country": None,
            "author": None,
        },
        "dates": [_date(found, first and i == 0) for i, found in enumerate(DATE.findall(text))],
        "physical": {
            "page": number if said["foot"] else None,
            "pages": pages if said["foot"] else None,
            "orientation": "portrait",
            "writing": "printed",
            "color": False,
        },
        "marks": [{"kind": "letterhead", "text": document.source}] * first + stamps,
        "signatures": [{"signed": True, "name": None, "role": role} for role in said["signature"]],
        "routing": {
            "reference": document.reference if first else None,
            "sender": document.source if first else None,
            "recipients": [document.addressee] if first and document.addressee else [],
            "copies": [],
        },
        "attachments": attached.removeprefix(ATTACHED).strip().split("، ") if attached else [],
        "condition": {"legibility": "fair" if len(scan.damage) > 1 else "good", "damage": list(scan.damage)},
        "confidence": 1.0,
    }


KNOWN = {"letter", "invoice", "form", "statement", "minutes"}
ATTACHED = "المرفقات:"


def _date(text: str, issued: bool) -> dict[str, object]:
    day, month, year = (int(part) for part in text.split("/"))
    iso = f"{year:04}-{month:02}-{day:02}"
    return {"role": "issued" if issued else "other", "text": text, "date": iso, "calendar": "gregorian"}


# --- all of them ------------------------------------------------------------------------------------------------------


def write_documents(folder: Path, seed: int) -> Iterator[tuple[str, int]]:
    """Writes every PDF, its text beside it, and truth.jsonl for `teacher.provider: files`; yields names and pages."""
    truth = []
    shared: tuple[Page, Image.Image] | None = None
    for position, (name, document) in enumerate(documents(seed)):
        draw = random.Random(f"{seed}/{name}")  # noqa: S311 (pictures)
        scan = SCANS[position % len(SCANS)] if name not in SHARED else SCANS[2]
        pages = drawn(document, draw, scan.dpi)
        random_numbers = np.random.default_rng([seed, position])
        images = [scanned(page.image, scan, random_numbers) if page.lines else page.image for page in pages]
        if name in SHARED:
            shared = shared or (pages[-1], images[-1])
            pages[-1], images[-1] = shared
        layered = not scan.turn and name != TURNED and draw.random() < 0.5
        sheets = [(image, page.lines if layered else []) for page, image in zip(pages, images, strict=True)]
        write_pdf(folder / name, sheets, scan, name == TURNED)
        for number, page in enumerate(pages, start=1):
            if page.lines:
                place = {"document": name, "page": number}
                truth.append({**place, "task": "content", "reply": content(page)})
                truth.append({**place, "task": "fields", "reply": fields(document, page, number, len(pages), scan)})
        texts = "".join(f"{text_of(page)}\n\f" for page in pages)  # a form feed ends a page
        (folder / name).with_suffix(".md").write_text(texts, encoding="utf-8")
        yield name, len(pages)
    lines = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in truth)
    (folder / "truth.jsonl").write_text(lines, encoding="utf-8")


TURNED = "statement/33.pdf"  # stored on its side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "documents")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    written = list(write_documents(asked.folder, asked.seed))
    print(f"{len(written)} documents, {sum(pages for _, pages in written)} pages in {asked.folder}")


if __name__ == "__main__":
    main()
