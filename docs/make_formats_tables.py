"""Writes the tables of docs/formats.md that the code has, of layouts, fields and files: `make formats-page`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_type_hints

from gemtune.artifact_files import Agreement, Artifact, Verification
from gemtune.data.chat_layouts import LAYOUTS
from gemtune.data.chat_turns import PART_TYPES, PARTS_BECOME, ROLES
from gemtune.data.row_fields import FIELDS
from gemtune.documents.audit import Sent
from gemtune.documents.folder import Page, Problem
from gemtune.documents.manifest import DistillManifest, TeacherNote
from gemtune.documents.privacy import Finding
from gemtune.documents.rows import Group, LeftOut, SharedPage
from gemtune.documents.teacher.ledger import Batch, Charge, Intent
from gemtune.documents.teacher.reply_store import StoredReply
from gemtune.metrics.statistics import Difference
from gemtune.recipe.schema import Recipe
from gemtune.run_files import DataManifest, Evaluation, PartLengths, Shard, Summary, TableIndex, Training
from gemtune.tasks import TASKS, task_of

PAGE = Path(__file__).with_name("formats.md")

# The comment above a table -> the class that the file, line or section is, and the table's head.
TABLES: dict[str, tuple[type, tuple[str, ...]]] = {
    "manifest.training": (Training, ("field of `training`", "unit", "what")),
    "replies": (Evaluation, ("field", "what")),
    "summary": (Summary, ("field", "what")),
    "summary.difference": (Difference, ("field of `difference`", "what")),
    "artifact": (Artifact, ("field", "unit", "what")),
    "artifact.verification": (Verification, ("field of `verification`", "unit", "what")),
    "artifact.verification.agreement": (Agreement, ("field of `agreement`", "unit", "what")),
    "data": (DataManifest, ("field", "what")),
    "data.lengths": (PartLengths, ("field of a part", "unit", "what")),
    "table.index": (TableIndex, ("field", "what")),
    "table.shard": (Shard, ("field of a shard", "unit", "what")),
    "pages": (Page, ("field", "unit", "what")),
    "problems": (Problem, ("field", "what")),
    "documents.finding": (Finding, ("field", "what")),
    "documents.sent": (Sent, ("field", "what")),
    "documents.intent": (Intent, ("field", "unit", "what")),
    "documents.charge": (Charge, ("field", "unit", "what")),
    "documents.batch": (Batch, ("field", "what")),
    "documents.reply": (StoredReply, ("field", "what")),
    "documents.group": (Group, ("field", "what")),
    "documents.shared": (SharedPage, ("field of `shared`", "unit", "what")),
    "documents.manifest": (DistillManifest, ("field", "what")),
    "documents.left_out": (LeftOut, ("field of `left_out`", "what")),
    "documents.teacher": (TeacherNote, ("field of `teachers`", "unit", "what")),
}


def page(text: str) -> str:
    """The page with those tables as the code has them."""
    for mark, (kind, head) in TABLES.items():
        text = _with_table(text, f"fields: {mark}", head, _fields(kind, len(head)))
    for mark, (head, rows) in FORMATS.items():
        text = _with_table(text, mark, head, rows())
    return text


def _with_table(text: str, mark: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    comment = f"<!-- {mark} -->\n"
    table = "".join(map(_row, [head, ["---"] * len(head), *rows]))
    text, count = re.subn(rf"{re.escape(comment)}(?:\|.*\n)*", lambda _: comment + table, text)
    if count != 1:
        raise SystemExit(f"docs/formats.md: {count} tables below {comment.strip()}; wanted one")
    return text


def _layouts() -> Iterator[tuple[str, ...]]:
    for name, layout in LAYOUTS.items():
        sets = ", ".join(" + ".join(_code(columns)) for columns in layout.columns)
        yield f"`{name}`", sets, ", ".join(_code(layout.asks)), layout.holds


def _row_fields() -> Iterator[tuple[str, ...]]:
    for field in FIELDS:
        yield ", ".join(_code(field.names)), " and ".join(field.places), field.becomes


def _roles() -> Iterator[tuple[str, str]]:
    for role in dict.fromkeys(ROLES.values()):
        yield ", ".join(_code(name for name, meant in ROLES.items() if meant == role)), role


def _parts() -> Iterator[tuple[str, str]]:
    for becomes, words in PARTS_BECOME.items():
        yield ", ".join(_code(name for name, kind in PART_TYPES.items() if kind == becomes)), words


def _tasks() -> Iterator[tuple[str, ...]]:
    for name in TASKS:
        task = task_of(Recipe(task=name, data=["x.csv"]))  # type: ignore[list-item]
        columns = ", ".join(_code(task.columns)) or "those of a layout"
        yield f"`{name}`", columns, ", ".join(_code(task.unanswered))


def _code(names: Iterable[str]) -> list[str]:
    """
    >>> _code(["system"])
    ['`system`']
    """
    return [f"`{name}`" for name in names]


# The comment above a table -> its head, and what the code says.
FORMATS: dict[str, tuple[tuple[str, ...], Callable[[], Iterable[tuple[str, ...]]]]] = {
    "layouts": (("layout", "columns of a row", "of a question", "what they hold"), _layouts),
    "row fields": (("field", "of a", "becomes"), _row_fields),
    "roles": (("role", "is"), _roles),
    "parts": (("part", "becomes"), _parts),
    "columns of tasks": (("task", "columns", "that a question can do without"), _tasks),
}


def _fields(kind: type, columns: int) -> list[list[str]]:
    """Name, unit where the table has one, and meaning of every field: the words beside its type.

    >>> _fields(Difference, 2)[0]
    ['`mean`', 'tuned minus base']
    """
    rows = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        meaning, *unit = getattr(hint, "__metadata__", ("",))  # some names say it all
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
