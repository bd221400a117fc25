"""What a report shows: every number of the inputs, and in each section that has none the command that fills it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from gemtune.files import write_json
from gemtune.reporting.comparison import summary_lines
from gemtune.reporting.page import page_data, report_lines
from gemtune.runs import Run
from reporting.made_run import STAGES, data_manifest, make_run, metric_lines, page_of


def test_rows_add_up_where_the_reader_can_see_it(full: Run) -> None:
    text = page_of(full).text("data")
    for words in (
        "Rows read 1,650",
        "near copy of another row −31",
        "Kept 1,604",
        "train 1,283",
        "val 160",
        "test 161",
    ):
        assert words in text
    assert "dropped 46" in text and "no pair of similar questions on both sides" in text and "add up" not in text


def test_rows_that_do_not_add_up_and_leaks_are_said(tmp_path: Path) -> None:
    run = make_run(tmp_path, "prepare")
    write_json(run.data_manifest_file, data_manifest() | {"rows_read": 1660, "leaks": 3})
    text = page_of(run).text("data")
    assert "These rows do not add up: 1,660 read, 1,650 accounted for." in text
    assert "Leak audit: 3 pairs of similar questions on both sides of the split" in text


def test_training_figures_decisions_recipe_and_versions(full: Run) -> None:
    page = page_of(full)
    for words in (
        "steps 240",
        "time 7 min 37 s",
        "tokens per second 815",
        "peak memory 2.34 GB",
        "val loss of that step 0.922",
    ):
        assert words in page.text("training")
    assert "dtype float32 this CPU has no bf16 matrix instructions" in page.text("decisions")
    assert "data.0.source examples/emoji.csv" in page.text("recipe").split("keys at their default")[0]
    assert "train.epochs 3" in page.text("recipe").split("keys at their default")[1]
    assert "torch 2.9.1+cpu" in page.text("versions")


def test_the_curves_have_a_title_a_description_and_the_kept_step(full: Run) -> None:
    text = page_of(full).text("losses")
    assert "Loss curves" in text and "val from 10.8 to 0.92" in text and "kept, step 240: val 0.92" in text
    page = page_data(full)["losses"]
    assert page.count("<polyline") == 3
    for series in re.findall(r'points="([^"]+)"', page):
        values = [float(value) for pair in series.split() for value in pair.split(",")]
        assert all(0 <= value <= 100 for value in values)


@pytest.mark.parametrize("stages", [(), ("prepare",), ("prepare", "train"), ("evaluate",), STAGES])
def test_a_section_without_its_stage_names_the_command(tmp_path: Path, stages: tuple[str, ...]) -> None:
    run = make_run(tmp_path, *stages)
    page = page_of(run)
    commands = {"prepare": "gemtune prepare", "train": "gemtune train", "evaluate": f"gemtune evaluate {run.root}"}
    fills = {"data": "prepare", "fit": "train", "losses": "train", "training": "train", "versions": "train"}
    fills |= {"result": "evaluate", "metrics": "evaluate", "answers": "evaluate", "regressions": "evaluate"}
    for section, stage in fills.items():
        assert (f"{commands[stage]}" in page.text(section)) == (stage not in stages), section
    markdown = run.report_markdown.read_text(encoding="utf-8")
    assert (commands["prepare"] in markdown) == ("prepare" not in stages)
    lines = list(report_lines(run))
    assert lines[-1] == f"report: {run.report_page}"
    assert any("Not evaluated yet: gemtune evaluate" in line for line in lines) == ("evaluate" not in stages)


def test_a_training_that_was_cut_off_still_has_curves(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for line in metric_lines()[:30]:
        run.log(line)
    page = page_of(run)
    assert "begun and not finished" in page.text("training")
    assert "Loss curves" in page.text("losses")
    assert "not enough evaluations The run has 2 evaluations" in page.text("fit")


def test_losses_that_are_not_finite_are_counted_not_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for step, loss in enumerate((3.0, math.nan, math.inf, None)):
        run.log({"step": step, "epoch": 0.1, "loss": loss})
    run.log({"step": 3, "epoch": 0.1, "eval_loss": math.nan, "probe_loss": None})
    page = page_of(run)
    assert "3 logged train losses are not finite" in page.text("losses")
    assert "nan" not in page_data(run)["losses"]
    assert "diverged" in page.text("fit")


def test_the_score_on_val_has_its_own_chart(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for step in (0, 10, 20):
        run.log(
            {
                "step": step,
                "epoch": step / 10,
                "eval_loss": 2 - step / 20,
                "probe_loss": 2 - step / 20,
                "eval_f1": step / 40,
            }
        )
    assert "f1, val" in page_of(run).text("losses")


def test_regressions_are_the_worst_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, "evaluate")
    summary = json.loads(run.summary_file.read_text(encoding="utf-8"))
    rows = [
        {"where": f"r:{i}", "prompt": "p", "gold": "g", "base": "b", "tuned": "t", "difference": -i / 20}
        for i in range(1, 11)
    ]
    write_json(run.summary_file, summary | {"regressions": rows})
    assert re.findall(r"r:\d+", page_of(run).text("regressions")) == [f"r:{i}" for i in range(10, 0, -1)]
    write_json(run.summary_file, summary | {"regressions": []})
    assert "No test row got a worse score" in page_of(run).text("regressions")


def test_the_terminal_sees_scores_verdict_answers_and_no_escape_codes(full: Run, hostile: Run) -> None:
    lines = list(report_lines(full))
    assert lines[0].split() == ["metric", "base", "tuned", "difference"]
    assert lines[1].startswith("f1") and "p < 0.0001" in lines[1]
    summary = full.summary()
    assert summary and list(summary_lines(summary)) == lines[: lines.index(next(x for x in lines if "fit: " in x)) - 1]
    assert any(line.startswith("fit: good fit. The val loss fell from 10.8 to 0.92") for line in lines)
    assert sum(line.startswith("  tuned") for line in lines) == 5
    said = list(report_lines(hostile))
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", "".join(said))
    assert all("\n" not in line for line in said)
