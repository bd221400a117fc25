"""Tokens/s, share of the peak, memory and launches of a step: gemtune, plain transformers with PEFT, and TRL."""

from __future__ import annotations

import gc
import importlib.util
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, supported_activities

from benchmarks.gpu_steps.bench import Bench, forget_peak, peak_gb, product_tflops, random_model, seconds_of, wait
from gemtune.kernels import lora, mlp, norms
from gemtune.models.adapters import attach_adapters
from gemtune.models.families.base import ATTENTION_AND_MLP
from gemtune.models.families.gemma3 import TEXT
from gemtune.models.patching import install_kernels
from gemtune.models.tiny import make_tokenizer
from gemtune.recipe.schema import Lora, Recipe
from gemtune.rendering.renderer import IGNORE, Example
from gemtune.training.batching import cut, micro_batch
from gemtune.training.loss import labelled_loss
from gemtune.training.planner import ModelShape, choose_micro_tokens

Workload = tuple[int, int]  # rows a step, and their mean length in tokens
WORKLOADS: dict[str, Workload] = {"16 x 27": (16, 27), "16 x 512": (16, 512), "8 x 2048": (8, 2048)}
LABELLED = 0.2  # of a row's tokens
LORA = Lora(token_rows="none")  # noqa: S106
PLAIN = {"r": LORA.r, "lora_alpha": LORA.alpha, "target_modules": list(ATTENTION_AND_MLP), "task_type": "CAUSAL_LM"}
ELEMENTWISE = ("normed", "normed_backward", "rotated", "gated", "gated_backward")
Take = Callable[[], object]


def speed(bench: Bench) -> None:
    """Every shape, arm and workload, in order of worth; what runs out of memory is taken with half the rows a pass."""
    device, dtype = bench.device, torch.bfloat16
    ceiling = product_tflops(device, dtype, 256 if bench.dry else 8192)
    workloads = {"4 x 24": (4, 24)} if bench.dry else WORKLOADS
    for name in ("270m",) if bench.dry else ("270m", "1b", "4b"):
        shape = bench.shape(name)
        for arm, make in ARMS.items():
            if lacks := _lacks(arm, device):
                bench.lacks(lacks)
                continue
            for work, (rows, length) in workloads.items():
                what = {"shape": name, "arm": arm, "rows": work}
                with bench.attempt(**what):
                    forget_peak(device)
                    seconds, passes, launches, busy = make(bench, shape, (rows, length))
                    tokens = sum(lengths_of(rows, length))
                    bench.record(
                        **what,
                        tokens_per_s=tokens / seconds,
                        ms_a_step=1e3 * seconds,
                        mfu=flops_of(shape) * tokens / seconds / 1e12 / ceiling,
                        peak_gb=peak_gb(device),
                        passes=passes,
                        launches=launches,
                        gpu_busy=busy,
                    )
                gc.collect()


def _lacks(arm: str, device: str) -> str:
    """What an arm cannot run without."""
    if arm == "trl" and not importlib.util.find_spec("trl"):
        return "trl is not here"
    if arm == "compiled" and device == "cpu":
        return "the arm compiled needs CUDA: kernels/cpp does its work on a CPU"
    return ""


