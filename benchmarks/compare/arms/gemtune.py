"""gemtune: what `gemtune train` does with a run whose tokens are prepared; all of it, or a variant."""

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.compare.arms.common import Arm
from benchmarks.compare.limit import Products
from gemtune.hardware import choose_device
from gemtune.kernels import attention, cross_entropy, native
from gemtune.kernels import lora as adapters
from gemtune.models.adapters import attach_adapters
from gemtune.models.families import family_of
from gemtune.models.loading import DTYPES, load_model
from gemtune.models.patching import install_kernels
from gemtune.models.structure import parts_of
from gemtune.models.token_rows import untrained_tokens
from gemtune.recipe.schema import DataSource, Lora, Recipe, Train
from gemtune.rendering.renderer import IGNORE, Example
from gemtune.rendering.token_table import TableWriter
from gemtune.runs import Run
from gemtune.training import batching as batch
from gemtune.training import loss, trainer
from gemtune.training import run as training
from gemtune.training.order import Order
from gemtune.training.planner import ModelShape, choose_micro_tokens, estimate
from gemtune.training.precision import choose_precision
from gemtune.training.speed import sustained_speed

LORA = Lora(token_rows="none")  # noqa: S106 (the first adapter has none)


def main() -> None:
    arm, variant = Arm(), sys.argv[3] if len(sys.argv) > 3 else ""
    VARIANTS.get(variant, lambda: None)()
    folder, recipe = Path(arm.meta["model"]), recipe_of(arm)
    (device, _), family = choose_device("auto"), family_of(folder)
    precision, _ = choose_precision("fp32" if variant == "without bf16" else "auto", device)
    base = load_model(folder, device=device, precision=precision)
    ids = arm.meta["token_ids"]
    tokens, _ = untrained_tokens(base, ids, family) if variant == "token rows" else ([], "")
    settings = (LORA, family, [ids[token] for token in tokens], recipe.train.seed)
    model = install_kernels(attach_adapters(base, *settings))
    arm.start_from_first_adapter(model)
    micro, _ = choose_micro_tokens(recipe, ModelShape.of(model.config), device, precision)
    micro = 1 if variant == "without packing" else micro
    run = Run.of(recipe)
    run.accept(recipe, None)
    write_table(run, "train", as_visited(arm.rows(), recipe))
    write_table(run, "val", [])
    arm.ready()
    setup = training.training_setup(
        run,
        recipe,
        model,
        base=folder,
        family=family,
        special_ids=arm.meta["special_ids"],
        device=device,
        precision=precision,
        micro_tokens=micro,
    )
    setup = replace(setup, evaluation={})  # the peers evaluate nothing
    watch = (
        InTurn(arm, ModelShape.of(model.config), DTYPES[precision]).step
        if variant == "products in turn"
        else partial(clock, arm)
    )
    training.train(setup, progress=watch)  # writes output/adapter
    if not variant:  # afterwards, as its moment of products is no part of the start; it is told nothing of the run
        arm.times["plan"] = planned(arm, recipe, ModelShape.of(model.config), device, precision, micro)
    arm.finish()


def recipe_of(arm: Arm) -> Recipe:
    """The workload's settings as a recipe whose run directory is the output folder."""
    settings = {key: arm.meta[key] for key in ("batch_size", "learning_rate", "max_grad_norm", "seed")}
    return Recipe(
        name=arm.output.name,
        runs_dir=str(arm.output.parent),
        task="messages",
        data=[DataSource(source="tokenised")],
        lora=LORA,
        train=Train(
            **settings,
            epochs=1.0,
            schedule="constant",
            warmup_ratio=0.0,
            eval_steps=arm.steps,  # and saved then alone, as the peers are
        ),
    )


