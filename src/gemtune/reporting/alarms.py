"""Reasons that take so many rows that a user must hear of it before anything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gemtune.files import JsonObject, read_jsonl
from gemtune.reporting.text import count, one_line, visible
from gemtune.run_files import move_of
from gemtune.runs import Run

ALARMING = 10  # a reason that takes more than one row of so many
SHOWN = 2  # rows of each
LONGEST = 160  # characters of a row's detail


@dataclass(frozen=True)
class Alarm:
    """A reason that takes many rows, two of them, and what changes it."""

    reason: str
    rows: int
    of: int
    examples: list[str]
    move: str

    @property
    def headline(self) -> str:
        return (
            f"{count(self.rows)} of {count(self.of)} rows ({self.rows / max(1, self.of):.0%}) are left out as "
            f"'{self.reason}': {self.move}"
        )


def alarms(run: Run) -> list[Alarm]:
    """The reasons that take more than a tenth of the rows, the largest first; none before rows are prepared."""
    data = run.data_manifest()
    losses = {reason: rows for reason, rows in data.losses.items() if rows * ALARMING > data.rows_read} if data else {}
    examples: dict[str, list[str]] = {reason: [] for reason in losses}
    missing = SHOWN * len(examples)
    for line in read_jsonl(run.dropped_file) if losses else ():
        reason = str(line.get("reason"))
        if len(examples.get(reason, [""] * SHOWN)) < SHOWN:
            examples[reason].append(_example(line))
            missing -= 1
        if not missing:
            break
    total = data.rows_read if data else 0
    return [Alarm(reason, rows, total, examples[reason], move_of(reason)) for reason, rows in losses.items()]


def alarm_lines(run: Run) -> Iterator[str]:
    """The alarms of a run for a terminal."""
    for alarm in alarms(run):
        yield visible(f"WARNING: {alarm.headline}")
        yield from (visible(f"  {example}") for example in alarm.examples)


def _example(line: JsonObject) -> str:
    return f"{line.get('where')}: {one_line(str(line.get('detail')), LONGEST)}"
