"""A model and its data -> a training setup: what is decided for it, each decision with its reason in the manifest."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

from gemtune.data.paths import at_home
from gemtune.evaluation.evaluate import evaluation_rows
from gemtune.evaluation.generate import replies
from gemtune.evaluation.summary import corpus_scores, deciding_of
from gemtune.files import JsonObject
from gemtune.hardware import device_name, free_bytes, installed_versions, instruction_sets, memory_gb
from gemtune.kernels.attention import choose_gpu_attention
from gemtune.kernels.native import compiled
from gemtune.kernels.patch import choose_forwards
from gemtune.metrics.selection import BY_LOSS, Criterion
from gemtune.models.adapters import attach_adapters, train_every_weight
from gemtune.models.hub import fingerprint, revision_of
from gemtune.models.image_features import ImageFeatures
from gemtune.models.loading import DTYPES
from gemtune.models.patching import install_kernels
from gemtune.models.structure import checkpoint_blocks, choose_head
from gemtune.models.token_rows import choose_token_rows
from gemtune.pipeline.job import Job
from gemtune.pipeline.requirements import require_metric
from gemtune.rendering.token_table import ExampleTable
from gemtune.training import ranks
from gemtune.training.planner import ModelShape, choose_checkpointing, choose_micro_tokens
from gemtune.training.run import choose_learning_rate, training_setup
from gemtune.training.trainer import TrainingSetup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCORED_IN_TRAINING = 64  # rows of val that are generated at every evaluation when train.best_by is metric


def decide(job: Job, model: PreTrainedModel, data: JsonObject) -> TrainingSetup:
    """The training of a base model on prepared `data` (its manifest): adapters or every weight, and how it is fed."""
    recipe, run = job.recipe, job.run
    criterion = BY_LOSS
    if recipe.train.best_by == "metric":
        criterion = Criterion("eval_score", require_metric(job, run).higher_is_better)
    model = _trainable(job, model, data)
    run.decide("learning_rate", choose_learning_rate(recipe))
    run.decide("head", choose_head(model))
    run.decide("forwards", choose_forwards(model))
    micro = _fitted(job, model)
    run.decide("compiled_passes", _compiled_passes(job))
    ranks.once(lambda: note_surroundings(job, model))
    features = job.image_features(model)
    score = _val_scorer(job) if recipe.train.best_by == "metric" else None
    job.forget_tokenizer()
    if "tensorboard" in recipe.track:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.tensorboard)  # where the Trainer's callback looks
    return training_setup(
        run,
        recipe,
        model,
        base=job.folder,
        family=job.family,
        special_ids=data["lengths"]["special_ids"],
        device=job.device,
        precision=job.precision,
        micro_tokens=micro,
        image_features=features,
        score=score,
        criterion=criterion,
    )


def _compiled_passes(job: Job) -> tuple[bool, str]:
    """Whether kernels/cpp is compiled, and why; on a GPU it has nothing to do, and no compiler is asked."""
    if job.device != "cpu":
        return False, f"they are for CPUs, and this run is on {job.device}"
    functions, why = compiled()
    if functions is None:
        job.say(f"Without compiled kernels: {why}.")
    return functions is not None, why


def _fitted(job: Job, model: PreTrainedModel) -> int:
    """The tokens of a micro-batch; the model computes its blocks twice from here on where they must be."""
    recipe, run, shape, precision = job.recipe, job.run, ModelShape.of(model.config), job.precision
    longest = ExampleTable(run.table("train")).longest
    twice = choose_checkpointing(recipe, shape, precision, longest, free_bytes(job.device))
    if run.decide("checkpointing", twice):
        checkpoint_blocks(model)
    if job.device == "cuda":
        run.decide("attention", choose_gpu_attention(DTYPES[precision], shape.head_size))
    micro = choose_micro_tokens(recipe, shape, job.device, precision, twice[0])
    return int(run.decide("micro_tokens", micro))


def _trainable(job: Job, model: PreTrainedModel, data: JsonObject) -> PreTrainedModel:
    """The model with adapters and trained token rows, or with every weight trained, as the recipe says."""
    lora, trains = job.recipe.lora, job.recipe.vision.trains
    if lora is None:
        train_every_weight(model, job.family, trains)
        return model
    ids = job.tokenizer.get_vocab() if isinstance(lora.token_rows, list) else data["lengths"]["token_ids"]
    tokens = job.run.decide("token_rows", choose_token_rows(lora, model, ids, job.family))
    rows = [ids[token] for token in tokens]
    return install_kernels(attach_adapters(model, lora, job.family, rows, job.recipe.train.seed, trains))


def encode_images(job: Job, features: ImageFeatures) -> None:
    """Every image of train and val goes through a frozen tower before the first step."""
    rows = [images for part in ("train", "val") for images in ExampleTable(job.run.table(part)).images()]
    if ranks.count() > 1:
        distinct = {tuple(images): images for images in rows}
        rows = list(distinct.values())[ranks.rank() :: ranks.count()]
    if features.not_kept:
        job.say(f"{features.not_kept}; every image goes through the vision tower whenever it is seen.")
    features.warm_up(rows, lambda total, done: job.tick("images", done, total))
    ranks.once(lambda: None)  # every image is there before any rank goes on


def _val_scorer(job: Job) -> Callable[[PreTrainedModel], dict[str, float]]:
    """The task's scores of a model on some of val, with the deciding one as `score`."""
    recipe = job.recipe
    conversations = evaluation_rows(job.run.part("val"), job.renderer, job.task, recipe, SCORED_IN_TRAINING)
    deciding = deciding_of(recipe, job.task, conversations)

    def score(model: PreTrainedModel) -> dict[str, float]:
        was_training = model.training
        model.eval()
        answered = replies(model, job.renderer, conversations, recipe.evaluate, features_for=job.image_features)
        texts = [reply.text for reply in answered]
        model.train(was_training)
        scores = ranks.once(lambda: corpus_scores(job.task, conversations, texts))
        return {"score": scores[deciding], **scores}

    return score


def note_surroundings(job: Job, model: PreTrainedModel) -> None:
    """Keeps in the manifest what a reader needs to repeat the run: model, package versions, machine."""
    parameters = list(model.parameters())
    is_folder = at_home(job.recipe.model).is_dir()
    job.run.note(
        "model",
        {
            "name": job.recipe.model,
            "path": str(job.weights_folder),
            "folder": str(job.weights_folder.absolute()) if is_folder else None,
            "revision": revision_of(job.weights_folder),
            "fingerprint": fingerprint(job.weights_folder),
            "parameters": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        },
    )
    job.run.note("versions", {"python": platform.python_version(), **installed_versions()})
    machine = {"name": device_name(job.device), "cores": os.cpu_count(), "memory_gb": round(memory_gb(), 1)}
    job.run.note("device", {**machine, "instruction_sets": list(instruction_sets())})
