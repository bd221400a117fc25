"""What the command line prints: every number of an answer is in its lines."""

from __future__ import annotations

import json
from pathlib import Path

from gemtune.cli.output import evaluation_lines, plan_lines, prepared_lines
from gemtune.files import write_json
from reporting.made_run import data_manifest, make_run, reply_lines, summary_of

PLAN = {
    "model": "gemma-3-270m",
    "device": "cpu",
    "precision": "fp32",
    "memory_gb": {"framework": 0.5, "weights": 1.25},
    "free_gb": 7.5,
    "workers": 1,
    "steps": 240,
    "tokens": 168_000,
    "seconds": 90.0,
    "why": "1.08 GFLOP a token",
    "caution": "",
    "checkpointing": False,
    "elsewhere": [
        {"model": "gemma-3-270m", "devices": {"T4": "1.0 0.01 h", "L4": "1.0 0.00 h"}},
        {"model": "gemma-3-27b", "devices": {"T4": "-", "L4": "21.0 nf4 9.99 h"}},
    ],
}


def test_prepared_rows_add_up_and_losses_say_where_to_look(tmp_path: Path) -> None:
    run = make_run(tmp_path, "prepare")
    lines = list(prepared_lines(run))
    assert "1650 rows read = 1604 kept + 46 dropped" in lines
    reasons = [line for line in lines if line.startswith("  dropped ")]
    assert [int(line.split()[1].rstrip(":")) for line in reasons] == [31, 12, 3], "the most frequent first"
    assert any(line.startswith("  train: 1283 rows in 1270 groups; tokens 14 to 71, median 23") for line in lines)
    assert lines[-1] == f"every dropped row: {run.dropped_file}"


def test_leaks_name_their_file_and_rows_left_out_their_reason(tmp_path: Path) -> None:
    run, data = make_run(tmp_path, "prepare"), data_manifest()
    data["lengths"]["train"] |= {"over_length": 7, "control_token": 2}
    write_json(run.data_manifest_file, data | {"leaks": 3, "dropped": {}})
    lines = list(prepared_lines(run))
    assert "    7 left out: longer than train.max_length = 1024" in lines
    assert "    2 left out: the text spells a control token of the model" in lines
    assert f"leak audit: 3 pairs of similar questions on both sides of the split; see {run.leaks_file}" in lines


def test_a_plan_is_added_up_and_its_table_stands_in_columns() -> None:
    lines = list(plan_lines(PLAN))
    assert lines[0] == "gemma-3-270m on this machine (cpu, fp32):"
    assert "  together       1.75 GB of 7.5 GB free" in lines
    assert "  240 steps, 168000 tokens: about 1.5 min (1.08 GFLOP a token)" in lines
    table = lines[-3:]
    assert len({len(line) for line in table}) == 1 and table[-1].endswith("21.0 nf4 9.99 h")


def test_a_plan_says_what_is_computed_twice_and_what_disturbed_it() -> None:
    lines = list(plan_lines(PLAN | {"checkpointing": True, "caution": "other work took 40 % of the cores"}))
    assert lines[0] == "gemma-3-270m on this machine (cpu, fp32, blocks computed twice to keep less of them):"
    assert "  other work took 40 % of the cores" in lines


def test_a_summary_is_the_reports_and_without_one_the_command_is_named(tmp_path: Path) -> None:
    summary = json.loads(json.dumps(summary_of(*reply_lines())))
    lines = list(evaluation_lines(summary))
    assert lines[1].split()[0] == "f1" and f"{summary['metrics']['f1']['tuned']['mean']:.3f}" in lines[1]
    (line,) = evaluation_lines(None)
    assert "gemtune evaluate RUN" in line
