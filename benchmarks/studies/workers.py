"""Do several workers have the losses of one, also after kills, and what do they exchange?

    python -m benchmarks.studies.workers [--model gemma-3-270m] [--kills 3]

Tiny models of random weights on the repository's examples, in processes that talk through gloo, as `gemtune train`
starts them. Every training is a command of its own. With a real model a few steps are trained for the share of the time
that the exchange takes; seconds are upper bounds where the machine has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.compare.results import table
from benchmarks.machine import ROOT, write_page
from gemtune.models.families import write_tiny

MAIN = "from gemtune.cli.app import main; main()"
EXAMPLES = ROOT / "examples"
TEXT = {"task": "emoji", "data": {"source": str(EXAMPLES / "emoji.csv"), "limit": 400}}
IMAGES = {
    "task": "multi_image",
    "data": {
        "source": str(EXAMPLES / "multi_image" / "rows.json"),
        "images": [str(EXAMPLES / "multi_image" / "pictures.zip")],
        "limit": 48,
    },
}
TOKENS = {"token_rows": ["<start_of_turn>", "<end_of_turn>"]}
# what -> family of the tiny model, keys, steps
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "text, LoRA and token rows": ("gemma3", {**TEXT, "lora": TOKENS}, 50),
    "text, every weight": ("gemma3", {**TEXT, "lora": "none"}, 50),
    "text, NF4": ("gemma3", {**TEXT, "quantize": "nf4"}, 50),
    "images, projector trained": ("gemma3-vision", {**IMAGES, "vision": {"trains": "projector"}}, 50),
}
COMPARED = ("loss", "grad_norm", "eval_loss")
BODY = """\
{steps} steps of 16 rows, evaluations every 10, tiny models, processes that talk through gloo. The largest relative
difference of any step to one worker:

{equal}

fp32 but for the rows that say otherwise. "another packing" is one worker with a quarter of the tokens a micro-batch:
what bf16 moves by itself. MB a step: what a worker sums with the others; in a ring each sends 2 (W - 1) / W of it.
Share: of the time of the steps, waiting for the slowest worker included.

A worker of two killed (SIGKILL) at random moments, `{kind}`, against an undisturbed worker:

{kills}

