"""A folder of documents becomes pages: once each, in order, whatever is wrong with some of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from PIL import Image

from gemtune.documents.folder import DistilledFolder, Page
from gemtune.documents.ocr import available
from gemtune.documents.pages import draw_pages, image_of
from gemtune.errors import DataError
from gemtune.files import read_jsonl
from gemtune.recipe.schema import Recipe
from made_pdfs import LINES, add_page, make_pdf, written_page

FAST = {"dpi": 60, "least_side": 0, "workers": 1}


def recipe(source: Path, out: Path, **keys: Any) -> Recipe:
    pages = {"source": str(source), "folder": str(out), **FAST, **keys}
    return Recipe.model_validate({"name": "letters", "task": "documents", "pages": pages})


def draw(source: Path, out: Path, **keys: Any) -> tuple[list[Page], DistilledFolder, list[str]]:
    said: list[str] = []
    drawn = recipe(source, out, **keys)
    folder = DistilledFolder.of(drawn)
    return draw_pages(drawn, folder, said.append, lambda what, done, total: None), folder, said


def problems(folder: DistilledFolder) -> dict[tuple[str, int | None], str]:
    return {(line["document"], line["number"]): line["problem"] for line in read_jsonl(folder.problems_file)}


def numbered(path: Path, count: int) -> Path:
    return make_pdf(path, *([f"page {number} of {path.name!a}", *LINES[number:]] for number in range(1, count + 1)))


def test_a_folder_of_everything(tmp_path: Path) -> None:
    source = tmp_path / "in"
    numbered(source / "b" / "رسالة ١.pdf", 3)
    numbered(source / "A.PDF", 2)
    frames = [written_page([f"frame {number}"]) for number in (1, 2)]
    frames[0].save(source / "scan.tiff", save_all=True, append_images=frames[1:])
    written_page(["photo"]).save(source / "photo.jpg")
    (source / "notes.md").write_text("no document")
    pages, folder, said = draw(source, tmp_path / "out", select={"A.PDF": 2})
    assert [(page.document, page.number) for page in pages] == [
        ("A.PDF", 2),
        ("b/رسالة ١.pdf", 1),
        ("b/رسالة ١.pdf", 2),
        ("b/رسالة ١.pdf", 3),
        ("photo.jpg", 1),
        ("scan.tiff", 1),
        ("scan.tiff", 2),
    ]
    assert said == ["not read, since they are no documents: 1 .md"]
    assert [Page.from_json(line, "") for line in read_jsonl(folder.pages_file)] == pages
    for page in pages:
        with Image.open(image_of(folder, page)) as image:
            assert image.size == tuple(page.size)
            assert image.mode == "L"
    assert [step["step"] for step in pages[0].steps] == ["flatten", "deskew", "gray"]
    assert pages[0].text.startswith("page 2 of")
    assert list(read_jsonl(folder.problems_file)) == []


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    source = tmp_path / "in"
    numbered(source / "a.pdf", 3)
    first, folder, _ = draw(source, tmp_path / "out")
    lines, log = folder.pages_file.read_bytes(), folder.drawn_file.read_bytes()
    times = {path: path.stat().st_mtime_ns for path in folder.images.rglob("*.png")}
    again, _, _ = draw(source, tmp_path / "out", workers=3)
    assert again == first
    assert folder.pages_file.read_bytes() == lines
    assert folder.drawn_file.read_bytes() == log, "no child was asked"
    assert {path: path.stat().st_mtime_ns for path in folder.images.rglob("*.png")} == times
    (source / "a.pdf").rename(source / "renamed.pdf")
    renamed, _, _ = draw(source, tmp_path / "out")
    assert [page.image for page in renamed] == [page.image for page in first]
    assert folder.drawn_file.read_bytes() == log, "its bytes decide, not its name"


def test_other_steps_start_from_what_was_drawn(tmp_path: Path) -> None:
    source = tmp_path / "in"
    numbered(source / "a.pdf", 2)
    first, folder, _ = draw(source, tmp_path / "out")
    log = folder.drawn_file.read_text().splitlines()
    smaller, _, _ = draw(source, tmp_path / "out", steps=[{"resize": 300}, "gray"])
    added = [json.loads(line)["result"] for line in folder.drawn_file.read_text().splitlines()[len(log) :]]
    assert [list(result["size"]) for result in added] == [[212, 300]] * 2
    assert [page.drawn for page in smaller] == [page.drawn for page in first]
    assert draw(source, tmp_path / "out")[0] == first, "and the first ones are still there"


def test_one_picture_that_is_gone_is_drawn_again(tmp_path: Path) -> None:
    numbered(tmp_path / "in" / "a.pdf", 3)
    first, folder, _ = draw(tmp_path / "in", tmp_path / "out")
    image_of(folder, first[1]).unlink()
    assert draw(tmp_path / "in", tmp_path / "out")[0] == first
    assert image_of(folder, first[1]).is_file()


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    numbered(tmp_path / "in" / "a.pdf", 24)
    whole, folder, _ = draw(tmp_path / "in", tmp_path / "whole")
    code = (
        "import sys; from pathlib import Path\n"
        "from gemtune.documents.folder import DistilledFolder\n"
        "from gemtune.documents.pages import draw_pages\n"
        "from gemtune.recipe.schema import Recipe\n"
        "recipe = Recipe.model_validate_json(sys.argv[1])\n"
        "draw_pages(recipe, DistilledFolder.of(recipe), print, lambda what, done, total: None)\n"
    )
    killed = recipe(tmp_path / "in", tmp_path / "killed", workers=2)
    log = DistilledFolder.of(killed).drawn_file
    for after in (5, 15):
        command = [sys.executable, "-c", code, killed.model_dump_json(include={"name", "task", "pages"})]
        child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        while (not log.exists() or log.read_bytes().count(b"\n") < after) and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    with log.open("ab") as out:
        out.write(b'{"key": "cut')
    assert draw(tmp_path / "in", tmp_path / "killed")[0] == whole
    killed_folder = DistilledFolder.of(killed)
    assert killed_folder.pages_file.read_bytes() == folder.pages_file.read_bytes()
    keys = [json.loads(line)["key"] for line in log.read_text().splitlines() if not line.endswith("cut")]
    assert len(keys) == len(set(keys)) == 1 + 24 * 2, "each page was drawn once, over three runs"


def test_what_is_broken_names_itself_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in"
    numbered(source / "good.pdf", 1)
    (source / "empty.pdf").write_bytes(b"")
    (source / "rubbish.pdf").write_bytes(b"%PDF-1.7\n" + os.urandom(2000))
    (source / "word.pdf").write_bytes(b"PK\x03\x04")
    (source / "gone.pdf").symlink_to(tmp_path / "nowhere.pdf")
    (source / "twin.pdf").write_bytes((source / "good.pdf").read_bytes())
    for name, password in (("locked", "a"), ("wrong", "b"), ("right", "c"), ("unset", "d")):
        make_pdf(source / f"{name}.pdf", LINES, encryption=pikepdf.Encryption(user=password, owner="x"))
    with pikepdf.new() as pdf:
        add_page(pdf, LINES)
        add_page(pdf, []).obj.Contents.write(b"this is no deflated data", filter=pikepdf.Name.FlateDecode)
        pdf.save(source / "white.pdf")
    os.mkfifo(source / "pipe.pdf")
    monkeypatch.setenv("WRONG", "b?")
    monkeypatch.setenv("RIGHT", "c")
    monkeypatch.delenv("UNSET", raising=False)
    passwords = {"wrong.pdf": "WRONG", "right.pdf": "RIGHT", "unset.pdf": "UNSET"}
    pages, folder, said = draw(source, tmp_path / "out", passwords=passwords, select={"good.pdf": "1,5"})
    assert [(page.document, page.number, page.blank) for page in pages] == [
        ("good.pdf", 1, False),
        ("right.pdf", 1, False),
        ("white.pdf", 1, False),
        ("white.pdf", 2, True),
    ]
    starts = {
        ("empty.pdf", None): "is empty",
        ("gone.pdf", None): "is not there",
        ("locked.pdf", None): "needs a password; pages.passwords names",
        ("pipe.pdf", None): "is not there, or no file (a pipe",
        ("rubbish.pdf", None): "cannot be opened: damaged",
        ("twin.pdf", None): "the same file as good.pdf",
        ("unset.pdf", None): "needs the password in UNSET, which is not set; export UNSET=",
        ("white.pdf", 2): "nothing is drawn on it: an empty page, or a damaged one",
        ("word.pdf", None): "is neither a PDF nor an image",
        ("wrong.pdf", None): "its password is wrong",
    }
    found = problems(folder)
    assert found.keys() == starts.keys()
    for key, start in starts.items():
        assert found[key].startswith(start)
    assert said == [
        f"{folder.problems_file} says what is wrong with documents (10); first empty.pdf: is empty; check the file"
    ]
    for path in folder.root.rglob("*"):
        assert not path.is_file() or b'"c"' not in path.read_bytes(), "no password is kept"


def test_a_selection_that_takes_nothing_is_a_problem(tmp_path: Path) -> None:
    numbered(tmp_path / "in" / "a.pdf", 2)
    numbered(tmp_path / "in" / "b.pdf", 9)
    pages, folder, _ = draw(tmp_path / "in", tmp_path / "out", select={"*": "8-"})
    assert [(page.document, page.number) for page in pages] == [("b.pdf", 8), ("b.pdf", 9)]
    assert problems(folder) == {("a.pdf", None): "pages.select: '8-' takes none of its 2 pages"}


def test_nothing_that_can_be_drawn_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(DataError, match=r"no page could be drawn, of documents: 1; first a.pdf: is empty"):
        draw(tmp_path / "a.pdf", tmp_path / "out")


@pytest.mark.skipif(available("osd") is not None, reason="tesseract is not here")
def test_a_scan_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    letter = written_page(LINES * 2, (1100, 1500))
    letter.rotate(90, expand=True).save(tmp_path / "a.png")
    pages, _, _ = draw(tmp_path / "a.png", tmp_path / "out", steps=["orient"])
    assert pages[0].steps == [{"step": "orient", "setting": None, "degrees": 90}]
    assert tuple(pages[0].size) == letter.size


def test_colour_is_kept_without_the_step_gray(tmp_path: Path) -> None:
    written_page().convert("RGB").save(tmp_path / "a.png")
    pages, folder, _ = draw(tmp_path / "a.png", tmp_path / "out", steps=["flatten"])
    with Image.open(image_of(folder, pages[0])) as image:
        assert image.mode == "RGB"


def test_no_steps_at_all(tmp_path: Path) -> None:
    numbered(tmp_path / "a.pdf", 1)
    pages, _, _ = draw(tmp_path / "a.pdf", tmp_path / "out", steps=[])
    assert pages[0].steps == []
    assert pages[0].image == pages[0].drawn
