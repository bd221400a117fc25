"""Several workers: the losses of one, whatever is trained; killed, stopped, and gone on with by another number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from command import MAIN
from gemtune.errors import GemtuneError
from gemtune.models.families import write_tiny
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.launching import in_workers
from rank_trainings import curve, largest_difference, prepared, train_on_ranks, twin

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = {"task": "emoji", "data": {"source": str(EXAMPLES / "emoji.csv"), "limit": 200}}
IMAGES = {
    "task": "multi_image",
    "model": "gemma3-vision",
    "data": {
        "source": str(EXAMPLES / "multi_image" / "rows.json"),
        "images": [str(EXAMPLES / "multi_image" / "pictures.zip")],
        "limit": 24,
    },
}
TOKENS = {"token_rows": ["<start_of_turn>", "<end_of_turn>"], "dropout": 0.0}
BY_METRIC = {"best_by": "metric"}  # replies are generated and scored in the training
# name -> what is trained, and on how many ranks beside one.
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "text": ({**TEXT, "lora": TOKENS, "train": {"max_steps": 50, "batch_size": 16, "eval_steps": 25}}, (2, 3)),
    "every": ({**TEXT, "lora": "none", "train": {"max_steps": 4, "batch_size": 2, "eval_steps": 4, **BY_METRIC}}, (3,)),
    "vision": (
        {**IMAGES, "vision": {"trains": "projector"}, "train": {"max_steps": 6}},
        (2,),
    ),
}
Jobs = dict[tuple[str, int], Job]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a recipe over a tiny model: fp32, on the CPU, with keys of the caller's on top."""
    folder = tmp_path_factory.mktemp("workers")
    models = {family: str(write_tiny(family, folder / family)) for family in ("gemma3", "gemma3-vision")}

    def written(name: str, **keys: Any) -> Path:
        train = {"batch_size": 8, "max_length": 512, "learning_rate": 1e-3, "precision": "fp32", "device": "cpu"}
        recipe = {
            "name": name,
            "runs_dir": str(folder / "runs"),
            "evaluate": {"limit": 6, "max_new_tokens": 4, "batch_size": 2},
            **keys,
            "model": models[keys.get("model", "gemma3")],
            "train": {**train, "early_stopping": None, **keys["train"]},
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return path

    return written


@pytest.fixture(scope="module")
def jobs(write: Callable[..., Path]) -> Jobs:
    """Every case, trained on one rank here and on several in processes that are started once."""
    jobs = {}
    for name, (keys, counts) in CASES.items():
        jobs[name, 1] = prepared(write(name, **keys))
        jobs |= {(name, count): twin(jobs[name, 1], f"{name}-{count}") for count in counts}
    train_on_ranks([(job, count) for (_, count), job in jobs.items() if count > 1])
    for (_, count), job in jobs.items():
        if count == 1:
            stages.train(job)
    return jobs


@pytest.mark.parametrize(("name", "count"), [(name, count) for name, (_, counts) in CASES.items() for count in counts])
def test_the_losses_are_those_of_one_worker(jobs: Jobs, name: str, count: int) -> None:
    assert largest_difference(curve(jobs[name, 1]), curve(jobs[name, count])) < 1e-6


def test_what_workers_exchange_is_in_metrics_and_manifest(jobs: Jobs) -> None:
    alone, together = jobs["text", 1].run.training, jobs["text", 2].run.training
    assert alone and together
    trained = jobs["text", 2].run.manifest["model"]["trainable"]
    assert (alone.workers, alone.exchange_bytes, alone.exchange_seconds) == (1, 0, 0)
    assert together.workers == 2 and 0 < together.exchange_seconds < together.seconds
    # Gradients in fp32, a number a weight that says who has one, the loss and the right first choices.
    assert 4 * trained < together.exchange_bytes < 4 * trained + 1000


def test_the_first_rank_alone_writes(jobs: Jobs) -> None:
    run = jobs["text", 3].run
    assert len(run.metrics()) == len(jobs["text", 1].run.metrics())
    assert run.steps() and run.adapter.is_dir()


class Command:
    """`gemtune ARGS` in a process of its own, watched while it works."""

    def __init__(self, *args: str | Path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *map(str, args)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen: dict[int, psutil.Process] = {}

    def workers(self) -> list[psutil.Process]:
        """Its workers, by rank."""
        children = psutil.Process(self.process.pid).children()
        workers = {int(child.environ()["RANK"]): child for child in children if "RANK" in child.environ()}
        self.seen |= {worker.pid: worker for worker in workers.values()}
        return [workers[rank] for rank in sorted(workers)]

    def wait_for(self, metrics: Path, step: int) -> None:
        """Until a training line of `step` is there."""
        until = time.monotonic() + 100
        while f'{{"step": {step}, "epoch"' not in (metrics.read_text() if metrics.exists() else ""):
            assert time.monotonic() < until and self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
            self.workers()


@pytest.fixture(scope="module")
def interrupted(write: Callable[..., Path], jobs: Jobs) -> Iterator[tuple[Command, Job, int, str]]:
    """Two workers, of which one is killed; they start again, and Ctrl-C comes later. With exit code and last words."""
    keys = CASES["text"][0]
    recipe = write("stopped", **{**keys, "scale": {"workers": 2}, "train": {**keys["train"], "save_steps": 5}})
    job = prepared(recipe)
    command = Command("train", recipe)
    command.wait_for(job.run.metrics_file, 12)
    command.workers()[1].send_signal(signal.SIGKILL)
    while "Resuming" not in (line := command.process.stderr.readline()) if command.process.stderr else "":
        assert line, command.process.wait()
    command.wait_for(job.run.metrics_file, 22)
    command.process.send_signal(signal.SIGINT)
    _, last = command.process.communicate(timeout=60)
    yield command, job, command.process.returncode, last


def test_ctrl_c_is_one_line_and_no_worker_is_left(interrupted: tuple[Command, Job, int, str]) -> None:
    command, _, code, last = interrupted
    assert code == 130
    assert last.splitlines()[-1] == "gemtune: stopped; the same command goes on from the newest checkpoint"
    assert len(command.seen) == 4 and not any(worker.is_running() for worker in command.seen.values())


def test_one_worker_goes_on_where_two_were_stopped(interrupted: tuple[Command, Job, int, str], jobs: Jobs) -> None:
    _, job, _, _ = interrupted
    assert job.run.steps()[0] >= 20
    stages.train(Job(job.recipe.model_copy(update={"scale": jobs["text", 1].recipe.scale}), say=lambda text: None))
    undisturbed = {line["step"]: line["loss"] for line in curve(jobs["text", 1]) if "loss" in line}
    assert {line["step"]: line["loss"] for line in curve(job) if "loss" in line} == pytest.approx(undisturbed, rel=1e-6)


def test_replies_are_those_of_one_worker_and_a_refusal_is_one_line(jobs: Jobs) -> None:
    job = jobs["text", 2]
    stages.evaluate(job)
    alone = job.run.replies("tuned").read_text(encoding="utf-8")
    two = twin(job, "answers", workers=2)
    two.run.replies("tuned").unlink()
    with pytest.raises(GemtuneError, match="checkpoints/step-999: no such folder; there are step-"):
        in_workers(two, stages._answer, names=["tuned", "step-999"], data=None)
    assert two.run.replies("tuned").read_text(encoding="utf-8") == alone