def lengths_of(rows: int, mean: int) -> list[int]:
    """The same lengths for every arm, from half to one and a half times the mean.

    >>> lengths_of(4, 20), lengths_of(1, 20)
    ([22, 23, 11, 18], [20])
    """
    draw = random.Random(0)  # noqa: S311
    return [draw.randint(mean // 2, mean * 3 // 2) for _ in range(rows)] if rows > 1 else [mean]


def flops_of(shape: ModelShape) -> float:
    """Floating-point operations a token needs with LoRA: no arm is credited for more. Attention is left out."""
    adapters = shape.layers * sum(LORA.r * (i + o) for i, o in shape.linear)
    return 4 * shape.block_weights + 6 * adapters + 4 * shape.embedding * LABELLED


def random_rows(lengths: Sequence[int], vocab: int) -> list[Example]:
    """Rows of random tokens, the last fifth of each labelled."""
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(110, vocab, (length,), generator=draw).tolist() for length in lengths]
    return [Example(ids, ((len(ids) - max(1, int(LABELLED * len(ids))), len(ids)),)) for ids in rows]


def gemtune_arm(shape: ModelShape, workload: Workload, device: str) -> Take:
    """A step as gemtune takes it: packed micro-batches, labelled positions alone."""
    import numpy as np

    base = random_model(shape, device, torch.bfloat16)
    model = install_kernels(attach_adapters(base, LORA, TEXT, [], seed=0)).train()
    rows = random_rows(lengths_of(*workload), shape.vocab)
    recipe = Recipe(task="messages", data="none.jsonl", lora=LORA)
    tokens, _ = choose_micro_tokens(recipe, shape, device, "bf16")
    lengths = np.array([len(row.input_ids) for row in rows])
    micros = [micro_batch([rows[row] for row in some]) for some in cut(range(len(rows)), lengths, tokens)]
    labelled, finish = sum(micro.labelled for micro in micros), _optimiser(model, device)

    def take() -> None:
        for micro in micros:
            loss, _ = labelled_loss(model, micro.to(device))
            (loss / labelled).backward()
        finish()

    return take


def plain_arm(shape: ModelShape, workload: Workload, device: str, passes: int) -> Take:
    """A step as transformers and PEFT take it: rows padded to the longest of a pass, logits everywhere."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(random_model(shape, device, torch.bfloat16), LoraConfig(**PLAIN)).train()
    rows = random_rows(lengths_of(*workload), shape.vocab)
    size = -(-len(rows) // passes)
    batches = [padded(rows[start : start + size]) for start in range(0, len(rows), size)]
    finish = _optimiser(model, device)

    def take() -> None:
        for batch in batches:
            loss = model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss
            (loss / len(batches)).backward()
        finish()

    return take


def padded(rows: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Rows side by side, padded on the right."""
    width = max(len(row.input_ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORE)
    for place, row in enumerate(rows):
        ids[place, : len(row.input_ids)], mask[place, : len(row.input_ids)] = torch.tensor(row.input_ids), 1
        for start, end in row.spans:
            labels[place, start:end] = ids[place, start:end]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _optimiser(model: torch.nn.Module, device: str) -> Take:
    """What ends a step: the gradient's norm clipped, AdamW, and no gradients left."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device == "cuda")

    def finish() -> None:
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return finish


Measured = tuple[float, int, int | None, float | None]  # seconds a step, passes, launches, share of time the GPU works


def _measured(bench: Bench, take: Take, passes: int) -> Measured:
    seconds = seconds_of(take, bench.device, times=2 if bench.dry else 10, warm=1 if bench.dry else 3)
    if ProfilerActivity.CUDA not in supported_activities():
        return seconds, passes, None, None
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        take()
        wait(bench.device)
    kernels = [event for event in record.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return seconds, passes, len(kernels), sum(event.device_time for event in kernels) / 1e6 / seconds


def _gemtune(bench: Bench, shape: ModelShape, workload: Workload) -> Measured:
    return _measured(bench, gemtune_arm(shape, workload, bench.device), 1)


def _compiled(bench: Bench, shape: ModelShape, workload: Workload) -> Measured:
    """gemtune with its elementwise functions compiled by Triton: fewer launches, and seconds at the start."""
    with elementwise_compiled():
        return _gemtune(bench, shape, workload)


@contextmanager
def elementwise_compiled() -> Iterator[None]:
    """What PyTorch computes where kernels/cpp does not, through torch.compile."""
    places = [(module, name) for module in (norms, mlp, lora) for name in ELEMENTWISE if hasattr(module, name)]
    plain = {place: getattr(*place) for place in places}
    compiled = {function: torch.compile(function, dynamic=True) for function in set(plain.values())}
    try:
        for (module, name), function in plain.items():
            setattr(module, name, compiled[function])
        yield
    finally:
        for (module, name), function in plain.items():
            setattr(module, name, function)


def _halved(arm: Callable[[int], Measured], rows: int) -> Measured:
    """An arm with as few passes as its memory allows."""
    passes = 1
    while True:
        try:
            return arm(passes)
        except torch.OutOfMemoryError:
            if passes >= rows:
                raise
        passes *= 2
        gc.collect()
        torch.cuda.empty_cache()


def _plain(bench: Bench, shape: ModelShape, workload: Workload) -> Measured:
    return _halved(
        lambda passes: _measured(bench, plain_arm(shape, workload, bench.device, passes), passes), workload[0]
    )


def _trl(bench: Bench, shape: ModelShape, workload: Workload) -> Measured:
    return _halved(lambda passes: trl_run(bench, shape, workload, passes), workload[0])


def trl_run(bench: Bench, shape: ModelShape, workload: Workload, passes: int) -> Measured:
    """TRL set up by somebody who knows it: bf16 weights, no autocast, no checkpointing, sdpa attention."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            wait(bench.device)
            ends.append(time.perf_counter())

    steps, rows = 3 if bench.dry else 9, random_rows(lengths_of(*workload), shape.vocab)
    args = SFTConfig(
        output_dir=str(bench.work / "trl"),
        max_steps=steps,
        per_device_train_batch_size=len(rows) // passes,
        gradient_accumulation_steps=passes,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        max_length=None,
        train_sampling_strategy="sequential",
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=bench.device == "cpu",
    )
    labels = padded(rows)["labels"]
    data = [
        {"input_ids": row.input_ids, "labels": labels[place, : len(row.input_ids)].tolist()}
        for place, row in enumerate(rows)
    ]
    trainer = SFTTrainer(
        model=random_model(shape, bench.device, torch.bfloat16),
        args=args,
        train_dataset=Dataset.from_list(data * steps),
        processing_class=make_tokenizer(),
        peft_config=LoraConfig(**PLAIN),
        callbacks=[Clock()],
    )
    trainer.train()
    return median(after - before for before, after in pairwise(ends[1:])), passes, None, None


ARMS: dict[str, Callable[[Bench, ModelShape, Workload], Measured]] = {
    "gemtune": _gemtune,
    "compiled": _compiled,
    "peft": _plain,
    "trl": _trl,
}
