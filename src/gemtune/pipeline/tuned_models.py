"""The weights that a name stands for: `base`, `tuned`, or the checkpoint `step-N` of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.pipeline.job import Job

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
    from gemtune.models.adapters import attach_adapters, load_adapter
    from gemtune.models.loading import load_model
    from gemtune.models.patching import install_kernels
    from gemtune.training import checkpoint

    if name == "base":
        return job.base_model()
    folder = checkpoint.require_whole(weights_folder(job, name))
    if name == "tuned" and job.recipe.lora:
        return install_kernels(load_adapter(job.base_model(), folder))
    if name == "tuned":
        return install_kernels(load_model(folder, device=job.device, precision=job.precision))
    if job.recipe.lora:
        tokens = job.run.decided("token_rows")
        ids = job.tokenizer.convert_tokens_to_ids(tokens)
        settings = (ids, job.recipe.train.seed, job.recipe.vision.trains)
        tuned = install_kernels(attach_adapters(job.base_model(), job.recipe.lora, job.family, *settings))
    else:
        tuned = job.base_model()
    checkpoint.load_weights(tuned, folder / checkpoint.WEIGHTS)
    return tuned.eval()
