"""The contact sheet: before and after of each step, and nothing in a name or a text that acts."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from gemtune.documents.contact_sheet import write_contact_sheet
from gemtune.documents.folder import DistilledFolder, Page, Problem
from gemtune.documents.pages import draw_pages
from gemtune.files import write_jsonl
from gemtune.recipe.schema import Recipe
from made_pdfs import LINES, make_pdf, written_page

HOSTILE = "<script>alert(1)<"
ARABIC = "محضر اجتماع"


def drawn(source: Path, out: Path) -> tuple[DistilledFolder, list[Page]]:
    pages = {"source": str(source), "folder": str(out), "dpi": 60, "least_side": 0, "workers": 1}
    steps = ["flatten", "deskew", {"resize": 500}, "gray"]
    recipe = Recipe.model_validate({"name": "letters", "task": "documents", "pages": {**pages, "steps": steps}})
    folder = DistilledFolder.of(recipe)
    return folder, draw_pages(recipe, folder, print, lambda what, done, total: None)


def sheet(folder: DistilledFolder, pages: list[Page], **keys: int) -> str:
    return write_contact_sheet(folder, pages, **keys).read_text(encoding="utf-8")


def test_steps_are_seen_before_and_after(tmp_path: Path) -> None:
    scan = written_page().rotate(2, fillcolor=255).point(lambda grey: grey * 0.7 + grey % 7)
    scan.putpixel((3, 3), 0)
    (tmp_path / "in").mkdir()
    scan.save(tmp_path / "in" / "scan.png")
    page = sheet(*drawn(tmp_path / "in", tmp_path / "out"))
    names = re.findall(r"<figcaption><b>([^<]*)</b> ([^<]*)</figcaption>", page)
    assert [name for name, _ in names] == ["as drawn", "flatten", "deskew", "resize", "gray"]
    assert names[2][1].startswith("setting 0.5, degrees -2")
    pictures = [base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]*)", page)]
    assert len(pictures) >= 6, "whole and part: as drawn, deskewed, resized"
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            assert max(image.size) <= 340
    assert "://" not in page, "it needs nothing else"


def test_shared_pages_problems_and_hostile_names_are_shown(tmp_path: Path) -> None:
    make_pdf(tmp_path / "in" / f"{HOSTILE}.pdf", LINES)
    make_pdf(tmp_path / "in" / f"{ARABIC}.pdf", LINES[10:], LINES)
    folder, pages = drawn(tmp_path / "in", tmp_path / "out")
    page = sheet(folder, pages)
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;.pdf" in page
    assert f"<bdi>{ARABIC}.pdf</bdi>, page 1" in page, "right to left by itself"
    assert "0 of 256 bits differ" in page
    assert "Not drawn" not in page
    write_jsonl(folder.problems_file, [Problem(document="a\u202eb.pdf", number=2, problem="cut\x1b[31m").to_json()])
    page = sheet(folder, pages, most=2)
    assert "a⟨U+202E⟩b.pdf, page 2" in page and "cut␛[31m" in page
    assert "\x1b" not in page and "\u202e" not in page
    assert "2 of 3 pages" in page
