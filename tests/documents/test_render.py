"""Pages as real files give them: turned, cropped, with forms and passwords, scanned, faxed, huge or damaged."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pikepdf
import pytest
from PIL import Image

from gemtune.documents import render
from gemtune.documents.render import answer, dots_an_inch
from gemtune.documents.steps import pixels_of
from gemtune.documents.workers import Workers
from made_pdfs import LINES, add_page, make_pdf, written_page


def drawn(path: Path, number: int = 1, mode: str = "L", steps: Any = (), **keys: Any) -> Any:
    request = {"path": str(path), "password": None, "number": number, "dpi": 100, "least_side": 0, **keys}
    return json.loads(json.dumps(answer({"do": "draw", "mode": mode, "steps": steps, **request})))


def image_of(result: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(result["png"])))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    render._pdf.cache_clear()


def opened(path: Path, password: str | None = None) -> Any:
    return answer({"do": "open", "path": str(path), "password": password})


def test_a_page_has_its_size_text_and_digest(tmp_path: Path) -> None:
    result = drawn(make_pdf(tmp_path / "a.pdf", LINES))
    image = image_of(result["drawn"])
    assert image.mode == "L"
    assert image.size == (827, 1170)
    assert result["drawn"]["pixels"] == pixels_of(image)
    assert result["drawn"]["text"].split()[:3] == ["line", "1", "of"]
    assert not result["drawn"]["blank"]
    assert "png" not in result["prepared"], "nothing was done to it: one picture"
    assert result["prepared"]["pixels"] == result["drawn"]["pixels"]


def test_steps_are_done_in_the_same_breath_or_later(tmp_path: Path) -> None:
    result = drawn(make_pdf(tmp_path / "a.pdf", LINES), mode="RGB", steps=[["resize", 500], ["gray", None]])
    path = tmp_path / f"{result['drawn']['pixels']}.png"
    path.write_bytes(base64.b64decode(result["drawn"]["png"]))
    later = answer({"do": "prepare", "drawn": str(path), "steps": [["resize", 500], ["gray", None]]})
    assert image_of(result["prepared"]).size == (353, 500)
    assert later["prepared"]["pixels"] == result["prepared"]["pixels"]
    assert later["prepared"]["steps"] == result["prepared"]["steps"]


def test_small_pages_are_drawn_finer_and_huge_ones_coarser() -> None:
    assert dots_an_inch((595, 842), 200, 2200) == 200
    assert round(dots_an_inch((576, 394), 200, 2200)) == 275
    assert dots_an_inch((10, 10), 200, 2200) == 1200
    width, height = (side * dots_an_inch((14400, 14400), 1200, 2200) / 72 for side in (14400, 14400))
    assert width * height <= 25_100_000


def test_rotation_and_crop_box(tmp_path: Path) -> None:
    assert image_of(drawn(make_pdf(tmp_path / "a.pdf", LINES, rotate=90))["drawn"]).size == (1170, 827)
    with pikepdf.new() as pdf:
        page = add_page(pdf, LINES)
        page.obj.CropBox = [0, 421, 595, 842]
        pdf.save(tmp_path / "b.pdf")
    assert image_of(drawn(tmp_path / "b.pdf")["drawn"]).size == (827, 585)


def test_form_fields_are_seen(tmp_path: Path) -> None:
    with pikepdf.new() as pdf:
        page = add_page(pdf, ["Name:"])
        look = pdf.make_stream(b"0 0 0 rg 0 0 200 40 re f", Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Form)
        look.BBox = [0, 0, 200, 40]
        field = {"/Type": "/Annot", "/Subtype": "/Widget", "/FT": "/Tx"}
        widget = pikepdf.Dictionary({key: pikepdf.Name(value) for key, value in field.items()})
        widget.update({"/T": pikepdf.String("name"), "/V": pikepdf.String("x"), "/F": 4})
        widget.Rect = [200, 400, 400, 440]
        widget.AP = pikepdf.Dictionary(N=look)
        widget = pdf.make_indirect(widget)
        page.obj.Annots = pdf.make_indirect(pikepdf.Array([widget]))
        pdf.Root.AcroForm = pikepdf.Dictionary(Fields=pikepdf.Array([widget]))
        pdf.save(tmp_path / "form.pdf")
    pixels = np.asarray(image_of(drawn(tmp_path / "form.pdf")["drawn"]))
    assert pixels[585, 400] < 128, "the middle of the field"


def test_passwords(tmp_path: Path) -> None:
    locked = pikepdf.Encryption(user="sesame", owner="x")
    path = make_pdf(tmp_path / "locked.pdf", LINES, encryption=locked)
    assert opened(path)["problem"].startswith("needs a password; pages.passwords names")
    assert opened(path, "wrong")["problem"].startswith("its password is wrong")
    assert opened(path, "sesame") == {"pages": 1, "remarks": [], "metadata": {}}
    assert drawn(path, password="sesame")["drawn"]["text"]


def test_an_owner_who_forbids_copying_is_obeyed(tmp_path: Path) -> None:
    rights = pikepdf.Permissions(extract=False)
    path = make_pdf(tmp_path / "a.pdf", LINES, encryption=pikepdf.Encryption(owner="x", user="", allow=rights))
    result = drawn(path)["drawn"]
    assert result["text"] == ""
    assert "owner" in result["withheld"]
    assert not result["blank"]


def test_attached_files_are_mentioned(tmp_path: Path) -> None:
    with pikepdf.new() as pdf:
        add_page(pdf, LINES)
        pdf.attachments["bill.xml"] = pikepdf.AttachedFileSpec(pdf, b"<bill/>", filename="bill.xml")
        pdf.save(tmp_path / "a.pdf")
    assert opened(tmp_path / "a.pdf")["remarks"] == [
        "attached files (1) are not read; save them beside it to have them, too"
    ]


def test_a_form_that_only_adobe_shows_is_not_drawn(tmp_path: Path) -> None:
    with pikepdf.new() as pdf:
        add_page(pdf, ["Please wait... ", "If this message is not eventually replaced"])
        form = pikepdf.Dictionary(Fields=pikepdf.Array(), XFA=pdf.make_stream(b"<xdp:xdp/>"))
        pdf.Root.AcroForm = form
        pdf.Root.NeedsRendering = True
        pdf.save(tmp_path / "xfa.pdf")
    assert drawn(tmp_path / "xfa.pdf")["problem"].startswith("an XFA form")


def test_a_damaged_content_stream_draws_white(tmp_path: Path) -> None:
    with pikepdf.new() as pdf:
        page = add_page(pdf, LINES)
        page.obj.Contents = pdf.make_stream(b"")
        page.obj.Contents.write(b"this is no deflated data", filter=pikepdf.Name.FlateDecode)
        pdf.save(tmp_path / "white.pdf")
    result = drawn(tmp_path / "white.pdf")["drawn"]
    assert result["blank"] and result["uniform"]


@pytest.mark.parametrize("cut", [0, 4, 30, 200, 500])
def test_a_pdf_cut_anywhere_is_a_problem_or_a_page(tmp_path: Path, cut: int) -> None:
    path = make_pdf(tmp_path / "a.pdf", LINES)
    path.write_bytes(path.read_bytes()[:cut])
    result = opened(path)
    assert "problem" in result or result["pages"] in (0, 1)
    if not cut:
        assert result["problem"] == "is empty; check the file"


@pytest.mark.parametrize("size", [(0, 0), (1, 14_000), (0.5, 0.5), (1e7, 1e7)])
def test_pages_of_impossible_sizes_do_no_harm(tmp_path: Path, size: tuple[float, float]) -> None:
    result = drawn(make_pdf(tmp_path / "a.pdf", LINES, size=size), least_side=2200)
    assert "problem" in result or image_of(result["drawn"]).size[0] <= 10_000


def test_other_files_are_named_as_what_they_are_not(tmp_path: Path) -> None:
    (tmp_path / "letter.pdf").write_bytes(b"PK\x03\x04 a Word document")
    assert opened(tmp_path / "letter.pdf")["problem"].startswith("is neither a PDF nor an image (PNG, JPEG")
    written_page().save(tmp_path / "scan.pdf", "PNG")
    assert opened(tmp_path / "scan.pdf") == {"pages": 1, "remarks": [], "metadata": {}}, "by its bytes, not by its name"


def test_frames_of_a_tiff_are_pages_with_their_resolution(tmp_path: Path) -> None:
    frames = [written_page([f"page {number}"]).convert("1") for number in (1, 2, 3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:], dpi=(300, 300), compression="group4")
    assert opened(tmp_path / "a.tif")["pages"] == 3
    results = [drawn(tmp_path / "a.tif", number)["drawn"] for number in (1, 2, 3)]
    assert len({result["pixels"] for result in results}) == 3
    assert {result["dpi"] for result in results} == {300}
    assert image_of(results[2]).size == (1000, 1400)


def test_a_fax_has_square_pixels(tmp_path: Path) -> None:
    written_page(size=(1728, 1100)).convert("1").save(tmp_path / "fax.tif", dpi=(204, 98), compression="group3")
    result = drawn(tmp_path / "fax.tif")["drawn"]
    assert image_of(result).size == (1728, 2290)
    assert result["dpi"] == 204


def test_photos_are_upright_on_white_and_their_resolution_is_guessed(tmp_path: Path) -> None:
    photo = written_page(size=(3000, 4000)).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.jpg", exif=exif, dpi=(72, 72))
    result = drawn(tmp_path / "a.jpg")["drawn"]
    assert image_of(result).size == (3000, 4000)
    assert result["dpi"] == pytest.approx(342, abs=1), "as if it were A4: 72 would be 55 inches"
    Image.new("RGBA", (400, 500), (0, 0, 0, 0)).save(tmp_path / "b.png")
    assert image_of(drawn(tmp_path / "b.png")["drawn"]).getextrema() == (255, 255)


def test_a_large_colour_page_of_noise_comes_through_a_worker(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4000, 4000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", compress_level=0)
    request = {
        "do": "draw",
        "path": str(tmp_path / "a.png"),
        "number": 1,
        "mode": "RGB",
        "steps": [["autocontrast", 1]],
    }
    with Workers(1) as workers:
        assert workers.ask(request)["prepared"]["size"] == [4000, 4000]


def test_a_cut_scan_is_a_problem(tmp_path: Path) -> None:
    written_page().save(tmp_path / "a.jpg", quality=90)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    assert "cannot be decoded" in drawn(tmp_path / "a.jpg")["problem"]
    Image.new("1", (60_000, 60_000)).save(tmp_path / "bomb.png")
    assert "pixels" in drawn(tmp_path / "bomb.png")["problem"]
