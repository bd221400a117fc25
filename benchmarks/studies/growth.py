"""What do a step and `prepare` cost as rows grow longer and data sets larger? On Gemma 3 270M.

Every line is measured in a process of its own: `growth tokens 2048` and `growth rows 100000` measure one.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import ROOT, write_page
from gemtune.files import write_jsonl

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
SIZES = (1_000, 100_000, 1_000_000)
RENDERED = (1_000, 20_000)
PICTURES = (1_000, 10_000, 100_000)
STEP_TOKENS = 2_048  # tokens, or one row where that is longer
STEPS = 4  # the first is not counted
LABELLED = 0.2
BODY = """\
Peak: of the whole process.

A LoRA step of about {tokens:,} tokens in rows of one length, {labelled:.0%} of them labelled, micro-batches as chosen:

| tokens per row | tokens/s | peak GB |
| ---: | ---: | ---: |
{lengths}

`prepare` of short rows (duplicates, near duplicates, split, leak audit), without the tokens:

| rows | rows/s | peak GB |
| ---: | ---: | ---: |
{sizes}

Rows tokenised by template and mask, in one process, the tokenizer loaded before:

| rows | rows/s | peak GB |
| ---: | ---: | ---: |
{rendered}

`prepare` of rows with one picture each, of 64 x 64 pixels, all in one zip archive:

| pictures | rows/s | peak GB |
| ---: | ---: | ---: |
{pictures}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", nargs="?", choices=SPEEDS, help="only this one, in this process")
    parser.add_argument("size", nargs="?", type=int, help="tokens per row, or rows")
    args = parser.parse_args()
    if args.measurement is None:
        write_page(__file__, "As work grows", _body())
    elif args.size is None:
        parser.error(f"how many? For example: {args.measurement} 1000")
    else:
        speed = SPEEDS[args.measurement](args.size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps({"speed": speed, "peak_gb": peak}))


def _body() -> str:
    lengths = [(length, *measured("tokens", length)) for length in LENGTHS]
    return BODY.format(
        tokens=STEP_TOKENS,
        labelled=LABELLED,
        lengths="\n".join(f"| {length:,} | {speed:.0f} | {peak:.2f} |" for length, speed, peak in lengths),
        sizes=lines("rows", SIZES),
        rendered=lines("render", RENDERED),
        pictures=lines("pictures", PICTURES),
    )


def lines(measurement: str, sizes: tuple[int, ...]) -> str:
    rows = [(size, *measured(measurement, size)) for size in sizes]
    return "\n".join(f"| {size:,} | {speed:,.0f} | {peak:.2f} |" for size, speed, peak in rows)


