"""What a source names: folders to the bottom, globs, links, odd names; and which pages of a document are wanted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gemtune.documents.sources import documents_of, of_document, page_numbers
from gemtune.errors import DataError
from gemtune.recipe.document_sections import Pages


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def names_of(source: str | list[str], *written: Path, **keys: dict[str, str]) -> list[str]:
    return [document.name for document in documents_of(Pages(source=source, **keys), *written)[0]]  # type: ignore[arg-type]


def test_a_folder_is_read_to_the_bottom_and_other_files_are_counted(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.PDF", "a/one two.pdf", "a/خطاب رقم ٣.pdf", "a/deep/scan.TIFF", "photo.webp", "a/n.md", "Makefile"
    )
    touch(tmp_path, ".hidden.pdf", "._b.PDF", ".git/x.pdf")
    documents, others = documents_of(Pages(source=str(tmp_path)))
    assert [document.name for document in documents] == [
        "a/deep/scan.TIFF",
        "a/one two.pdf",
        "a/خطاب رقم ٣.pdf",
        "b.PDF",
        "photo.webp",
    ]
    assert others == {".md": 1, "Makefile": 1}
    assert all(document.path.is_file() for document in documents)


def test_globs_files_and_links(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.pdf", "in/b.pdf", "in/x/c.pdf", "in/x/d.txt", "out/e.pdf", "odd[1]/f.pdf", "in/g")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "x" / "up").symlink_to(tmp_path / "in")
    assert names_of(str(tmp_path / "in")) == ["a.pdf", "b.pdf", "linked/e.pdf", "x/c.pdf"], "a circle ends"
    assert names_of(str(tmp_path / "in" / "*.pdf")) == ["a.pdf", "b.pdf"]
    assert "x/c.pdf" in names_of(str(tmp_path / "in" / "**" / "*.pdf"))
    assert names_of(str(tmp_path / "odd[1]")) == ["f.pdf"]
    assert names_of(str(tmp_path / "in" / "g")) == ["g"], "a file that is named is taken, whatever its suffix"


def test_two_sources_whose_files_have_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "2023/report.pdf", "2024/report.pdf", "2024/other.pdf")
    folders = [str(tmp_path / "2023"), str(tmp_path / "2024")]
    assert names_of(folders) == ["2023/report.pdf", "2024/other.pdf", "2024/report.pdf"]
    assert names_of([folders[1], str(tmp_path / "2024" / "other.pdf")]) == ["other.pdf", "report.pdf"], "each file once"


def test_what_gemtune_wrote_into_the_folder_is_no_document(tmp_path: Path) -> None:
    touch(tmp_path, "a.pdf", "distilled/letters/images/ab/x.png", "runs/letters/data/images/y.png")
    written = (tmp_path / "distilled", tmp_path / "runs")
    assert names_of(str(tmp_path), *written) == ["a.pdf"]
    assert names_of(str(tmp_path / "distilled"), *written) == ["letters/images/ab/x.png"], "but where it is asked for"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("nothing", "is not there"),
        ("*.pdf", "no file matches"),
        ("empty", "no PDF, TIFF or image in"),
        ("notes", "found .md"),
        ("a\0b", "NUL"),
    ],
)
def test_a_source_without_documents_is_refused(tmp_path: Path, source: str, fault: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "notes/a.md")
    with pytest.raises(DataError, match=fault):
        documents_of(Pages.model_construct(source=f"{tmp_path}/{source}", select={}, passwords={}))


def test_a_key_that_names_no_document_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "letter.pdf")
    with pytest.raises(DataError, match=r"pages.select: no .* 'leter.pdf'; did you mean 'letter.pdf'\?"):
        names_of(str(tmp_path), select={"leter.pdf": "1"})
    with pytest.raises(DataError, match=r"pages.passwords: no document"):
        names_of(str(tmp_path), passwords={"x/*.pdf": "SECRET"})
    assert names_of(str(tmp_path), select={"*.pdf": "1"}) == ["letter.pdf"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "locked/a.pdf", "b.pdf")
    (tmp_path / "locked").chmod(0)
    with pytest.raises(DataError, match="make it readable"):
        names_of(str(tmp_path))
    (tmp_path / "locked").chmod(0o700)


def test_a_name_goes_before_globs_and_globs_in_their_order() -> None:
    table = {"*": "1", "a[1].pdf": "2", "a*": "3"}
    assert [of_document(table, name) for name in ("a[1].pdf", "a2.pdf", "b")] == ["2", "1", "1"]
    assert of_document({"x/*": "1"}, "y.pdf") is None


@pytest.mark.parametrize(
    ("selection", "pages"),
    [("1-3,7", [1, 2, 3, 7]), ("8-", [8, 9]), ("-2-", [8, 9]), ("-20-", list(range(1, 10))), ("3, 1", [1, 3])],
)
def test_page_ranges(selection: str, pages: list[int]) -> None:
    assert page_numbers(Pages(source="a", select={"x": selection}).select["x"], 9) == pages


@pytest.mark.parametrize("selection", ["", "0", "3-1", "a", "1;2", "1--2", "-2", "1,,2"])
def test_a_page_range_that_is_none_is_refused_in_the_recipe(selection: str) -> None:
    with pytest.raises(ValueError, match=r"wanted pages|runs backward"):
        Pages(source="a", select={"x": selection})
