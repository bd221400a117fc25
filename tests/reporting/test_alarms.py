"""What takes more than a tenth of the rows is said first, with two of them and what changes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import command
from gemtune.errors import DataError
from gemtune.preparation.prepare import prepare
from gemtune.recipe.schema import Recipe
from gemtune.reporting.alarms import alarm_lines, alarms
from gemtune.reporting.page import report_lines
from gemtune.reporting.report import write_report
from gemtune.runs import Run

GOOD = [{"prompt": f"What is {number} in words?", "answer": f"word {number}"} for number in range(90)]
EMPTY = [{"prompt": f"Question {number}?", "answer": ""} for number in range(40)]


def a_run(folder: Path, rows: list[dict[str, Any]], **sections: Any) -> tuple[Recipe, Run]:
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = Recipe.model_validate(
        {"task": "columns", "runs_dir": str(folder), "data": str(folder / "t.jsonl"), **sections}
    )
    return recipe, Run.of(recipe)


def test_prepare_and_the_report_say_a_large_loss_first(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, [*GOOD[:89], *EMPTY[:10], GOOD[0]])
    prepare(recipe, run)
    assert alarms(run) == []  # ten of a hundred are a tenth, not more
    recipe, run = a_run(tmp_path, [*GOOD, *EMPTY[:12], *GOOD[:13]])
    prepare(recipe, run)
    first, second = alarms(run)
    assert (first.reason, first.rows, first.of) == ("duplicate", 13, 115)
    assert first.examples == ["t.jsonl:103: the same as t.jsonl:1", "t.jsonl:104: the same as t.jsonl:2"]
    assert "prepare.dedupe" in first.headline and "data.columns" in second.headline
    lines = [*alarm_lines(run)]
    assert len(lines) == 6 and lines[0].startswith("WARNING: 13 of 115 rows (11%) are left out as 'duplicate'")
    assert [*report_lines(run)][:6] == lines
    write_report(run)
    for page in (run.report_page, run.report_markdown):
        text = page.read_text(encoding="utf-8")
        assert 0 < text.index("13 of 115 rows (11%)") < text.index("has not been evaluated yet")
        assert "the same as t" in text


def test_the_command_line_begins_with_the_warning(
    write_recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "t.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*GOOD, *EMPTY]), encoding="utf-8")
    recipe = write_recipe(task="columns", data=str(source))
    answer = command.gemtune(capfd, "prepare", recipe)
    assert answer.out.startswith("WARNING: 40 of 130 rows (31%) are left out as 'empty answer'")
    answer = command.gemtune(capfd, "train", recipe, "train.max_steps=1")
    assert "WARNING: 40 of 130 rows (31%)" in answer.err


def test_details_that_act_on_a_terminal_are_shown_as_signs(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, [*GOOD, *EMPTY])
    prepare(recipe, run)
    hostile = {"where": "\x1b[31mt.jsonl:1", "reason": "empty answer", "detail": "a\nb" + "x" * 900}
    run.dropped_file.write_text(json.dumps(hostile) + "\n", encoding="utf-8")
    lines = [*alarm_lines(run)]
    assert "\x1b" not in "".join(lines) and max(map(len, lines)) < 300


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [*EMPTY, *GOOD[:1]],
            r"41 read, 40 of them dropped as 'empty answer', the first at t\.jsonl:1 .*data\.columns",
        ),
        (
            [*EMPTY[:9], *GOOD[:1] * 9],
            r"9 of them dropped as 'empty answer'.*8 of them dropped as 'duplicate', the first at t\.jsonl:11",
        ),
    ],
)
def test_when_too_few_rows_are_left_the_losses_are_named_and_not_the_split(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    recipe, run = a_run(tmp_path, rows, split={"test": 5})
    with pytest.raises(DataError, match=said) as error:
        prepare(recipe, run)
    assert "split" not in str(error.value)