def planned(arm: Arm, recipe: Recipe, shape: ModelShape, device: str, precision: str, micro: int) -> dict[str, float]:
    """What `gemtune plan` says of this run beforehand."""
    rows, tokens = arm.rows(), sum(arm.meta["tokens"])
    plan = estimate(
        shape,
        recipe,
        device=device,
        precision=precision,
        micro_tokens=min(max(micro, *(len(row["input_ids"]) for row in rows)), max(arm.meta["tokens"])),
        tokens=tokens,
        labelled=sum(arm.meta["labelled"]) / tokens,
        tflops=sustained_speed(precision, device).tflops,
    )
    return {"peak_gb": plan.total_gb, "tokens_per_s": tokens / plan.seconds}


def as_visited(rows: list[dict[str, list[int]]], recipe: Recipe) -> list[dict[str, list[int]]]:
    """The rows placed so that the order gemtune draws from its seed visits them in the order given."""
    settings = recipe.train
    visits = Order(((1.0, len(rows)),), settings.batch_size, settings.epochs, settings.seed)
    return [rows[index] for index in np.argsort(np.concatenate(list(visits)))]


def write_table(run: Run, part: str, rows: list[dict[str, list[int]]]) -> None:
    """Rows as the token table that gemtune reads."""
    run.data.mkdir(exist_ok=True)
    table = TableWriter(run, part)
    for row in rows:
        table.add(Example(row["input_ids"], spans(row["labels"])), 1.0, 0)
    table.finish()
    table.put()


def spans(labels: list[int]) -> tuple[tuple[int, int], ...]:
    """Where the labelled runs begin and end."""
    trained = [label != IGNORE for label in labels]
    edges = [
        i for i, (before, here) in enumerate(zip([False, *trained], [*trained, False], strict=True)) if before != here
    ]
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def clock(arm: Arm, line: dict[str, Any]) -> None:
    if "loss" in line:  # of a step, not of an evaluation
        arm.step()
        arm.loss(line["loss"])


class InTurn:
    """A clock that after every step also times the bare products of that step: a machine that slows down slows both."""

    def __init__(self, arm: Arm, shape: ModelShape, dtype: torch.dtype):
        self.arm, self.products = arm, Products(shape, max(arm.meta["tokens"]), dtype)
        arm.times |= {"step_seconds": [], "products": []}
        self.began = time.perf_counter()

    def step(self, line: dict[str, Any]) -> None:
        if "loss" not in line:
            return
        times, number = self.arm.times, len(self.arm.times["step_seconds"])
        times["step_seconds"].append(time.perf_counter() - self.began)
        times["products"].append(
            self.products.seconds(self.arm.meta["tokens"][number], self.arm.meta["labelled"][number])
        )
        clock(self.arm, line)
        self.began = time.perf_counter()


def every_logit(model: Any, micro: batch.MicroBatch, _view: None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """labelled_loss with the head at every position."""
    decoder, head, _ = parts_of(model)
    ids, places, mask = micro.input_ids, micro.position_ids, loss.NO_MASK
    out = decoder(
        input_ids=ids, position_ids=places, attention_mask=mask, document_lengths=micro.lengths, use_cache=False
    )
    logits = (out.last_hidden_state[0] @ head.t()).float()  # (T, V)
    labels = torch.full((len(logits),), IGNORE).index_copy(0, micro.positions, micro.targets)
    total = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    return total, (logits[micro.positions].argmax(-1) == micro.targets).sum()


def every_hidden(decoder: Any, positions: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """hidden_at with the whole of the last block."""
    return decoder(**inputs).last_hidden_state[0].index_select(0, positions)


# How each optimisation is taken away; bf16, packing and token rows are settings.
VARIANTS = {
    "without gathered head": lambda: setattr(trainer, "labelled_loss", every_logit),
    "without the sweep": lambda: setattr(cross_entropy, "sweeps", lambda hidden, weight: False),
    "without compiled passes": lambda: setattr(native, "compiled", lambda: (None, "")),
    "without grouped products": lambda: setattr(adapters, "_is_plain", lambda layer: False),
    "without own attention": lambda: [setattr(attention, "COMPILED", {}), setattr(attention, "BATCHED", 0)],
    "without last block": lambda: setattr(loss, "hidden_at", every_hidden),
    "without alignment": lambda: setattr(batch.micro_batch, "__defaults__", (1,)),
}

if __name__ == "__main__":
    main()
