"""The files of a run as types: one that is damaged names itself, its field and the stage that writes it again."""

from __future__ import annotations

import pytest

from gemtune.errors import RunError
from gemtune.files import write_json, write_jsonl
from gemtune.runs import Run

DAMAGE = {
    "a value of another type": (
        {"steps": "many"},
        r"manifest\.json: training: steps: wanted a valid integer, .*found 'many'",
    ),
    "a field that is gone": ({"steps": None}, r"training: steps: wanted a valid integer, .*found None"),
    "no object": (None, r"manifest\.json: training: wanted .*, found \[\]"),
}


TRAINING = {"steps": 3, "planned_steps": 3, "epochs": 1.0, "seconds": 1.5, "tokens": 30, "labelled_tokens": 9}


TRAINING |= {
    "peak_memory_gb": 0.5,
    "best_step": 3,
    "best_eval_loss": None,
    "stopped": "ran to the end",
    "diverged": False,
    "workers": 1,
    "exchange_bytes": 0,
    "exchange_seconds": 0.0,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_section_names_its_file_and_field(what: str, run: Run) -> None:
    change, message = DAMAGE[what]
    run.note("training", TRAINING)
    assert run.training and run.training.to_json() == TRAINING
    run.note("training", [] if change is None else {**TRAINING, **change})
    with pytest.raises(RunError, match=f"{message}; run the stage that wrote it again"):
        _ = run.training


def test_a_damaged_line_of_replies_is_named(run: Run) -> None:
    line = {"where": "e.csv:2", "key": "k", "prompt": "p", "images": [], "gold": "g", "reply": "r"}
    line |= {"scores": {"f1": 1.0}, "cut": False, "evaluation": "e"}
    write_jsonl(run.replies("base"), [line, {**line, "scores": {"f1": "good"}}])
    with pytest.raises(RunError, match=r"base\.jsonl:2: scores\.f1: wanted a valid number"):
        run.evaluation().evaluations("base")


def test_a_summary_from_before_there_were_directions_is_read(run: Run) -> None:
    side = {"mean": 0.5, "low": 0.4, "high": 0.6}
    gap = {**side, "p_value": 0.01, "method": "mcnemar", "wins": 3, "losses": 1, "ties": 0}
    summary = {"version": 1, "metric": "f1", "rows": 4, "regressions": [], "cut": {"base": 0, "tuned": 0}}
    summary |= {"decoding": {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 8, "seed": 0}}
    write_json(run.summary_file, {**summary, "metrics": {"f1": {"base": side, "tuned": side, "difference": gap}}})
    read = run.summary()
    assert read and read.deciding.direction == "higher" and read.deciding.difference.wins == 3
