"""Recipe -> Run: what is trained on, for how long, and what is kept of it; trainer.py takes the steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import TrainingArguments

from gemtune.errors import RunError
from gemtune.files import JsonObject
from gemtune.kernels.native import release_memory
from gemtune.metrics.selection import BY_LOSS, Criterion
from gemtune.models.adapters import save_tuned
from gemtune.models.families.base import Family
from gemtune.models.image_features import ImageFeatures
from gemtune.models.loading import DTYPES
from gemtune.recipe.schema import Recipe
from gemtune.rendering.token_table import ExampleTable
from gemtune.run_files import Training
from gemtune.runs import Run, step_of
from gemtune.training import checkpoint as ckpt
from gemtune.training import ranks
from gemtune.training.batching import EffectiveBatches, FixedRows
from gemtune.training.order import Order, permuted
from gemtune.training.trainer import EffectiveBatchTrainer, TrainingSetup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAUNCHERS = ("ACCELERATE_", "FSDP_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # in the environment
EVALUATIONS = 10  # a run, when eval_steps is not set
VAL_ROWS = 512  # rows of val an evaluation loss is taken over; its standard error is then a few per cent
PROBE_ROWS = 256  # rows of train scored in eval mode beside them
# Whether adapters are trained -> the learning rate, and why.
DEFAULT_RATES = {True: (2e-4, "adapters start at zero and bear it"), False: (2e-5, "every weight moves; small steps")}


def training_setup(
    run: Run,
    recipe: Recipe,
    model: PreTrainedModel,
    *,
    base: Path,
    family: Family,
    special_ids: dict[str, int | list[int]],
    device: str,
    precision: str,
    micro_tokens: int,
    image_features: ImageFeatures | None = None,
    score: Callable[[PreTrainedModel], dict[str, float]] | None = None,
    criterion: Criterion = BY_LOSS,
) -> TrainingSetup:
    """Everything a training of `model` works with, from the token tables of its run.

    `micro_tokens` are the tokens that a micro-batch holds; `score` gives the task's scores of a model when
    train.best_by is metric, and `criterion` then names the one that decides.
    """
    table, val = ExampleTable(run.table("train")), ExampleTable(run.table("val"))
    if not len(table):
        raise RunError(f"{run.data}: no example is left to train on; see {run.dropped_file} and train.max_length")
    settings = recipe.train
    batches = Order(table.weights, settings.batch_size, settings.epochs, settings.seed, settings.max_steps)
    if not len(batches):
        raise RunError(f"no row is visited in {settings.epochs:g} epochs; raise data.weight, or train.epochs")
    parts = {"eval": (val, VAL_ROWS)} if len(val) else {}
    parts["probe"] = (table, PROBE_ROWS)
    return TrainingSetup(
        run=run,
        recipe=recipe,
        model=model,
        base=base,
        family=family,
        special_ids=special_ids,
        device=device,
        precision=precision,
        batches=EffectiveBatches(table, batches, micro_tokens=micro_tokens),
        steps_per_epoch=batches.steps_per_epoch,
        evaluation={name: _sample(part, count, settings.seed) for name, (part, count) in parts.items()},
        criterion=criterion,
        score=score,
        image_features=image_features,
    )


def _sample(table: ExampleTable, count: int, seed: int) -> FixedRows:
    places = np.arange(min(count, len(table)), dtype=np.uint64)
    return table, permuted(places, len(table), (seed,)).tolist()


def train(
    setup: TrainingSetup,
    *,
    progress: Callable[[JsonObject], None] = lambda line: None,
    say: Callable[[str], None] = print,
) -> JsonObject:
    """Trains, resuming from the newest whole checkpoint, and writes the best weights to the run.

    Returns the manifest's `training` section.
    """
    with _without_launcher():
        trainer = EffectiveBatchTrainer(setup, _arguments(setup), progress=progress, say=say)
    resume = ranks.once(lambda: _begin(setup.run, say))
    step = step_of(resume) if resume else 0
    if resume:
        say(f"Resuming from step {step} of {trainer.args.max_steps}.")
        trainer.watch.begin(ranks.once(setup.run.metrics))
    trainer.args.eval_on_start = not resume
    release_memory()
    if resume and ranks.once(trainer.is_no_better):  # it had stopped early, and its weights alone have to be written
        trainer.state.global_step, trainer.state.max_steps = step, trainer.args.max_steps
    else:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return ranks.once(lambda: _finish(trainer))


def _begin(run: Run, say: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint, which the run goes on from; what it has of later steps is gone then."""
    resume = ckpt.newest_whole(run, say)
    run.forget("training", "digests")  # of weights that are made again
    run.keep_metrics(step_of(resume) if resume else -1, resume and resume / ckpt.METRICS)
    return resume