{real}
"""
Lines = list[dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a real model, trained for a few steps on the emoji rows")
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        equal = [row for kind in KINDS for row in place.equality(kind)] + place.packing()
        kills = [place.killed(number) for number in range(options.kills)]
        real = place.real(options.model) if options.model else ""
    equality = table("trained | workers | loss | gradient norm | val loss | MB a step | share", equal)
    body = BODY.format(
        steps=50,
        equal=equality,
        kind=next(iter(KINDS)),
        kills=table("killed when step was logged | restarts said | last loss | largest difference", kills),
        real=real,
    )
    write_page(__file__, "Several workers", body)


class Place:
    """A folder with tiny models, in which trainings are run."""

    def __init__(self, folder: Path):
        self.folder = folder
        for family in ("gemma3", "gemma3-vision"):
            write_tiny(family, folder / family)
        self.curves: dict[tuple[str, int], Lines] = {}

    def command(self, name: str, family: str, keys: dict[str, Any], **train: Any) -> tuple[list[str], Path]:
        """The command of a training, and where its metrics will be."""
        settings = {"batch_size": 16, "max_length": 512, "learning_rate": 1e-3, "precision": "fp32", "device": "cpu"}
        model = family if family not in ("gemma3", "gemma3-vision") else str(self.folder / family)
        recipe = {
            "name": name,
            "model": model,
            "runs_dir": str(self.folder / "runs"),
            **keys,
            "train": {**settings, "eval_steps": 10, "early_stopping": None, **train},
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return [sys.executable, "-c", MAIN, "train", str(path)], self.folder / "runs" / name / "metrics.jsonl"

    def trained(self, name: str, family: str, keys: dict[str, Any], **train: Any) -> Lines:
        command, metrics = self.command(name, family, keys, **train)
        subprocess.run(command, check=True, capture_output=True, env=_environment())  # noqa: S603
        return _lines(metrics)

    def curve(self, kind: str, workers: int) -> Lines:
        if (kind, workers) not in self.curves:
            family, keys, steps = KINDS[kind]
            name = f"k{list(KINDS).index(kind)}w{workers}"
            scaled = {**keys, "scale": {"workers": workers}}
            self.curves[kind, workers] = self.trained(name, family, scaled, max_steps=steps)
        return self.curves[kind, workers]

    def equality(self, kind: str) -> list[list[str]]:
        return [self._row(kind, workers, self.curve(kind, 1), self.curve(kind, workers)) for workers in (2, 3)]

    def packing(self) -> list[list[str]]:
        """bf16: two workers, and another packing on one, against one worker."""
        family, keys, steps = KINDS[next(iter(KINDS))]
        settings = {"max_steps": steps, "precision": "bf16"}
        alone = self.trained("bf16", family, keys, **settings, micro_tokens=512)
        packed = self.trained("bf16-packed", family, keys, **settings, micro_tokens=128)
        two = self.trained("bf16-two", family, {**keys, "scale": {"workers": 2}}, **settings, micro_tokens=512)
        return [
            self._row("the first in bf16", 2, alone, two),
            self._row("the same, another packing", 1, alone, packed),
        ]

    def _row(self, what: str, workers: int, one: Lines, other: Lines) -> list[str]:
        return [what, str(workers), *(f"{_difference(one, other, name):.1e}" for name in COMPARED), *_exchange(other)]

    def killed(self, number: int) -> list[str]:
        """A training of two workers of which one is killed when a random step is logged."""
        kind = next(iter(KINDS))
        family, keys, steps = KINDS[kind]
        step = random.Random(number).randint(5, steps - 5)  # noqa: S311
        name = f"killed{number}"
        scaled = {**keys, "scale": {"workers": 2}}
        command, metrics = self.command(name, family, scaled, max_steps=steps, save_steps=5)
        process = subprocess.Popen(  # noqa: S603
            command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while not (metrics.exists() and f'{{"step": {step}, "epoch"' in metrics.read_text()):
            time.sleep(0.01)
        random.Random(number).choice(_workers(process.pid)).send_signal(signal.SIGKILL)  # noqa: S311
        _, said = process.communicate()
        if process.returncode:
            raise SystemExit(said)
        lines, undisturbed = _lines(metrics), self.curve(kind, 1)
        last = [line["loss"] for line in lines if "loss" in line][-1]
        restarts = str(said.count("(restart"))
        return [str(step), restarts, f"{last:.6f}", f"{_difference(undisturbed, lines, 'loss'):.1e}"]

    def real(self, model: str) -> str:
        """What the exchange of a real model takes."""
        rows = []
        for workers in (1, 2):
            keys = {**TEXT, "scale": {"workers": workers}}
            settings = {"max_steps": 6, "learning_rate": 2e-4, "eval_steps": 6, "max_length": 128}
            lines = self.trained(f"real{workers}", model, keys, **settings)
            rows.append([f"{model}, LoRA", str(workers), *_exchange(lines)])
        return "The same on a real model, 6 steps, fp32:\n\n" + table("trained | workers | MB a step | share", rows)


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _workers(parent: int) -> Sequence[psutil.Process]:
    return [child for child in psutil.Process(parent).children() if "RANK" in child.environ()]


def _lines(metrics: Path) -> Lines:
    return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]


def _difference(one: Lines, other: Lines, name: str) -> float:
    """The largest relative difference of two curves at the same steps."""
    first, second = ({line["step"]: line[name] for line in lines if name in line} for lines in (one, other))
    if first.keys() != second.keys():
        raise SystemExit(f"{name}: steps {first.keys() ^ second.keys()} are in one curve alone")
    return max(abs(value - second[step]) / abs(value) for step, value in first.items())


def _exchange(lines: Lines) -> tuple[str, str]:
    """MB that are summed a step, and the share of the steps' time that it takes."""
    steps = [line for line in lines if "loss" in line]
    if "exchange_bytes" not in steps[-1]:
        return "0", "0"
    share = sum(line["exchange_seconds"] for line in steps) / sum(line["seconds"] for line in steps)
    return f"{steps[-1]['exchange_bytes'] / 1e6:.2f}", f"{100 * share:.0f} %"


if __name__ == "__main__":
    main()
