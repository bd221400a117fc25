"""Writes the table of docs/emoji.md of a run's artifacts: `python docs/make_exports_table.py runs/emoji`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gemtune.artifact_files import Artifact
from gemtune.files import write_text
from gemtune.reporting.artifacts import HEAD, artifact_rows
from gemtune.runs import Run

PAGE = Path(__file__).with_name("emoji.md")
TABLE = re.compile(r"(?<=<!-- exports -->\n)(?:\|.*\n)*")


def page(text: str, artifacts: Sequence[Artifact]) -> str:
    """The page with the table of these artifacts, each with the command that makes it."""
    rows = [
        (*row, f"`gemtune export runs/emoji {artifact.format}`")
        for artifact, row in zip(artifacts, artifact_rows(artifacts), strict=True)
    ]
    lines = [
        "".join(f"| {cell} " for cell in row) + "|\n" for row in [(*HEAD, "made by"), ["---"] * (len(HEAD) + 1), *rows]
    ]
    text, count = TABLE.subn("".join(lines), text)
    if count != 1:
        raise SystemExit(f"{PAGE}: {count} places for the table; wanted one")
    return text


if __name__ == "__main__":
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), Run.open(Path(sys.argv[1])).artifacts()))
