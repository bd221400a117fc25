"""Checkpoints: whole or not there, and a run that goes on from one is the run that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gemtune.files import write_text
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.runs import Run
from gemtune.training import checkpoint as ckpt
from gemtune.training.checkpoint import damage, save_folder
from run_folders import place_others
from training_jobs import adapter, trained

WriteRecipe = Callable[..., Path]


def command(recipe: Path) -> list[str]:
    return [sys.executable, "-c", "from gemtune.cli.app import main; main()", "train", str(recipe)]


def test_resume_after_kill_9_gives_the_same_adapter_bit_for_bit(write_recipe: WriteRecipe) -> None:
    keys: dict[str, Any] = {"train": {"epochs": 6, "eval_steps": 5, "early_stopping": None}, "lora": {"dropout": 0.1}}
    whole = trained(write_recipe("whole", **keys))
    recipe = write_recipe("killed", **keys)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(recipe), env=environment, stderr=subprocess.DEVNULL)
    run = Run(whole.run.root.parent / "killed")
    while process.poll() is None and not run.checkpoint(10).is_dir():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = json.loads(run.metrics_file.read_text().splitlines()[-1])["step"]
    assert run.checkpoint(10).is_dir() and killed_at < whole.run.manifest["training"]["steps"], "killed in mid-training"
    subprocess.run(command(recipe), env=environment, check=True, capture_output=True)
    first, second = ((r.adapter / "adapter_model.safetensors").read_bytes() for r in (whole.run, run))
    assert first == second
    same = ("step", "loss", "grad_norm", "eval_loss", "probe_loss", "learning_rate", "tokens")
    lines = [[{k: line[k] for k in same if k in line} for line in r.metrics()] for r in (whole.run, run)]
    assert lines[0] == lines[1]


def test_a_damaged_checkpoint_is_passed_over(write_recipe: WriteRecipe) -> None:
    keys = {"train": {"epochs": 3, "eval_steps": 5, "early_stopping": None, "keep_checkpoints": 9}}
    whole = trained(write_recipe("whole", **keys))
    job = trained(write_recipe("damaged", **keys))
    for step, folder in ckpt.checkpoints(job.run):
        if step > 10:
            with (folder / ckpt.WEIGHTS).open("r+b") as weights:
                weights.truncate(1000)
    job.run.forget("training")
    said: list[str] = []
    stages.train(Job(job.run.root, say=said.append))
    assert any("is damaged" in text and ckpt.WEIGHTS in text for text in said)
    assert any("Resuming from step 10" in text for text in said)
    assert all(torch.equal(a, b) for a, b in zip(adapter(whole).values(), adapter(job).values(), strict=True))


def test_a_folder_of_weights_takes_the_place_of_an_older_one(run: Run) -> None:
    place_others(run.root)
    for name in ("a.safetensors", "b.safetensors"):
        save_folder(run.adapter, lambda path, name=name: write_text(path / name, "w"))
        assert damage(run.adapter) is None
    assert sorted(path.name for path in run.adapter.iterdir()) == ["README.txt", "b.safetensors", "whole.json"]