def measured(measurement: str, size: int) -> tuple[float, float]:
    """Tokens or rows per second, and the peak memory in GB, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.studies.growth", measurement, str(size)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603
    figures = json.loads(out.splitlines()[-1])
    print(measurement, size, figures, flush=True)
    return figures["speed"], figures["peak_gb"]


def step_speed(length: int) -> float:
    """Tokens per second of a training step over rows of one length."""
    import torch

    from gemtune.models.adapters import attach_adapters
    from gemtune.models.embedded import embedded_model
    from gemtune.models.families import family_of
    from gemtune.models.loading import load_model
    from gemtune.models.patching import install_kernels
    from gemtune.recipe.schema import DataSource, Lora, Recipe
    from gemtune.rendering.renderer import Example
    from gemtune.training.batching import cut, micro_batch
    from gemtune.training.loss import labelled_loss
    from gemtune.training.planner import ModelShape, choose_micro_tokens
    from gemtune.training.precision import choose_precision

    folder, (precision, _) = embedded_model(), choose_precision("auto", "cpu")
    model = attach_adapters(load_model(folder, precision=precision), Lora(), family_of(folder), [105, 106], 0)
    install_kernels(model).train()
    recipe = Recipe(name="growth", task="messages", data=[DataSource(source="none")])
    micro, _ = choose_micro_tokens(recipe, ModelShape.of(model.config), "cpu", precision)
    rng, seconds = np.random.default_rng(0), []
    rows = max(1, STEP_TOKENS // length)
    span = ((length - round(LABELLED * length), length),)
    for _ in range(STEPS):
        examples = [Example([2, *rng.integers(300, 200_000, length - 1).tolist()], span) for _ in range(rows)]
        began = time.perf_counter()
        for picked in cut(range(rows), np.full(rows, length), micro):
            loss, _ = labelled_loss(model, micro_batch([examples[row] for row in picked]))
            loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        model.zero_grad()
        seconds.append(time.perf_counter() - began)
    return rows * length / median(seconds[1:])


def prepare_speed(size: int) -> float:
    """Rows per second of `prepare` over a CSV of short rows."""
    from gemtune.preparation.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        job = job_of(size, Path(folder))
        began = time.perf_counter()
        prepare(job.recipe, job.run)
        return size / (time.perf_counter() - began)


def render_speed(size: int) -> float:
    """Rows per second that become tokens, once they are prepared."""
    from gemtune.models.hub import tokenizer_fingerprint
    from gemtune.preparation.prepare import prepare
    from gemtune.rendering.tokenising import write_tables

    with tempfile.TemporaryDirectory() as folder:
        job = job_of(size, Path(folder))
        prepare(job.recipe, job.run)
        key, renderer = tokenizer_fingerprint(job.folder), job.renderer
        began = time.perf_counter()
        write_tables(job.run, lambda: renderer, job.family, job.task, job.recipe, key)
        return size / (time.perf_counter() - began)


def picture_speed(size: int) -> float:
    """Rows per second of `prepare` over rows with one picture each, out of one archive."""
    from PIL import Image

    from gemtune.pipeline.job import Job
    from gemtune.preparation.prepare import prepare

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(folder / "pictures.zip", "w") as out:
            for number in range(size):
                file = io.BytesIO()
                Image.new("RGB", (64, 64), (number % 256, number // 256 % 256, number // 65_536)).save(file, "PNG")
                out.writestr(f"{number}.png", file.getvalue())
        turns = ({"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "one"})
        write_jsonl(folder / "rows.jsonl", ({"messages": turns, "images": [f"{n}.png"]} for n in range(size)))
        recipe = folder / "r.yaml"
        data = "{source: rows.jsonl, images: [pictures.zip]}"
        recipe.write_text(f"name: r\ntask: messages\nruns_dir: {folder}\ndata: {data}\n", encoding="utf-8")
        job = Job(recipe)
        began = time.perf_counter()
        prepare(job.recipe, job.run)
        return size / (time.perf_counter() - began)


def job_of(size: int, folder: Path) -> Any:
    """A job over `size` short rows of a CSV."""
    from gemtune.pipeline.job import Job

    with (folder / "rows.csv").open("w", encoding="utf-8") as out:
        out.write("text,emoji\n")
        out.writelines(f"{' '.join(words(number))},☀️\n" for number in range(size))
    recipe = folder / "r.yaml"
    recipe.write_text(f"name: r\ntask: emoji\nruns_dir: {folder}\ndata: {{source: rows.csv}}\n", encoding="utf-8")
    return Job(recipe)


def words(number: int) -> list[str]:
    """Five words and numbers of their own for every row.

    >>> words(7)
    ['work', '7', 'rain', 'rain', '55433']
    """
    vocabulary = ("rain", "sun", "beach", "coffee", "train", "late", "tired", "work", "moon", "pizza", "dog")
    first, second, third = (vocabulary[number // 11**power % 11] for power in range(3))
    return [first, str(number), second, third, str(number * 7919 % 1_000_003)]


SPEEDS = {"tokens": step_speed, "rows": prepare_speed, "render": render_speed, "pictures": picture_speed}

if __name__ == "__main__":
    main()
