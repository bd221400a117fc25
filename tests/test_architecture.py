"""The picture in docs/architecture.md against the imports in the source."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
maker = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_architecture.py")))
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
Arrows = dict[str, set[str]]


def drawn_in(page: str) -> Arrows:
    """Room -> where its arrows lead, read from the Mermaid drawing of a page.

    >>> drawn_in("```mermaid\\nflowchart TB\\n    a[a/]\\n    b[b.py]:::torch\\n    a --> b\\n```")
    {'a': {'b'}, 'b': set()}
    """
    drawing = page.split("```mermaid\n")[1].split("```")[0]
    arrows: Arrows = {room: set() for room in re.findall(r"^ +(\w+)\[", drawing, re.MULTILINE)}
    for start, end in re.findall(r"^ +(\w+) --> (\w+)$", drawing, re.MULTILINE):
        arrows.setdefault(start, set()).add(end)
        arrows.setdefault(end, set())
    return arrows


def faults(drawn: Arrows, imports: Arrows) -> Iterator[str]:
    """Where a drawing and the imports do not agree, each as a sentence."""
    yield from (f"{room} is not in the picture" for room in sorted(imports.keys() - drawn))
    yield from (f"{room} of the picture is not in the source" for room in sorted(drawn.keys() - imports))
    for room, ends in drawn.items():
        yield from (f"{room} does not import {end}" for end in sorted(ends - imports.get(room, set())))
    below = maker.reachable(drawn)
    for room, entered in imports.items():
        yield from (f"no arrows lead from {room} to {end}" for end in sorted(entered - below.get(room, set())))


def test_every_arrow_is_an_import_and_every_import_follows_arrows() -> None:
    assert list(faults(drawn_in(PAGE), maker.imports_of(maker.PACKAGE))) == [], "draw it again: make architecture-page"


def test_the_page_is_current() -> None:
    assert maker.page(PAGE) == PAGE, "write it again: make architecture-page"


# ---- a house small enough to be read here

HOUSE = {
    "__init__.py": '"""A house."""\nfrom house.cli import main\n',
    "__main__.py": "from house.cli import main\n",
    "errors.py": '"""What goes wrong."""\n',
    "data/__init__.py": '"""What a file holds."""\n',
    "data/rows.py": "import csv\nfrom house.data import formats\nfrom house.errors import DataError\n",
    "data/formats.py": "import house.errors\n",
    "models/__init__.py": '"""Finding a model.\n\nAnd loading it."""\n',
    "models/families/gemma3.py": "from torch import nn\ndef f():\n    from house.data.rows import Row\n",
    "cli/__init__.py": '"""What is typed\nand printed."""\nfrom house import errors, models\n',
}


def build(folder: Path, **changed: str) -> Path:
    """Writes the house, with other texts for some of its files."""
    for name, text in {**HOUSE, **changed}.items():
        path = folder / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "house"


def test_the_imports_of_a_house_are_read(tmp_path: Path) -> None:
    house = build(tmp_path)
    assert maker.imports_of(house) == {
        "cli": {"errors", "models"},
        "data": {"errors"},
        "errors": set(),
        "models": {"data"},
    }
    assert maker.bring_torch(house) == {"models"}


def test_the_picture_of_a_house_leaves_out_what_a_longer_way_shows(tmp_path: Path) -> None:
    picture = maker.picture(build(tmp_path))
    assert drawn_in(picture) == {"cli": {"models"}, "models": {"data"}, "data": {"errors"}, "errors": set()}
    rooms = [line for line in picture.splitlines() if re.match(r"\| \d", line)]
    assert rooms == [
        "| 4 | `cli/` | What is typed and printed. | `errors`, `models` |",
        "| 3 | `models/` | Finding a model. | `data` |",
        "| 2 | `data/` | What a file holds. | `errors` |",
        "| 1 | `errors.py` | What goes wrong. |  |",
    ]


def test_drawing_again_replaces_the_picture_and_nothing_else(tmp_path: Path) -> None:
    house, empty = build(tmp_path), f"# A house\n\n{maker.BEGIN}{maker.END}\nThe end.\n"
    page = maker.page(empty, house)
    assert page.startswith("# A house\n") and page.endswith("\nThe end.\n")
    assert maker.page(page, house) == page
    assert list(faults(drawn_in(page), maker.imports_of(house))) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("    models --> data\n", "", "no arrows lead from models to data"),
        ("    cli --> models\n", "    cli --> models\n    cli --> data\n", "cli does not import data"),
        ("    data --> errors\n", "    errors --> data\n", "errors does not import data"),
        ("    data[", "    tasks[tasks/]\n    data[", "tasks of the picture is not in the source"),
    ],
)
def test_a_wrong_picture_is_noticed(before: str, after: str, fault: str, tmp_path: Path) -> None:
    house = build(tmp_path)
    picture = maker.picture(house)
    assert before in picture
    assert fault in list(faults(drawn_in(picture.replace(before, after, 1)), maker.imports_of(house)))


def test_a_room_that_is_not_drawn_is_noticed(tmp_path: Path) -> None:
    drawn = drawn_in(maker.picture(build(tmp_path)))
    house = build(tmp_path, **{"tasks/__init__.py": '"""What is asked."""'})
    assert list(faults(drawn, maker.imports_of(house))) == ["tasks is not in the picture"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("errors.py", '"""What goes wrong."""\nfrom house import cli', "in a circle: "),
        ("data/__init__.py", "", "no docstring"),
    ],
)
def test_what_cannot_be_drawn_is_refused(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=complaint):
        maker.picture(build(tmp_path, **{name: text}))
