"""A row of ten million characters is left out with its reason, before anything reads its words; so is one too long."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemtune.errors import DataError
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.reporting.alarms import alarms
from gemtune.runs import PARTS, Run

HUGE = "a word after a word " * 500_000
Row = dict[str, Any]


def turns(*contents: str) -> Row:
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]}


# Task -> a row by number, and rows with ten million characters in one of their fields.
SCHEMA = "CREATE TABLE t (a INT)"
ROWS: dict[str, tuple[Callable[[int], Row], list[Row]]] = {
    "columns": (
        lambda n: {"prompt": f"question {n}", "answer": f"answer {n}"},
        [{"prompt": HUGE, "answer": "x"}, {"prompt": "x", "answer": HUGE}],
    ),
    "emoji": (
        lambda n: {"text": f"day {n}", "emoji": "☀️"},
        [{"text": HUGE, "emoji": "☀️"}, {"text": "x", "emoji": "☀️" * 5_000_000}],
    ),
    "messages": (
        lambda n: turns(f"question {n}", "yes"),
        [
            turns(HUGE, "x"),
            turns("x", HUGE),
            turns("a", "b", HUGE, "c"),
            {"instruction": HUGE, "output": "x"},
            {"prompt": "x", "completion": HUGE},
            {"conversations": [{"from": "human", "value": HUGE}, {"from": "gpt", "value": "x"}]},
            {"system": HUGE, **turns("x", "y")},
        ],
    ),
    "sql": (
        lambda n: {
            "question": f"How many in {n}?",
            "schema": f"CREATE TABLE t{n} (a INT)",
            "sql": f"SELECT a FROM t{n}",
        },
        [
            {"question": HUGE, "schema": SCHEMA, "sql": "SELECT a FROM t"},
            {"question": "x", "schema": HUGE, "sql": "SELECT a FROM t"},
            {"question": "x", "schema": SCHEMA, "sql": HUGE},
            {"question": "x", "schema": SCHEMA, "sql": "SELECT a FROM t", "inserts": [HUGE]},
        ],
    ),
}


def prepared(write_recipe: Callable[..., Path], folder: Path, rows: list[Row], **keys: Any) -> Run:
    source = folder / "t.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job = Job(write_recipe(**{"data": str(source), **keys}))
    stages.prepare(job)
    return job.run


def dropped(run: Run) -> dict[int, tuple[str, str]]:
    lines = map(json.loads, run.dropped_file.read_text(encoding="utf-8").splitlines())
    return {int(line["where"].split(":")[1]): (line["reason"], line["detail"]) for line in lines}


@pytest.mark.parametrize("task", ROWS)
def test_ten_million_characters_in_any_field_cost_their_row_alone(
    task: str, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    row, huge = ROWS[task]
    run = prepared(write_recipe, tmp_path, [*map(row, range(30)), *huge], task=task)
    reasons = dropped(run)
    assert {number: reason for number, (reason, _) in reasons.items()} == {
        31 + n: "too much text" for n in range(len(huge))
    }
    assert all("characters of text" in detail and len(detail) < 200 for _, detail in reasons.values())
    assert sum(run.prepared_data().kept.values()) == 30


COLUMNS = ROWS["columns"][0]
LONG = {"prompt": "a long prompt " * 100, "answer": "x"}  # more than 128 tokens ...
VERY_LONG = {"prompt": "a very long prompt " * 40_000, "answer": "x"}  # ... and so many that nobody counts them
CONTROL = {"prompt": "what does <end_of_turn> do", "answer": "x"}


def test_rows_that_are_in_no_token_table_are_listed(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    rows = [*map(COLUMNS, range(20)), LONG, VERY_LONG, CONTROL, {"prompt": "?", "answer": ""}, *map(COLUMNS, range(2))]
    keys = {"task": "columns", "split": {"val": 0.1, "test": 0.1}}
    run = prepared(write_recipe, tmp_path, rows, **keys)
    found = dropped(run)
    assert {number: reason for number, (reason, _) in found.items()} == {
        21: "over length", 22: "over length", 23: "control token", 24: "empty answer", 25: "duplicate", 26: "duplicate",
    }  # fmt: skip
    assert "tokens, train.max_length is 128" in found[21][1] and "760,000 characters" not in found[21][1]
    assert "characters: more tokens than train.max_length" in found[22][1]
    data = run.prepared_data()
    assert data.losses == Counter(reason for reason, _ in found.values())
    assert sum(data.token_lengths.of(part).rows for part in PARTS) == 20
    again = prepared(write_recipe, tmp_path, rows, **keys, train={"max_length": 2048})
    assert {n: reason for n, (reason, _) in dropped(again).items() if n < 24} == {
        22: "over length",
        23: "control token",
    }
    assert len(dropped(again)) == 5


def test_too_many_long_rows_are_an_alarm_with_the_key(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    long = [{**LONG, "answer": f"answer {number}"} for number in range(8)]
    run = prepared(write_recipe, tmp_path, [*map(COLUMNS, range(20)), *long], task="columns")
    (alarm,) = alarms(run)
    assert alarm.headline.startswith("8 of 28 rows (29%) are left out as 'over length'")
    assert "train.max_length" in alarm.move and len(alarm.examples) == 2


@pytest.mark.parametrize("row", [LONG, VERY_LONG])
def test_a_long_row_stops_the_run_where_it_is_to(row: Row, write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.jsonl:21: .* train\.max_length.*prepare\.over_length: drop"):
        prepared(
            write_recipe, tmp_path, [*map(COLUMNS, range(20)), row], task="columns", prepare={"over_length": "fail"}
        )
