"""A page that is asked about has the pixels that training has of it, from whichever kind of file."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
import pytest
from PIL import Image

from documents.test_pages import draw, numbered, recipe
from gemtune.documents.asked_pages import AskedPages
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.steps import pixels_of
from gemtune.errors import RowError
from gemtune.recipe.document_sections import Pages
from made_pdfs import LINES, make_pdf, written_page

STEPS = {"steps": ["flatten", {"deskew": 0.5}, {"resize": 500}, "gray"]}


def keys_of(tmp_path: Path) -> Pages:
    pages = recipe(tmp_path, tmp_path, **STEPS).pages
    assert pages
    return pages


def pixels(png: bytes) -> str:
    return pixels_of(Image.open(io.BytesIO(png)))


def trained(folder: DistilledFolder, image: str) -> str:
    with Image.open(folder.root / image) as opened:
        return pixels_of(opened)


def test_it_is_seen_as_in_training(tmp_path: Path) -> None:
    source = tmp_path / "in"
    numbered(source / "a.pdf", 3)
    written_page(["photo"]).rotate(2, fillcolor="white").save(source / "b.jpg")
    make_pdf(source / "c.pdf", LINES[:9], rotate=90)
    frames = [written_page([f"frame {number}"]) for number in (1, 2)]
    frames[0].save(source / "d.tiff", save_all=True, append_images=frames[1:])
    pages, folder, _ = draw(source, tmp_path / "out", **STEPS)
    assert len(pages) == 7
    for page in pages:
        asked = AskedPages(keys_of(tmp_path), page.number)((source / page.document).read_bytes())
        assert pixels(asked) == trained(folder, page.image), page.document


def test_a_page_that_is_prepared_stays_as_it_is(tmp_path: Path) -> None:
    """Rows and `images/` have such pages; asked about one of them, a model sees it as it is."""
    numbered(tmp_path / "in" / "a.pdf", 1)
    (page,), folder, _ = draw(tmp_path / "in", tmp_path / "out", **STEPS)
    again = AskedPages(keys_of(tmp_path))((folder.root / page.image).read_bytes())
    assert pixels(again) == trained(folder, page.image)


def test_which_page_has_to_be_said(tmp_path: Path) -> None:
    data = numbered(tmp_path / "a.pdf", 3).read_bytes()
    with pytest.raises(RowError, match="it has 3 pages, wanted one; add --page N"):
        AskedPages(keys_of(tmp_path))(data)
    with pytest.raises(RowError, match="found no page 4: it has 3"):
        AskedPages(keys_of(tmp_path), 4)(data)
    assert AskedPages(keys_of(tmp_path), 3)(data) != AskedPages(keys_of(tmp_path), 2)(data)


def test_what_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="neither a PDF nor an image"):
        AskedPages(keys_of(tmp_path))(b"a text")


def test_a_password_is_one_of_the_recipe_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_pdf(tmp_path / "a.pdf", LINES[:3], encryption=pikepdf.Encryption(user="open", owner="o")).read_bytes()
    pages = keys_of(tmp_path).model_copy(update={"passwords": {"x.pdf": "OTHER", "a.pdf": "PDF_PASSWORD"}})
    with pytest.raises(RowError, match="needs a password"):
        AskedPages(pages)(data)
    monkeypatch.setenv("OTHER", "shut")
    monkeypatch.setenv("PDF_PASSWORD", "open")
    assert AskedPages(pages)(data).startswith(b"\x89PNG")
