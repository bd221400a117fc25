"""Recipe -> Run: what is trained on, for how long, and what is kept of it; trainer.py takes the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import TrainingArguments

from gemtune.errors import RunError
from gemtune.kernels.native import release_memory
from gemtune.models.adapters import save_tuned
from gemtune.recipe.schema import Recipe
from gemtune.rendering.token_table import ExampleTable
from gemtune.runs import Run
from gemtune.training import checkpoint as ckpt
from gemtune.training.batching import EffectiveBatches, MicroBatch, fixed_batches, order
from gemtune.training.trainer import EffectiveBatchTrainer, Prepared

EVALUATIONS = 10  # a run, when eval_steps is not set
VAL_ROWS = 512  # rows of val an evaluation loss is taken over; its standard error is then a few per cent
PROBE_ROWS = 256  # rows of train scored in eval mode beside them


def train(
    run: Run,
    recipe: Recipe,
    prepared: Prepared,
    *,
    score: Callable[[Any], dict[str, float]] | None = None,
    higher_is_better: bool = True,
    progress: Callable[[dict[str, Any]], None] = lambda line: None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains, resuming from the newest whole checkpoint, and writes the best weights to the run.

    `score` gives the task's scores of a model when train.best_by is metric, and `higher_is_better` says how the
    deciding one is read. Returns the manifest's `training` section.
    """
    table, val = ExampleTable(run.table("train")), ExampleTable(run.table("val"))
    if not len(table):
        raise RunError(f"{run.data}: no example is left to train on; see {run.dropped_file} and train.max_length")
    settings = recipe.train
    batches = order(table.weights, batch_size=settings.batch_size, epochs=settings.epochs, seed=settings.seed)
    an_epoch = len(batches) / settings.epochs
    if settings.max_steps:
        batches = (batches * math.ceil(settings.max_steps / len(batches)))[: settings.max_steps]
    dataset = EffectiveBatches(table, batches, micro_tokens=prepared.micro_tokens)
    trainer = EffectiveBatchTrainer(
        run,
        recipe,
        prepared,
        dataset,
        _evaluation(table, val, prepared, settings.seed) if len(val) else {},
        an_epoch,
        score,
        progress,
        say,
        _arguments(run, recipe, prepared, len(batches), bool(len(val)), None if score is None else higher_is_better),
    )
    resume = ckpt.newest_whole(run, say)
    step = int(resume.name.removeprefix("step-")) if resume else 0
    run.keep_metrics(step if resume else -1)
    if resume:
        say(f"Resuming from step {step} of {len(batches)}.")
    trainer.args.eval_on_start = bool(len(val)) and not resume
    release_memory()
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return _finish(run, trainer, prepared)


def _evaluation(table: ExampleTable, val: ExampleTable, prepared: Prepared, seed: int) -> dict[str, list[MicroBatch]]:
    """The fixed batches of the two evaluation losses: val, and a probe of train."""

    def some(table: ExampleTable, count: int) -> list[MicroBatch]:
        rows = np.random.default_rng(seed).permutation(len(table))[:count]
        return [b.to(prepared.device) for b in fixed_batches(table, rows.tolist(), micro_tokens=prepared.micro_tokens)]

    return {"eval": some(val, VAL_ROWS), "probe": some(table, PROBE_ROWS)}


def _arguments(
    run: Run, recipe: Recipe, prepared: Prepared, steps: int, evaluates: bool, score_is_better_higher: bool | None
) -> TrainingArguments:
    settings = recipe.train
    eval_steps = settings.eval_steps or max(1, round(steps / EVALUATIONS))
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=choose_learning_rate(recipe)[0],
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=math.ceil(settings.warmup_ratio * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=eval_steps,
        save_strategy="steps",
        save_steps=settings.save_steps or eval_steps,
        metric_for_best_model=("eval_loss" if score_is_better_higher is None else "eval_score") if evaluates else None,
        greater_is_better=bool(score_is_better_higher),
        seed=settings.seed,
        use_cpu=prepared.device == "cpu",
        fp16=prepared.precision == "fp16",
        report_to=recipe.track or "none",
        run_name=recipe.name,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )


def _finish(run: Run, trainer: EffectiveBatchTrainer, prepared: Prepared) -> dict[str, Any]:
    """Saves the best weights for good and returns what the manifest keeps of the training."""
    state = trainer.state
    best = state.best_global_step or state.global_step
    folder = ckpt.require_whole(run.checkpoint(best))
    ckpt.load_weights(prepared.model, folder / ckpt.WEIGHTS)
    target = run.adapter if trainer.recipe.lora else run.full_model
    kept = (prepared.model, prepared.base, prepared.family, prepared.special_ids)
    reads = prepared.image_features.tokenizer.settings if prepared.image_features else {}
    ckpt.save_folder(target, lambda path: save_tuned(*kept, path, reads))
    lines = run.metrics()
    steps = [line for line in lines if "loss" in line]
    early = state.global_step < state.max_steps
    training = {
        "steps": state.global_step,
        "planned_steps": state.max_steps,
        "epochs": round(state.global_step / trainer.steps_an_epoch, 3),
        "seconds": round(sum(line["seconds"] for line in steps), 1),
        "tokens": sum(line["tokens"] for line in steps),
        "labelled_tokens": sum(line["labelled_tokens"] for line in steps),
        "peak_memory_gb": max(line["peak_memory_gb"] for line in steps),
        "best_step": best,
        "best_eval_loss": next((x["eval_loss"] for x in lines if x["step"] == best and "eval_loss" in x), None),
        "stopped": f"no better for {trainer.recipe.train.early_stopping} evaluations" if early else "ran to the end",
    }
    run.note("training", training)
    return training


def choose_learning_rate(recipe: Recipe) -> tuple[float, str]:
    """The learning rate and why."""
    if recipe.train.learning_rate is not None:
        return recipe.train.learning_rate, "the recipe says so"
    return (2e-4, "adapters start at zero and bear it") if recipe.lora else (2e-5, "every weight moves; small steps")
