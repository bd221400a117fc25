"""The step: an effective batch on transformers.Trainer, its losses, its log lines and its checkpoints."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from gemtune.errors import RunError, is_out_of_memory
from gemtune.files import JsonObject
from gemtune.hardware import empty_cache, peak_memory_gb
from gemtune.metrics.selection import Criterion, select
from gemtune.models.families.base import Family
from gemtune.models.image_features import ImageFeatures
from gemtune.models.loading import DTYPES
from gemtune.models.structure import checkpoint_blocks, is_checkpointed
from gemtune.recipe.schema import Recipe
from gemtune.run_contents import remove_written
from gemtune.runs import Run
from gemtune.training import checkpoint as ckpt
from gemtune.training import ranks
from gemtune.training.batching import EffectiveBatches, FixedRows, MicroBatch, fixed_batches
from gemtune.training.clock import Clock
from gemtune.training.divergence import DivergenceWatch, good_steps
from gemtune.training.loss import labelled_loss, summed_loss
from gemtune.training.schedule import rate_share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer
    from transformers import PreTrainedModel, TrainerControl

FIRST_SCALE = (
    2.0**12
)  # of the loss in fp16; PyTorch's 2^16 overflows in the first steps of Gemma, which are then skipped


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """What a training works with: the run, the model with its decisions, the batches, and what is evaluated."""

    run: Run
    recipe: Recipe
    model: PreTrainedModel
    base: Path  # the base model's folder
    family: Family
    special_ids: dict[str, int | list[int]]  # of its tokenizer
    device: str
    precision: str
    batches: EffectiveBatches
    steps_per_epoch: float
    evaluation: dict[str, FixedRows]  # of `eval`, not there without rows of val, and `probe`
    criterion: Criterion  # by which the best checkpoint is kept
    score: Callable[[PreTrainedModel], dict[str, float]] | None = (
        None  # the task's scores of a model, where they decide
    )
    image_features: ImageFeatures | None = None  # of a vision-language model


class EffectiveBatchTrainer(Trainer):
    """A Trainer whose step takes a whole effective batch and whose checkpoints are whole or not there."""

    def __init__(
        self,
        setup: TrainingSetup,
        args: TrainingArguments,
        *,
        progress: Callable[[JsonObject], None],
        say: Callable[[str], None],
    ):
        self.setup, self.run, self.recipe = setup, setup.run, setup.recipe
        self.progress, self.say = progress, say
        self.window, self.clock = _empty_window(), Clock(setup.device)  # since the last log
        self.exchange = ranks.Exchange(setup.device)
        self.trained = [parameter for parameter in setup.model.parameters() if parameter.requires_grad]
        self.watch = DivergenceWatch(math.log(setup.model.config.get_text_config().vocab_size))
        self.diverged: str | None = None  # why, once it has
        self.evaluated_at: int | None = None  # the step
        self.control: TrainerControl
        super().__init__(
            model=setup.model,
            args=args,
            train_dataset=setup.batches,
            eval_dataset=setup.evaluation,
            callbacks=[_StoppingCallback(self)],
        )
        self.remove_callback(PrinterCallback)  # the caller shows progress
        if setup.precision == "fp16":
            self.accelerator.scaler = torch.amp.GradScaler(setup.device, init_scale=FIRST_SCALE)

    def create_optimizer(self, model: PreTrainedModel | None = None) -> Optimizer:
        """The Trainer's optimizer; tower and projector of a vision-language model have a learning rate of their own."""
        super().create_optimizer(model)
        if self.setup.image_features is not None:
            rate = self.recipe.vision.learning_rate or self.args.learning_rate / 10
            of_images = {id(parameter) for parameter in self.setup.image_features.parameters()}
            for group in list(self.optimizer.param_groups):
                image_weights = [p for p in group["params"] if id(p) in of_images]
                if image_weights:
                    group["params"] = [p for p in group["params"] if id(p) not in of_images]
                    self.optimizer.add_param_group({**group, "params": image_weights, "lr": rate})
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """A rate for every step that is above 0, the first of warm-up included, which the Trainer takes at 0."""
        settings = self.recipe.train

        def share(step: int) -> float:
            return rate_share(step, num_training_steps, settings.warmup_ratio, settings.schedule)

        scheduler = LambdaLR(optimizer or self.optimizer, share)
        self.lr_scheduler = scheduler
        return scheduler

    def get_train_dataloader(self) -> DataLoader:
        # Item i is step i of the whole training: resuming skips by number and nothing is drawn again.
        return DataLoader(
            self.train_dataset,
            batch_size=1,
            sampler=SequentialSampler(self.train_dataset),
            collate_fn=lambda items: items[0],
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[MicroBatch]], num_batches: int, device: torch.device
    ) -> tuple[list[list[MicroBatch]], None]:
        return [next(epoch_iterator) for _ in range(num_batches)], None

    def training_step(
        self, model: PreTrainedModel, inputs: list[MicroBatch], num_items_in_batch: None = None
    ) -> torch.Tensor:
        """Walks the micro-batches of one effective batch; the loss is the mean over all its labelled tokens.

        `inputs` is this rank's share of it. Where memory runs out, the share is walked again from its start with half
        the tokens a micro-batch; the other ranks need not know.
        """
        while True:
            try:
                loss, right = self._walk(model, inputs)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                cause = (str(error).splitlines() or [type(error).__name__])[0]
            inputs = self._cut_smaller(inputs, cause)  # out here, where the error no longer holds the step's tensors
        loss, right = self.exchange.sum(self.trained, loss, right)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.unscale_(self.optimizer.optimizer)  # they are clipped and logged as they are
        labelled = self.train_dataset.labelled(self.state.global_step)
        self.window["right"] += right
        self.window["labelled_tokens"] += labelled
        return loss / labelled

    def _walk(self, model: PreTrainedModel, inputs: list[MicroBatch]) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums gradients over micro-batches; returns their loss in nats and how many first choices were right."""
        if not model.training:
            model.train()
        step = self.state.global_step
        torch.manual_seed(ranks.seed_of(self.args.seed, step, ranks.rank()))  # whatever was drawn before, or resumed
        labelled = self.train_dataset.labelled(step)
        total = torch.zeros((), device=self.args.device)
        right = torch.zeros((), dtype=torch.int64, device=self.args.device)
        for micro in inputs:
            micro = micro.to(self.args.device)
            with self._autocast():
                loss, right_here = labelled_loss(model, micro, self.setup.image_features)
            self.accelerator.backward(loss / labelled)
            total += loss.detach()
            right += right_here
        return total, right

    def _autocast(self) -> torch.autocast:
        """Full training: the weights are fp32, for small updates to count, and products are in the run's precision."""
        is_mixed = self.recipe.lora is None and self.setup.precision != "fp32"
        return torch.autocast(self.setup.device, DTYPES[self.setup.precision] if is_mixed else None, enabled=is_mixed)

    def _cut_smaller(self, inputs: list[MicroBatch], cause: str) -> list[MicroBatch]:
        """The same effective batch in micro-batches of half the tokens.

        Where each holds one row already, blocks are computed again in the backward pass; RunError if they are.
        """
        step, batches = self.state.global_step, self.train_dataset
        tokens = max(sum(micro.lengths) for micro in inputs)
        why = f"step {step + 1} ran out of memory with {tokens} ({cause})"
        self.model.zero_grad()
        empty_cache(self.setup.device)
        if len(inputs) < len(batches.rows(step)):
            self._set_micro_tokens(tokens // 2, why)
            again: list[MicroBatch] = batches[step]
            return again
        if is_checkpointed(self.model):
            raise RunError(
                f"step {step + 1}: out of memory with a single row of {tokens} tokens ({cause}); lower "
                "train.max_length, or set quantize: nf4"
            )
        checkpoint_blocks(self.model)
        self.run.decide("checkpointing", (True, f"{why}, a single row"))
        self.say(f"{why}, a single row: the step is taken again, its blocks computed twice to keep less of them.")
        return inputs

    def _set_micro_tokens(self, tokens: int, why: str) -> None:
        self.train_dataset.micro_tokens = tokens
        self.run.decide("micro_tokens", (tokens, why))
        self.say(f"{why}: it is taken again with micro-batches of {tokens} tokens.")

    def floating_point_ops(self, inputs: object) -> int:
        return 0  # the report counts tokens; the Trainer's formula knows neither gathered heads nor frozen weights

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Writes one line of metrics.jsonl."""
        if "train_runtime" in logs:
            return  # the Trainer's closing summary
        step = self.state.global_step
        line: JsonObject = {"step": step, "epoch": round(step / self.setup.steps_per_epoch, 4)}
        if "loss" in logs:
            self._stop_where(self.watch.of_step(step, logs["loss"]))
            seconds = self.clock.read()
            line |= {
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "grad_norm": float(logs["grad_norm"]),
                "tokens": self.window["tokens"],
                "labelled_tokens": self.window["labelled_tokens"],
                "accuracy": float(self.window["right"]) / max(1, self.window["labelled_tokens"]),
                "tokens_per_s": round(self.window["tokens"] / max(seconds, 1e-9), 1),
                "peak_memory_gb": round(peak_memory_gb(self.setup.device), 3),
                "seconds": round(seconds, 3),
            }
            if self.accelerator.scaler is not None:
                line["skipped_steps"] = self.window["skipped_steps"]
            if ranks.count() > 1:
                line |= {"exchange_seconds": round(self.exchange.seconds(), 4), "exchange_bytes": self.exchange.bytes}
            self.window = _empty_window()
        else:
            line |= logs
        if ranks.rank() == 0:
            self.run.log({name: None if _is_no_number(value) else value for name, value in line.items()})
        self.progress({**line, "steps": self.state.max_steps})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, {**logs, **line})

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """The loss on val and on the train probe, and the task's score where it decides; logged and returned."""
        metrics = {f"{name}_loss": self.loss_on(name) for name in self.eval_dataset}
        self.evaluated_at = self.state.global_step
        self._stop_where(self.watch.of_evaluation(self.evaluated_at, metrics))
        if self.setup.score is not None and self.diverged is None:
            metrics |= {f"eval_{name}": value for name, value in self.setup.score(self.model).items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def loss_on(self, name: str) -> float:
        """The model's loss on the fixed rows of `eval` or `probe`, in micro-batches as the training has them."""
        table, rows = self.setup.evaluation[name]
        rows = ranks.share(rows, table.lengths, ranks.rank(), ranks.count())
        while True:
            tokens = self.train_dataset.micro_tokens
            batches = fixed_batches(table, rows, micro_tokens=tokens)
            try:
                loss, labelled = summed_loss(self.model, batches, self._autocast, self.setup.image_features)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or tokens <= int(table.lengths[rows].min()):
                    raise
                cause = (str(error).splitlines() or [type(error).__name__])[0]
            empty_cache(self.setup.device)
            most = min(tokens, int(table.lengths[rows].sum()))
            self._set_micro_tokens(most // 2, f"evaluation ran out of memory with {most} ({cause})")
        total, tokens_of_all = ranks.sums(loss, labelled)
        return total / tokens_of_all

    def _stop_where(self, diverged: str | None) -> None:
        """Ends the training after this step where it has diverged; nothing more of it is kept."""
        if diverged and self.diverged is None:
            self.diverged = diverged
            self.control.should_training_stop = True

    def best_step(self) -> int | None:
        """The step of the best evaluation that has a checkpoint, if there was one after the first step."""
        steps = self.run.steps()
        selection = select([line for line in self.run.metrics() if line["step"] in steps], self.setup.criterion)
        return selection.step if selection else None

    def is_no_better(self) -> bool:
        """Whether as many evaluations as train.early_stopping says were no better than the best."""
        patience, selection = self.recipe.train.early_stopping, select(self.run.metrics(), self.setup.criterion)
        return bool(patience and selection and selection.since >= patience)

    def good_step(self) -> int | None:
        """Of the checkpoints that are no worse than the base model the best, or the newest where none was evaluated."""
        good, best = good_steps(self.run.metrics()), self.best_step()
        return best if best in good else next((step for step in self.run.steps() if step in good), None)

    def _save_checkpoint(self, model: PreTrainedModel, trial: object) -> None:
        step = self.state.global_step
        if self.evaluated_at != step:  # by save_steps: the rows of the probe tell whether these weights may be kept
            losses = {"probe_loss": self.loss_on("probe")}
            self._stop_where(self.watch.of_evaluation(step, losses))
            self.log(losses)
        if self.diverged:
            return
        ranks.once(lambda: self._keep(step))

    def _keep(self, step: int) -> None:
        """Writes the checkpoint of a step and removes those that it makes superfluous."""
        self.run.checkpoints.mkdir(exist_ok=True)
        ckpt.save_folder(self.run.checkpoint(step), self._write_checkpoint)
        kept = self.best_step() or self.good_step()
        others = [path for old, path in ckpt.checkpoints(self.run) if old != kept]
        for path in others[max(int(kept != step), self.recipe.train.keep_checkpoints - (kept is not None)) :]:
            remove_written(path)

    def _write_checkpoint(self, folder: Path) -> None:
        shutil.copyfile(self.run.metrics_file, folder / ckpt.METRICS)
        ckpt.save_weights(self.model, folder / ckpt.WEIGHTS)
        state = {**asdict(self.state), "log_history": [], "stateful_callbacks": {}}
        ckpt.save_progress(folder, self.optimizer, self.lr_scheduler, self.accelerator.scaler, state)
        # The Trainer reads its own state from this name when it resumes.
        (folder / "trainer_state.json").write_text(ckpt.trainer_state(folder), encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PreTrainedModel | None = None) -> None:
        ckpt.load_weights(self.model, Path(resume_from_checkpoint) / ckpt.WEIGHTS)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            ckpt.load_progress(Path(checkpoint), self.optimizer, self.lr_scheduler, self.accelerator.scaler)

    def _load_scaler(self, checkpoint: str | None) -> None:
        pass  # load_progress did

    def _load_rng_state(self, checkpoint: str | None) -> None:
        pass  # every step has a seed of its own


def _empty_window() -> JsonObject:
    return {"tokens": 0, "labelled_tokens": 0, "right": 0, "skipped_steps": 0}


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


class _StoppingCallback(TrainerCallback):
    """Counts tokens and time a step, evaluates at the end, saves with every evaluation and stops early."""

    def __init__(self, trainer: EffectiveBatchTrainer):
        self.trainer = trainer
        self.scale = 0.0  # of the gradients, before a step in fp16

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.trainer.clock.start()
        if self.trainer.accelerator.scaler is not None:
            self.scale = self.trainer.accelerator.scaler.get_scale()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        window, scaler = self.trainer.window, self.trainer.accelerator.scaler
        if scaler is not None:  # gradients beyond fp16: nothing was trained, and the next ones are scaled less
            window["skipped_steps"] += scaler.get_scale() < self.scale
        batches = self.trainer.train_dataset
        window["tokens"] += int(batches.table.lengths[batches.batches[state.global_step - 1]].sum())
        if state.global_step >= state.max_steps:
            control.should_log = control.should_save = control.should_evaluate = True
        if control.should_log or control.should_save or control.should_evaluate:
            self.trainer.clock.stop()
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        control.should_save = state.global_step > 0 and self.trainer.diverged is None
        control.should_training_stop |= ranks.once(self.trainer.is_no_better)
        return control
