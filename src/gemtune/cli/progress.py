"""Progress while a command works, on stderr."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from gemtune.errors import visible
from gemtune.files import JsonObject
from gemtune.pipeline.job import Job

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
}


class Progress:
    """Bars on a terminal, a line now and then elsewhere, nothing when quiet; all on stderr."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Progress:
        _hush()
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def job(
        self, recipe: str, overrides: Sequence[str] | None = None, *, fresh: bool = False, trust_task: bool = False
    ) -> Job:
        """The job of a recipe that reports here."""
        settings = {"fresh": fresh, "trust_task": trust_task}
        return Job(recipe, tuple(overrides or ()), **settings, say=self.say, tick=self.tick)

    def say(self, text: str) -> None:
        self.console.print(visible(text), markup=False, soft_wrap=True)

    def tick(self, what: str, done: int, total: int, note: str = "") -> None:
        """Moves the bar called `what`."""
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=total or None, note="")
        self.bars.update(self.tasks[what], completed=done, note=note)

    def train(self, line: JsonObject) -> None:
        """Shows one line of metrics.jsonl."""
        step, steps = line["step"], line["steps"]
        if "loss" in line:
            note = f"loss {line['loss']:.3f}  {line['tokens_per_s']:.0f} tokens/s"
            self.tick("training", step, steps, note)
        elif "probe_loss" in line:
            val = f"val loss {line['eval_loss']:.4f}, " if "eval_loss" in line else ""
            self.say(f"step {step} of {steps}: {val}train probe {line['probe_loss']:.4f}")


def _hush() -> None:
    """Silences third-party log output; what a user must know, gemtune says."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
