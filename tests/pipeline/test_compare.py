"""Models side by side: the same rows for all, none that one of them knows, and the statistics of evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import command
from gemtune.data.conversation import read_conversations
from gemtune.errors import GemtuneError, RunError
from gemtune.files import write_jsonl
from gemtune.pipeline import stages
from gemtune.pipeline.compare import compare
from gemtune.pipeline.job import Job
from training_jobs import trained

WriteRecipe = Callable[..., Path]
QUIET = {"say": lambda text: None}


@pytest.fixture
def job(write_recipe: WriteRecipe) -> Job:
    train = {"epochs": 2, "eval_steps": 4, "early_stopping": None, "learning_rate": 3e-3}
    return trained(write_recipe("a", train=train))


def test_base_against_tuned_is_what_evaluation_says(job: Job) -> None:
    """The same rows, replies and statistics."""
    summary = stages.evaluate(job)
    root = str(job.run.root)
    standings = compare([f"{root}@base", root], **QUIET)
    assert summary and standings.metric == summary["metric"] and standings.rows == summary["rows"]
    assert standings.left_out == 0
    before, after = standings.models
    assert after.score.to_json() == summary["metrics"][summary["metric"]]
    assert before.score.difference.mean == 0 and before.score.difference.ties == standings.rows
    assert [model.cut for model in standings.models] == list(summary["cut"].values())


def test_checkpoints_and_artifacts_take_part(job: Job) -> None:
    root = job.run.root
    stages.export(job, ["merged"], limit=2)
    step = job.run.steps()[-1]
    standings = compare([str(root), f"{root}@{step}", f"{root}@last", f"{root}/export/merged"], **QUIET)
    merged = standings.models[-1]
    assert merged.model.endswith("export/merged") and merged.score.difference.ties == standings.rows
    assert len(standings.models) == 4


def test_rows_that_a_run_was_trained_on_are_left_out(job: Job, write_recipe: WriteRecipe) -> None:
    other = trained(write_recipe("b", split={"seed": 3, "test": 0.6}, train={"max_steps": 2}))
    test = {row.key for row in read_conversations(job.run.part("test"))}
    known = {row.key for part in ("train", "val") for row in read_conversations(other.run.part(part))}
    standings = compare([str(job.run.root), str(other.run.root)], **QUIET)
    assert 0 < standings.left_out <= len(test & known) and standings.rows + standings.left_out == 8
    path = job.run.root.parent / "known.jsonl"
    trained_rows = list(read_conversations(job.run.part("train")))[:3]
    write_jsonl(path, ({"text": row.key, "emoji": row.answer} for row in trained_rows))
    with pytest.raises(RunError, match="3 rows to compare on, and a run knows every one"):
        compare([str(job.run.root), f"{job.run.root}@base"], str(path), **QUIET)


def test_the_command_prints_a_table(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    root = str(job.run.root)
    before = command.tree(job.run.root)
    answer = command.gemtune(capfd, "compare", f"{root}@base", root)
    assert answer.code == 0 and f"{root}@base" in answer.out and "difference" in answer.out
    answer = command.gemtune(capfd, "compare", f"{root}@base", root, "--json")
    assert [model["model"] for model in json.loads(answer.out)["models"]] == [f"{root}@base", root]
    assert command.tree(job.run.root) == before  # it only reads


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["ROOT"], "give two or more to compare"),
        (["ROOT", "ROOT@99"], "step-99: no such folder"),
        (["ROOT", "ROOT@newest"], "checkpoint 'newest'"),
        (["ROOT", "ROOT/export/merged"], "no artifact; `gemtune export"),
        (["ROOT", "ROOT/export/mergd"], "no format 'mergd'"),
        (["ROOT", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_compared_is_one_line(names: list[str], words: str, job: Job) -> None:
    with pytest.raises(GemtuneError, match=words):
        compare([name.replace("ROOT", str(job.run.root)) for name in names], **QUIET)
