"""Which evaluation is best: the checkpoint that is kept, by the loss or by the task's score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from gemtune.training import checkpoint as ckpt
from training_jobs import adapter, trained

WriteRecipe = Callable[..., Path]


def test_early_stopping_keeps_the_best_checkpoint(write_recipe: WriteRecipe) -> None:
    job = trained(
        write_recipe(
            train={"learning_rate": 0.3, "epochs": 30, "eval_steps": 3, "early_stopping": 2, "schedule": "constant"}
        )
    )
    training = job.run.manifest["training"]
    evals = {line["step"]: line["eval_loss"] for line in job.run.metrics() if "eval_loss" in line and line["step"]}
    assert training["steps"] < training["planned_steps"]
    assert evals[training["best_step"]] == min(evals.values())
    best = load_file(job.run.checkpoint(training["best_step"]) / ckpt.WEIGHTS)
    assert all(torch.equal(value, best[name]) for name, value in adapter(job).items())


def test_the_best_checkpoint_can_be_chosen_by_the_task_metric(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(train={"best_by": "metric", "eval_steps": 6}))
    scores = {line["step"]: line["eval_score"] for line in job.run.metrics() if "eval_score" in line and line["step"]}
    assert job.run.manifest["training"]["best_step"] == max(scores, key=lambda step: (scores[step], -step))


def test_the_lowest_score_is_best_where_lower_is_better(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    task = tmp_path / "rate.py"
    task.write_text(
        "from gemtune.metrics.statistics import Metric\n"
        "from gemtune.metrics.text import cer\n"
        "from gemtune.tasks.emoji import Emoji\n"
        "class Rate(Emoji):\n"
        "    metric = 'cer'\n"
        "    metrics = {'cer': Metric(higher_is_better=False)}\n"
        "    def score(self, conversation, reply):\n"
        "        return {'cer': cer(reply, conversation.answer)}\n"
    )
    job = trained(
        write_recipe(task=f"{task}:Rate", train={"best_by": "metric", "eval_steps": 3, "learning_rate": 0.02})
    )
    scores = {line["step"]: line["eval_score"] for line in job.run.metrics() if "eval_score" in line and line["step"]}
    assert len(set(scores.values())) > 1
    assert job.run.manifest["training"]["best_step"] == min(scores, key=lambda step: (scores[step], step))
