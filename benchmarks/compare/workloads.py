"""What the arms train on: the rows of the recipes, tokenised once by gemtune, in a fixed order, with one first adapter.

A workload is a folder that an arm of any environment can read:

    meta.json        the model, the settings of the optimisation, tokens and labelled tokens of every step
    train.jsonl      {"input_ids": [...], "labels": [...]} per line; lines i*B to (i+1)*B are step i
    heldout.jsonl    the same, of rows that no step sees
    init_adapter/    the LoRA adapter that every arm starts from, in PEFT's format
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import ROOT
from gemtune.files import sha256_of, sha256_of_text, write_json, write_jsonl
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.rendering.renderer import IGNORE
from gemtune.rendering.token_table import ExampleTable

RECIPES = ROOT / "recipes"
# The rate is constant, without warm-up; there is no weight decay.
SETTINGS: dict[str, Any] = {"learning_rate": 2e-4, "max_grad_norm": 1.0, "seed": 0}
LEAST_STEPS = 4  # the first one is not timed
HELD_OUT = 2_000  # tokens of the held-out loss at most: a quarter of a minute in fp32 on two cores

Row = dict[str, list[int]]


@dataclass(frozen=True)
class Workload:
    """Recipes whose rows are trained on, and how."""

    what: str
    recipes: tuple[str, ...]
    batch_size: int
    every_token: bool = False  # trained, but BOS; otherwise the answers alone
    trained: int = 2_500  # tokens, about: a minute and a half of the slowest arm on two cores


WORKLOADS = {
    "emoji": Workload("short rows, the answers trained", ("emoji",), 16, trained=5_000),  # its first losses scatter
    "sql": Workload("long prompts, the answers trained", ("sql",), 8),
    "full": Workload("the rows of both, every token trained", ("emoji", "sql"), 8, every_token=True),
}


def build(name: str, folder: Path, steps: int | None = None) -> None:
    """Writes the folder of a workload; `steps` stands in for about as many tokens as it says."""
    workload = WORKLOADS[name]
    jobs = [Job(RECIPES / f"{recipe}.yaml", [f"runs_dir={folder.parent / 'runs'}"]) for recipe in workload.recipes]
    manifests = [stages.prepare(job) for job in jobs]
    lengths = manifests[0]["lengths"]
    train, heldout = ([*_rows(jobs, part, workload.every_token)] for part in ("train", "val"))
    size = workload.batch_size
    train = train[: size * (steps or _steps(train, size, workload.trained))]
    heldout = heldout[: sum(total <= HELD_OUT for total in accumulate(len(row["input_ids"]) for row in heldout))]
    write_jsonl(folder / "train.jsonl", iter(train))
    write_jsonl(folder / "heldout.jsonl", iter(heldout))
    _write_first_adapter(jobs[0], folder / "init_adapter")
    batches = [train[start : start + size] for start in range(0, len(train), size)]
    files = ("train.jsonl", "heldout.jsonl", "init_adapter/adapter_model.safetensors")
    meta: dict[str, Any] = {
        "what": workload.what,
        "model": str(jobs[0].folder),
        "special_ids": lengths["special_ids"],
        "token_ids": lengths["token_ids"],
        "batch_size": size,
        **SETTINGS,
        "tokens": [sum(len(row["input_ids"]) for row in batch) for batch in batches],
        "labelled": [_labelled(batch) for batch in batches],
        "heldout_rows": len(heldout),
        "heldout_labelled": _labelled(heldout),
    }
    meta["key"] = sha256_of_text(repr(meta), *(sha256_of(folder / file) for file in files))
    write_json(folder / "meta.json", meta)


def _rows(jobs: list[Job], part: str, every_token: bool) -> Iterator[Row]:
    """Yields the rows of a part of every job, in an order drawn once."""
    tables = [ExampleTable(job.run.table(part)) for job in jobs]
    examples = [table[index] for table in tables for index in range(len(table))]
    for index in np.random.default_rng(SETTINGS["seed"]).permutation(len(examples)):
        ids = examples[index].input_ids
        yield {"input_ids": ids, "labels": [IGNORE, *ids[1:]] if every_token else examples[index].labels}


def _steps(rows: list[Row], batch_size: int, trained: int) -> int:
    mean = sum(len(row["input_ids"]) for row in rows) / len(rows)
    return max(LEAST_STEPS, round(trained / (mean * batch_size)))


def _labelled(rows: list[Row]) -> int:
    """The trained tokens of rows; the first token of a row is never predicted."""
    return sum(label != IGNORE for row in rows for label in row["labels"][1:])


def _write_first_adapter(job: Job, folder: Path) -> None:
    """Rank 16, alpha 32, no dropout, on the seven linear layers of a block, drawn by PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=16, lora_alpha=32, target_modules=list(job.family.linear), task_type="CAUSAL_LM")
    base = AutoModelForCausalLM.from_pretrained(job.folder)
    torch.manual_seed(SETTINGS["seed"])
    get_peft_model(base, config).save_pretrained(folder, save_embedding_layers=False)


if __name__ == "__main__":
    build(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else None)
