"""Runs behind one server: their adapters over one base model, each under its run's name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.documents.asked_pages import AskedPages
from gemtune.errors import RunError
from gemtune.pipeline.job import Job
from gemtune.pipeline.tuned_models import model_named, weights_folder, weights_key

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from gemtune.serving.api import Api
    from gemtune.serving.engine import Served

BASE = "base"


def api_of(jobs: Sequence[Job], images: Path, *, batch: int, queue: int) -> Api:
    """The endpoints of runs, with the model loaded; `images` is a folder for the images of requests."""
    from gemtune.models.families import config_of
    from gemtune.serving.api import Api
    from gemtune.serving.engine import Engine
    from gemtune.serving.json_replies import JsonReplies
    from gemtune.serving.torch_replies import generate

    names, first = names_of(jobs), jobs[0]
    require_one_base(jobs)
    for job in jobs[1:]:
        job.tokenizer = first.tokenizer  # one of the same words is enough
    model, models = _with_adapters(names, images) if first.recipe.lora else _alone(names, images)
    longest = config_of(first.folder).get_text_config().max_position_embeddings
    json_replies = JsonReplies(first.tokenizer, first.renderer.stop_ids)
    engine = Engine(generate=partial(generate, model), rows=batch, most_waiting=queue, say=first.say)
    return Api(engine, {served.name: served for served in models}, json_replies, longest, images)


def names_of(jobs: Sequence[Job]) -> dict[str, Job]:
    """The runs by the names that requests give; RunError where two have the same."""
    names: dict[str, Job] = {}
    for job in jobs:
        name = job.run.root.resolve().name
        if name in names or name == BASE:
            other = "the base model" if name == BASE else names[name].run.root
            raise RunError(f"{job.run.root}: a request could not tell it from {other}; rename one of the folders")
        names[name] = job
    return names


def require_one_base(jobs: Sequence[Job]) -> None:
    """RunError unless the runs are trained, and are adapters of the same base model where they are several."""
    from gemtune.training.checkpoint import require_whole

    first = jobs[0]
    for job in jobs:
        require_whole(weights_folder(job, "tuned"))
        if len(jobs) > 1 and not job.recipe.lora:
            raise RunError(f"{job.run.root}: every weight was trained, so it shares no base model; serve it alone")
        if job is not first and weights_key(job, BASE) != weights_key(first, BASE):
            own, other = (f"{j.recipe.model}, {j.precision}, quantize: {j.recipe.quantize}" for j in (job, first))
            raise RunError(
                f"{job.run.root}: its base model ({own}) is not that of {first.run.root} ({other}); serve them apart"
            )


def _alone(names: dict[str, Job], images: Path) -> tuple[PreTrainedModel, list[Served]]:
    """The only run, of which every weight was trained; the base model is not in memory beside it."""
    ((name, job),) = names.items()
    model = model_named(job, "tuned")
    return model, [_under(name, job, model, images, contextlib.nullcontext)]


def _with_adapters(names: dict[str, Job], images: Path) -> tuple[PeftModel, list[Served]]:
    """Each run as an adapter over one model, and the base model in the words of the first run's task."""
    from gemtune.kernels.lora import ADAPTER
    from gemtune.models.adapters import active_adapter, add_adapter, has_token_rows, without_adapter
    from gemtune.models.patching import install_kernels

    # PEFT 0.21 loads no adapter without token rows (KeyError) where there is one with some: those come last.
    first, *others = sorted(names, key=lambda name: has_token_rows(weights_folder(names[name], "tuned")))
    model: PeftModel = model_named(names[first], "tuned")
    adapters = {first: ADAPTER, **{name: f"run{number}" for number, name in enumerate(others)}}
    for name in others:
        add_adapter(model, weights_folder(names[name], "tuned"), adapters[name])
    install_kernels(model)
    models = [
        _under(name, job, model, images, partial(active_adapter, model, adapters[name])) for name, job in names.items()
    ]
    return model, [*models, _under(BASE, next(iter(names.values())), model, images, partial(without_adapter, model))]


def _under(
    name: str,
    job: Job,
    model: PreTrainedModel | PeftModel,
    images: Path,
    active: Callable[[], AbstractContextManager[object]],
) -> Served:
    """A run under a name; what its images look like to the tower is kept nowhere."""
    from gemtune.models.image_features import ImageFeatures
    from gemtune.models.structure import without_adapters
    from gemtune.serving.engine import Served

    features = None
    if job.image_tokenizer is not None:
        frozen = job.recipe.vision.trains != "tower"
        features = ImageFeatures(without_adapters(model), job.image_tokenizer, images, 0.0, frozen)
    created = int(weights_folder(job, "tuned").stat().st_mtime)
    served = Served(name, created, job.renderer, job.recipe.evaluate, job.task.asked, features, active)
    return seeing_pages(served, job)


def seeing_pages(served: Served, job: Job) -> Served:
    """A run of documents sees an image of a request as its training saw pages."""
    return replace(served, seen=AskedPages(job.recipe.pages)) if job.recipe.pages else served
