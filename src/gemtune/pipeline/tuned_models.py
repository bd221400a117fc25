"""The weights that a name stands for: `base`, `tuned`, or the checkpoint `step-N` of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import RunError, listed
from gemtune.pipeline.job import Job
from gemtune.runs import step_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weights_key(job: Job, name: str) -> str:
    """What identifies the weights behind `base`, `tuned` or `step-N`."""
    from gemtune.models.hub import fingerprint
    from gemtune.run_contents import WHOLE
    from gemtune.training.checkpoint import require_whole

    base = f"{fingerprint(job.weights_folder)} {job.precision} {job.recipe.quantize} {job.device}"
    if name == "base":
        return base
    return base + (require_whole(weights_folder(job, name)) / WHOLE).read_text(encoding="utf-8")


def weights_folder(job: Job, name: str) -> Path:
    """Where the weights of `tuned` or `step-N` lie, whether they are there or not."""
    if name == "tuned":
        return job.run.adapter if job.recipe.lora else job.run.full_model
    return job.run.checkpoint_named(name)


def model_named(job: Job, name: str) -> PreTrainedModel:
    """The base model, or the tuned one, or a checkpoint, ready to answer."""
    from gemtune.models.loading import load_model
    from gemtune.models.patching import install_kernels

    load = partial(load_model, device=job.device, precision=job.precision)
    return _with_weights(job, name, job.base_model, load, install_kernels)


def plain_model(job: Job, name: str) -> PreTrainedModel:
    """The same in plain transformers and PEFT, fp32, on the CPU, not quantised: what an export is measured against."""
    from gemtune.models.loading import load_model

    return _with_weights(
        job, name, lambda: load_model(job.weights_folder, say=job.say), load_model, lambda model: model
    )


def _with_weights(
    job: Job,
    name: str,
    base_model: Callable[[], PreTrainedModel],
    load: Callable[[Path], PreTrainedModel],
    install: Callable[[PreTrainedModel], PreTrainedModel],
) -> PreTrainedModel:
    from gemtune.models.adapters import attach_adapters, load_adapter
    from gemtune.training import checkpoint

    if name == "base":
        return base_model()
    folder = checkpoint.require_whole(weights_folder(job, name))
    if name == "tuned" and job.recipe.lora:
        return install(load_adapter(base_model(), folder))
    if name == "tuned":
        return install(load(folder))
    if job.recipe.lora:
        settings = (trained_token_ids(job), job.recipe.train.seed, job.recipe.vision.trains)
        tuned = install(attach_adapters(base_model(), job.recipe.lora, job.family, *settings))
    else:
        tuned = base_model()
    checkpoint.load_weights(tuned, folder / checkpoint.WEIGHTS)
    return tuned.eval()


def trained_token_ids(job: Job) -> list[int]:
    """The rows of the embedding that a run with adapters trains."""
    return list(job.tokenizer.convert_tokens_to_ids(job.run.decided("token_rows")))


def weights_called(job: Job, checkpoint: str) -> str:
    """`base`, `tuned` or `step-N` for what a user calls base, best, last or N; RunError where it is none of these."""
    if checkpoint in ("base", "best"):
        return {"base": "base", "best": "tuned"}[checkpoint]
    steps = job.run.steps()
    if checkpoint == "last" and steps:
        return step_name(steps[0])
    number = checkpoint.removeprefix(step_name(0)[:-1])
    if not number.isdecimal():
        there = f"; the run has the steps {listed(map(str, steps))}" if steps else "; the run has no checkpoints"
        raise RunError(f"checkpoint {checkpoint!r}: wanted base, best, last or a step{there}")
    return step_name(int(number))
