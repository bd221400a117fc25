"""How near is a step to plain transformers, PEFT and PyTorch? Measured on the real Gemma 3 270M.

The reference is the stock model with PEFT's own LoRA in fp32, one row at a time, every logit, PyTorch's cross-entropy.
Everything is computed from the same sixteen rows and the same random adapter.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from benchmarks.compare.results import table
from benchmarks.machine import ROOT, WORK, write_page
from gemtune.kernels import native
from gemtune.models.adapters import attach_adapters
from gemtune.models.families import family_of
from gemtune.models.loading import load_model
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Lora
from gemtune.rendering.renderer import Example
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.batching import ALIGNED, cut, micro_batch
from gemtune.training.loss import labelled_loss

ROWS = 16
BODY = """\
Real Gemma 3 270M, {rows} rows of the emoji recipe ({tokens} tokens, {labelled} of them labelled), LoRA r 16 with random
A and B. Loss: relative difference of the mean loss. Gradient: length of the difference of all gradients over the length
of the reference's.

Against stock transformers, PEFT and PyTorch in fp32, one row at a time, every logit, the softmax over the 262,144 words
in fp64 (PyTorch's fp32 sum over them is where stock fp32 differs):

{against_stock}

gemtune against itself, fp32:

{against_itself}

The two rows of `<start_of_turn>` and `<end_of_turn>`, trained as rows, against the same rows of the gradient of the
whole tied embedding (stock model, fp32): {token_rows}.
"""


@dataclass(frozen=True)
class Step:
    """The mean loss of the rows in nats, and the gradients by the adapter's own names."""

    loss: float
    gradients: dict[str, torch.Tensor]

    def difference(self, reference: Step) -> tuple[str, str]:
        """The relative differences of loss and gradient."""
        if self.gradients.keys() != reference.gradients.keys():
            raise ValueError("the two models train different weights")
        error = sum((g.float() - reference.gradients[n]).square().sum().item() for n, g in self.gradients.items())
        length = sum(g.square().sum().item() for g in reference.gradients.values())
        return f"{abs(self.loss / reference.loss - 1):.1e}", f"{(error / length) ** 0.5:.1e}"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    job = Job(ROOT / "recipes" / "emoji.yaml", [f"runs_dir={WORK / 'runs'}"], say=lambda text: None)
    stages.prepare(job)
    rows = ExampleTable(job.run.table("train"))
    examples = [rows[index] for index in range(ROWS)]
    ids = job.tokenizer.convert_tokens_to_ids(list(job.family.turn_tokens))
    body = BODY.format(
        rows=ROWS,
        tokens=sum(len(example.input_ids) for example in examples),
        labelled=sum(end - start for example in examples for start, end in example.spans),
        against_stock=against_stock(job.folder, examples),
        against_itself=against_itself(job.folder, examples),
        token_rows=" and ".join(token_rows(job.folder, examples, ids)),
    )
    write_page(__file__, "Exactness", body)


def against_stock(folder: Path, examples: list[Example]) -> str:
    reference = stock(folder, examples, torch.float32, torch.float64)
    steps = {
        "stock in fp32": stock(folder, examples, torch.float32),
        "stock in bf16": stock(folder, examples, torch.bfloat16),
    }
    for precision in ("fp32", "bf16"):
        steps[f"gemtune in {precision}"] = ours(folder, examples, precision)
        with without_compiled_passes():
            steps[f"gemtune in {precision}, passes not compiled"] = ours(folder, examples, precision)
    return as_table(steps, reference)


def against_itself(folder: Path, examples: list[Example]) -> str:
    quarter = sum(len(example.input_ids) for example in examples) // 4 + 8
    steps = {
        "one row at a time": ours(folder, examples, "fp32", micro_tokens=1),
        "four micro-batches": ours(folder, examples, "fp32", micro_tokens=quarter),
        f"not filled up to {ALIGNED} tokens": ours(folder, examples, "fp32", aligned=1),
    }
    return as_table(steps, ours(folder, examples, "fp32"))


def as_table(steps: dict[str, Step], reference: Step) -> str:
    return table("| loss | gradient", [[name, *step.difference(reference)] for name, step in steps.items()])


def stock(folder: Path, examples: list[Example], dtype: torch.dtype, softmax: torch.dtype = torch.float32) -> Step:
    """One step of the stock model with PEFT's own forward and PyTorch's cross-entropy, its softmax in `softmax`."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    linear = list(family_of(folder).linear)
    model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules=linear, task_type="CAUSAL_LM"))
    return step_of(model, lambda: row_by_row(model, examples, softmax))


def ours(
    folder: Path, examples: list[Example], precision: str, micro_tokens: int = 10_000, aligned: int = ALIGNED
) -> Step:
    """One step as gemtune takes it, in micro-batches of `micro_tokens`."""
    base = load_model(folder, precision=precision)
    model = install_kernels(attach_adapters(base, Lora(token_rows="none"), family_of(folder), [], 0))  # noqa: S106

    def losses() -> Iterator[torch.Tensor]:
        lengths = np.array([len(example.input_ids) for example in examples])
        for rows in cut(range(len(examples)), lengths, micro_tokens):
            yield labelled_loss(model, micro_batch([examples[row] for row in rows], aligned))[0]

    return step_of(model, losses)


def row_by_row(model: Any, examples: list[Example], softmax: torch.dtype = torch.float64) -> Iterator[torch.Tensor]:
    """The summed loss of every row, from every logit."""
    for example in examples:
        ids = torch.tensor(example.input_ids)
        labels = torch.full_like(ids, -100)
        for start, end in example.spans:
            labels[start:end] = ids[start:end]
        logits = model(input_ids=ids[None]).logits[0].to(softmax)
        yield torch.nn.functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")


def step_of(model: Any, losses: Callable[[], Iterator[torch.Tensor]]) -> Step:
    """Sets every adapter weight by its own name, walks the losses, and returns what they and their gradients are."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for number, name in enumerate(sorted(trained)):
        generator = torch.Generator().manual_seed(number)
        values = 0.02 * torch.randn(trained[name].shape, generator=generator)
        trained[name].data.copy_(values)
    total = 0.0
    for loss in losses():
        loss.backward()
        total += loss.item()
    return Step(total, {name: p.grad.float() for name, p in trained.items()})


def token_rows(folder: Path, examples: list[Example], ids: list[int]) -> tuple[str, str]:
    """The differences of loss and gradient between trained rows and a wholly trained embedding, where they overlap."""
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    whole.requires_grad_(False)
    embedding = whole.get_input_embeddings().weight.requires_grad_()
    total = 0.0
    for loss in row_by_row(whole, examples):
        loss.backward()
        total += loss.item()
    rows = install_kernels(attach_adapters(load_model(folder), Lora(), family_of(folder), ids, 0))
    loss, _ = labelled_loss(rows, micro_batch(examples))
    loss.backward()
    (delta,) = (p for name, p in rows.named_parameters() if "trainable_tokens_delta" in name and p.requires_grad)
    reference = Step(total, {"rows": embedding.grad[ids]})
    loss_error, gradient_error = Step(loss.item(), {"rows": delta.grad}).difference(reference)
    return f"loss {loss_error}", f"gradient {gradient_error}"


@contextmanager
def without_compiled_passes() -> Iterator[None]:
    """The elementwise work done by PyTorch, as on a machine without a compiler."""
    compiled = native.compiled
    native.compiled = lambda: (None, "")  # type: ignore[assignment]
    try:
        yield
    finally:
        native.compiled = compiled


if __name__ == "__main__":
    main()