@contextmanager
def _without_launcher() -> Iterator[None]:
    """Hides what `accelerate launch` sets: its precision and its device are not the recipe's."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(LAUNCHERS)}
    try:
        yield
    finally:
        os.environ.update(kept)


def _arguments(setup: TrainingSetup) -> TrainingArguments:
    settings, steps = setup.recipe.train, len(setup.batches)
    eval_steps = settings.eval_steps or max(1, round(steps / EVALUATIONS))
    arguments = TrainingArguments(
        output_dir=str(setup.run.checkpoints),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=choose_learning_rate(setup.recipe)[0],
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=eval_steps,
        save_strategy="steps",
        save_steps=settings.save_steps or eval_steps,
        seed=settings.seed,
        use_cpu=setup.device == "cpu",
        report_to=(setup.recipe.track if ranks.rank() == 0 else None) or "none",
        run_name=setup.recipe.name,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    if arguments.n_gpu > 1:  # the Trainer would copy the model to every GPU, in nn.DataParallel
        arguments._n_gpu = 1
    return arguments


def _finish(trainer: EffectiveBatchTrainer) -> JsonObject:
    """Saves the best weights for good and returns what the manifest keeps of the training."""
    setup, state, run = trainer.setup, trainer.state, trainer.run
    best = trainer.good_step() if trainer.diverged else trainer.best_step() or state.global_step
    if best is not None:
        folder = ckpt.require_whole(run.checkpoint(best))
        ckpt.load_weights(setup.model, folder / ckpt.WEIGHTS)
        if setup.recipe.lora is None:
            setup.model.to(DTYPES[setup.precision])  # as products had them; the masters are in the checkpoints
        target = run.adapter if setup.recipe.lora else run.full_model
        reads = setup.image_features.tokenizer.settings if setup.image_features else {}
        ckpt.save_folder(
            target, lambda path: save_tuned(setup.model, setup.base, setup.family, setup.special_ids, path, reads)
        )
    lines = run.metrics()
    steps = [line for line in lines if "loss" in line]
    training = Training(
        steps=state.global_step,
        planned_steps=state.max_steps,
        epochs=round(state.global_step / setup.steps_per_epoch, 3),
        seconds=round(sum(line.get("seconds") or 0 for line in steps), 1),
        tokens=sum(line.get("tokens") or 0 for line in steps),
        labelled_tokens=sum(line.get("labelled_tokens") or 0 for line in steps),
        peak_memory_gb=max((line.get("peak_memory_gb") or 0.0 for line in steps), default=0.0),
        best_step=best,
        best_eval_loss=next((x["eval_loss"] for x in lines if x["step"] == best and "eval_loss" in x), None),
        stopped=_why_stopped(trainer, best),
        diverged=trainer.diverged is not None,
        workers=ranks.count(),
        exchange_bytes=trainer.exchange.bytes,
        exchange_seconds=round(sum(line.get("exchange_seconds") or 0.0 for line in steps), 3),
    )
    run.note_metrics()
    run.note("training", training.to_json())
    return training.to_json()


def _why_stopped(trainer: EffectiveBatchTrainer, kept: int | None) -> str:
    """Why a training ended, in words; of one that diverged, with what is kept and the next move."""
    setup, state = trainer.setup, trainer.state
    if trainer.diverged:
        rate = min(choose_learning_rate(setup.recipe)[0] / 10, DEFAULT_RATES[bool(setup.recipe.lora)][0])
        precision = "" if setup.precision == "fp32" else ", or train.precision=fp32"
        keeps = "no weights are kept" if kept is None else f"the weights of step {kept} are kept"
        again = "" if kept is None else " under another name="
        return f"diverged at {trainer.diverged}; {keeps}; try train.learning_rate={rate:.1g}{precision}{again}"
    if state.global_step < state.max_steps:
        return f"no better for {setup.recipe.train.early_stopping} evaluations"
    return "ran to the end"


def choose_learning_rate(recipe: Recipe) -> tuple[float, str]:
    """The learning rate and why."""
    if recipe.train.learning_rate is not None:
        return recipe.train.learning_rate, "the recipe says so"
    return DEFAULT_RATES[bool(recipe.lora)]
