"""Writes the tables of docs/formats.md whose fields are dataclasses in the code: `make formats-page`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_type_hints

from gemtune.metrics.statistics import Difference
from gemtune.run_files import DataManifest, Evaluation, PartLengths, Summary, Training

PAGE = Path(__file__).with_name("formats.md")

# The comment above a table -> the class that the file, line or section is, and the table's head.
TABLES: dict[str, tuple[type, tuple[str, ...]]] = {
    "manifest.training": (Training, ("field of `training`", "unit", "what")),
    "replies": (Evaluation, ("field", "what")),
    "summary": (Summary, ("field", "what")),
    "summary.difference": (Difference, ("field of `difference`", "what")),
    "data": (DataManifest, ("field", "what")),
    "data.lengths": (PartLengths, ("field of a part", "unit", "what")),
}


def page(text: str) -> str:
    """The page with those tables as the code has them."""
    for mark, (kind, head) in TABLES.items():
        comment = f"<!-- fields: {mark} -->\n"
        table = "".join(map(_row, [head, ["---"] * len(head), *_fields(kind, len(head))]))
        text, count = re.subn(rf"{re.escape(comment)}(?:\|.*\n)*", lambda _, new=comment + table: new, text)
        if count != 1:
            raise SystemExit(f"docs/formats.md: {count} tables below {comment.strip()}; wanted one")
    return text


def _fields(kind: type, columns: int) -> list[list[str]]:
    """Name, unit where the table has one, and meaning of every field: the words beside its type.

    >>> _fields(Difference, 2)[0]
    ['`mean`', 'tuned minus base']
    """
    rows = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        meaning, *unit = hint.__metadata__
        rows.append([f"`{name}`", *([*unit, ""][:1] if columns == 3 else []), meaning])
    return rows


def _row(cells: tuple[str, ...] | list[str]) -> str:
    """
    >>> _row(["`rows`", "", "how many"])
    '| `rows` | | how many |\\n'
    """
    if set(cells) == {"---"}:
        return "|" + "|".join(cells) + "|\n"
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
