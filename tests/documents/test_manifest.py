"""Rows that are there are made again where, and only where, something has changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from documents.distilled_place import Place, three_letters


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return three_letters(tmp_path)


def test_nothing_is_done_again_until_something_changes(place: Place) -> None:
    first = place.distill()
    rows, place.said = place.folder.rows_file.read_bytes(), []
    stamp = place.folder.pages_file.stat().st_mtime_ns
    assert place.distill() == first
    assert place.said == [f"{place.folder.rows_file}: {first.rows} rows of 3 documents, and nothing has changed"]
    assert place.folder.pages_file.stat().st_mtime_ns == stamp
    assert set(place.distill("documents.tasks=[content]").tasks) == {"content"}
    next(place.folder.images.rglob("*.png")).unlink()
    place.distill()
    assert place.folder.rows_file.read_bytes() == rows
    assert all((place.folder.root / row["image"]).is_file() for row in place.rows())


CHANGES: dict[str, Callable[[Place], object]] = {
    "a reply": lambda place: (place.root / "replies.jsonl").open("a").write("\n"),
    "damaged rows": lambda place: place.folder.rows_file.open("a").write("{}\n"),
    "a damaged manifest": lambda place: place.folder.manifest_file.write_text("{}"),
    "no manifest, as after a kill": lambda place: place.folder.manifest_file.unlink(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_has_changed_the_rows_are_made_again(place: Place, what: str) -> None:
    place.distill()
    rows, place.said = place.folder.rows_file.read_bytes(), []
    CHANGES[what](place)
    place.distill()
    assert place.folder.rows_file.read_bytes() == rows
    assert not any("nothing has changed" in line for line in place.said)
