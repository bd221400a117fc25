"""results.jsonl: one JSON object a line, each with the `step` that wrote it; and the table that is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

Line = dict[str, Any]
WIDEST = 110  # characters of a cell


def append(path: Path, step: str, **values: object) -> None:
    """Adds a line and closes the file, so that a process that is killed loses nothing."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": step, **values}, ensure_ascii=False, default=str) + "\n")


def read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(lines: Iterable[Line]) -> str:
    """A heading for every step with how it ended; below it what it measured, as columns where lines have the same keys.

    >>> print(table([{"step": "speed", "arm": "a", "tokens_per_s": 1234.56}, {"step": "speed", "outcome": "ok"}]))
    speed: ok
      arm  tokens_per_s
      a    1,235
    """
    text = []
    for step, its in groupby(lines, key=lambda line: line["step"]):
        *measured, end = [{key: value for key, value in line.items() if key != "step"} for line in its]
        seconds = f" ({end['seconds']:.0f} s)" if "seconds" in end else ""
        text.append(f"{step}: {end['outcome']}{seconds}")
        for keys, alike in groupby(measured, key=tuple):
            text += [f"  {row}" for row in _columns([list(keys), *(list(line.values()) for line in alike)])]
        if "said" in end:
            text += [f"  | {row[:WIDEST]}" for row in end["said"].splitlines()[-6:]]
    return "\n".join(text)


def _columns(rows: list[list[Any]]) -> list[str]:
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cell(value: object) -> str:
    """
    >>> _cell(0.00123456), _cell(1234.56), _cell(None), _cell([1, 2])
    ('0.00123', '1,235', '-', '[1, 2]')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value).replace("\n", " ")[:WIDEST]
