"""What a scan says of itself is known to the privacy gate, and is not in its page image."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from documents.test_pages import draw
from gemtune.documents.scan_metadata import scan_metadata
from made_pdfs import written_page

SAID = {"Ali Hassan", "01228762033", "Mona Adel", "30 2 40"}


def scan(path: Path) -> None:
    """A scan with all that its format can say of it."""
    image = written_page(["a letter"])
    if path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Author", "Ali Hassan")
        info.add_itxt("XML:com.adobe.xmp", "<a><dc:creator>Mona Adel</dc:creator> 30 2 40</a>")
        info.add_text("Comment", "call 01228762033", zip=True)
        image.save(path, pnginfo=info)
        return
    exif = image.getexif()
    exif[0x013B], exif[0x010E] = "Ali Hassan", "call 01228762033, Mona Adel"
    if path.suffix == ".jpg":
        exif[0x8825] = {1: "N", 2: (30.0, 2.0, 40.0), 3: "E", 4: (31.0, 14.0, 8.0)}
    else:  # Pillow writes no place into a TIFF
        exif[0x010E] += " at 30 2 40"
    image.save(path, exif=exif, **({"comment": b"Mona Adel"} if path.suffix == ".jpg" else {}))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tiff"])
def test_it_is_known_and_not_in_the_page(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    scan(tmp_path / "in" / name)
    (page,), folder, _ = draw(tmp_path / "in", tmp_path / "out", steps=[])
    assert all(any(text in value for value in page.metadata.values()) for text in SAID), page.metadata
    assert page.metadata["Author"] == "Ali Hassan"
    for image in (page.image, page.drawn):
        stored = (folder.root / image).read_bytes()
        assert not any(text.encode() in stored for text in SAID) and b"eXIf" not in stored and b"tEXt" not in stored


def test_damaged_metadata_say_nothing_and_do_no_harm(tmp_path: Path) -> None:
    image = Image.new("L", (60, 60))
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x0e\x01\x02" * 40)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert set(scan_metadata(opened)) <= {"Title", "Author"}
