"""Pages before and after each of their steps, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from importlib.resources import files as package_files
from pathlib import Path

from PIL import Image

from gemtune.documents.fingerprints import shared_pages
from gemtune.documents.folder import DistilledFolder, Page
from gemtune.documents.steps import each, pixels_of
from gemtune.errors import visible
from gemtune.files import JsonObject, read_jsonl, write_text

MOST = 30  # pages on a sheet: 5 MB, and some seconds to make
_WHOLE = (240, 340)  # pixels of the page, small
_PART = (240, 130)  # pixels of what is shown as it is
_WHERE = (0.55, 0.25)  # of the page's width and height that begins
_TEXT = 300  # characters


def write_contact_sheet(folder: DistilledFolder, pages: Sequence[Page], most: int = MOST) -> Path:
    """Writes pages.html: up to `most` pages from all of them, what documents share, and what could not be drawn."""
    from jinja2 import Environment, FileSystemLoader

    templates = package_files("gemtune.documents") / "templates"
    environment = Environment(loader=FileSystemLoader(str(templates)), autoescape=True)
    sheet = environment.get_template("contact_sheet.html.jinja").render(
        total=f"{len(pages):,}",
        documents=f"{len({page.document for page in pages}):,}",
        shown=[_shown(folder, page) for page in _spread(pages, most)],
        shared=[{"one": _name(one), "other": _name(other), "bits": bits} for one, other, bits in shared_pages(pages)],
        problems=list(_problems(folder)),
    )
    write_text(folder.contact_sheet, sheet)
    return folder.contact_sheet


def _spread(pages: Sequence[Page], most: int) -> list[Page]:
    """
    >>> _spread("abcdefghi", 3)
    ['a', 'd', 'g']
    """
    count = min(most, len(pages))
    return [pages[position * len(pages) // count] for position in range(count)]


def _problems(folder: DistilledFolder) -> Iterator[JsonObject]:
    for line in read_jsonl(folder.problems_file) if folder.problems_file.exists() else ():
        page = f", page {line['number']}" if line["number"] else ""
        yield {"where": visible(f"{line['document']}{page}"), "what": visible(line["problem"])}


def _name(page: Page) -> str:
    return visible(f"{page.document}, page {page.number}")


def _shown(folder: DistilledFolder, page: Page) -> JsonObject:
    return {
        "document": visible(page.document),
        "number": page.number,
        "size": " x ".join(map(str, page.size)),
        "dpi": f"{page.dpi:g}",
        "blank": page.blank,
        "steps": list(_stages(folder.root / page.drawn, page)),
        "text": visible(_lines(page.text)),
        "trusted": page.trusted,
        "why": page.why,
    }


def _lines(text: str) -> str:
    """
    >>> _lines("one\\n \\n\\ntwo")
    'one\\ntwo'
    """
    lines = "\n".join(line.strip() for line in text.splitlines() if line.strip())
    return lines[:_TEXT] + ("…" if len(lines) > _TEXT else "")


def _stages(drawn: Path, page: Page) -> Iterator[JsonObject]:
    """The page as drawn and after each step, done again as they are recorded; no picture where a step changed none."""
    with Image.open(drawn, formats=["PNG"]) as image:
        image.load()
    yield {"name": "as drawn", "result": "", **_pictures(image)}
    before: Image.Image = image
    for after, result in each(image, [(step["step"], step["setting"]) for step in page.steps]):
        facts = [_fact(name, value) for name, value in result.items() if name != "step" and value is not None]
        is_changed = after is not before and pixels_of(after) != pixels_of(before)
        yield {"name": result["step"], "result": ", ".join(facts), **(_pictures(after) if is_changed else {})}
        before = after


def _fact(name: str, value: object) -> str:
    """
    >>> _fact("turned", False), _fact("degrees", 0.4)
    ('not turned', 'degrees 0.4')
    """
    return f"{'' if value else 'not '}{name}" if isinstance(value, bool) else f"{name} {value}"


def _pictures(image: Image.Image) -> JsonObject:
    small = image.copy()
    small.thumbnail(_WHOLE, Image.Resampling.LANCZOS)
    left, top = (
        max(0, round(side * share) - part // 2) for side, share, part in zip(image.size, (0.6, 0.3), _PART, strict=True)
    )
    part = image.crop((left, top, min(image.width, left + _PART[0]), min(image.height, top + _PART[1])))
    return {"whole": _jpeg(small), "part": _jpeg(part)}


def _jpeg(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
