"""Trainings on several ranks, one after another in the same few processes: starting those is what takes long."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed import PrefixStore, TCPStore

from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.launching import HERE
from gemtune.pipeline.orders import obey, order_of
from gemtune.training import ranks

SECONDS = 100  # that a rank waits for the others
Curve = list[dict[str, float]]


def prepared(recipe: Path) -> Job:
    """A job whose data is prepared and checked: all that is left to do is to train."""
    job = Job(recipe, say=lambda text: None)
    stages.check(job)
    return job


def twin(job: Job, name: str, **scale: object) -> Job:
    """The same job under another name, with its data, on another number of workers."""
    shutil.copytree(job.run.root, job.run.root.with_name(name))
    update = {"name": name, "scale": job.recipe.scale.model_copy(update=scale)}
    return Job(job.recipe.model_copy(update=update), say=lambda text: None)


def train_on_ranks(jobs: Sequence[tuple[Job, int]]) -> None:
    """Trains each job on as many ranks as stand beside it."""
    store = TCPStore(HERE, 0, is_master=True, wait_for_workers=False)
    orders = sorted(((order_of(job, stages._train, {}), count) for job, count in jobs), key=lambda order: -order[1])
    most = orders[0][1]
    torch.multiprocessing.spawn(_train, (store.port, orders), nprocs=most)


def _train(rank: int, port: int, orders: list[tuple[str, int]]) -> None:
    torch.set_num_threads(1)
    store = TCPStore(HERE, port, is_master=False)
    for number, (order, count) in enumerate(orders):
        if rank < count:
            with ranks.together(PrefixStore(str(number), store), rank, count, "cpu", SECONDS):
                obey(order, stages._train, lambda kind, value: None)


def curve(job: Job) -> Curve:
    """What a training logged, without what another number of ranks changes: time, memory, and what they exchange."""
    changing = ("tokens_per_s", "seconds", "peak_memory_gb", "exchange_seconds", "exchange_bytes")
    lines = [json.loads(line) for line in job.run.metrics_file.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in changing} for line in lines]


def largest_difference(one: Curve, other: Curve) -> float:
    """The largest relative difference of two curves; they have the same lines."""
    assert [line.keys() for line in one] == [line.keys() for line in other]
    pairs: list[tuple[Any, Any]] = [
        (line[name], again[name]) for line, again in zip(one, other, strict=True) for name in line
    ]
    return max(abs(value - again) / max(abs(value), 1e-9) for value, again in pairs)
