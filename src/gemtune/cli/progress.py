"""What the command line prints: progress while it works, and the answers of the stages as lines."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from gemtune.pipeline.job import Job
from gemtune.runs import PARTS, Run

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
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
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        _hush()
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def job(self, recipe: str, overrides: Sequence[str] | None = None, fresh: bool = False) -> Job:
        """The job of a recipe that reports here."""
        return Job(recipe, tuple(overrides or ()), fresh=fresh, say=self.say, tick=self.tick)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def tick(self, what: str, done: int, total: int, note: str = "") -> None:
        """Moves the bar called `what`."""
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=total or None, note="")
        self.bars.update(self.tasks[what], completed=done, note=note)

    def train(self, line: dict[str, Any]) -> None:
        """Shows one line of metrics.jsonl."""
        step, steps = line["step"], line["steps"]
        if "loss" in line:
            note = f"loss {line['loss']:.3f}  {line['tokens_per_s']:.0f} tokens/s"
            self.tick("training", step, steps, note)
        elif "eval_loss" in line:
            self.say(f"step {step} of {steps}: val loss {line['eval_loss']:.4f}, train probe {line['probe_loss']:.4f}")


def _hush() -> None:
    """Keeps libraries' notes off the screen; what a user must know, gemtune says."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def prepared_lines(run: Run, manifest: dict[str, Any]) -> Iterator[str]:
    """The data manifest in words: what was read, dropped and why, kept by part, how long it is, what leaks."""
    dropped, kept, lengths = manifest["dropped"], manifest["kept"], manifest["lengths"]
    yield f"{manifest['rows_read']} rows read = {sum(kept.values())} kept + {sum(dropped.values())} dropped"
    for reason, count in sorted(dropped.items(), key=lambda entry: -entry[1]):
        yield f"  dropped {count}: {reason}"
    for part in PARTS:
        stats = lengths[part]
        yield (
            f"  {part}: {kept[part]} rows in {manifest['groups'][part]} groups; "
            f"tokens {stats['min']} to {stats['max']}, median {stats['median']}, 95 % within {stats['p95']}"
        )
        for name, words in LEFT_OUT.items():
            if stats[name]:
                yield f"    {stats[name]} {words.format(limit=lengths['max_length'])}"
    leaks = manifest["leaks"]
    yield f"leak audit: {leaks} pairs on both sides of the split" + (f"; see {run.leaks_file}" if leaks else "")
    if dropped:
        yield f"every dropped row: {run.dropped_file}"


LEFT_OUT = {
    "over_length": "left out: longer than train.max_length = {limit}",
    "shortened": "with a shortened prompt, to fit train.max_length = {limit}",
    "control_token": "left out: the text spells a control token of the model",
}


def summary_table(summary: dict[str, Any] | None) -> Iterator[str]:
    """Base against tuned in a few lines; without a summary, what is missing."""
    if summary is None:
        yield "Only one side is there; `gemtune evaluate RUN` compares base and tuned."
        return
    for name, metric in summary["metrics"].items():
        base, tuned, gap = metric["base"], metric["tuned"], metric["difference"]
        title = name if metric.get("direction") != "lower" else f"{name} (lower is better)"
        yield (
            f"{title:<12} base {base['mean']:.3f} [{base['low']:.3f}, {base['high']:.3f}]  "
            f"tuned {tuned['mean']:.3f} [{tuned['low']:.3f}, {tuned['high']:.3f}]  "
            f"difference {gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]  "
            f"p {gap['p_value']:.2g} ({gap['method']})"
        )
    yield f"{summary['rows']} rows; decided by {summary['metric']}"


def plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    """The plan of this machine by what needs the memory, then the table of Gemma 3 sizes and devices."""
    yield f"{plan['model']} on this machine ({plan['device']}, {plan['precision']}):"
    for name, value in plan["memory_gb"].items():
        yield f"  {name:<12} {value:6.2f} GB"
    yield f"  {'together':<12} {sum(plan['memory_gb'].values()):6.2f} GB of {plan['free_gb']:.1f} GB free"
    yield f"  {plan['steps']} steps, {plan['tokens']} tokens: about {plan['seconds'] / 60:.1f} min ({plan['why']})"
    yield ""
    yield "The same recipe elsewhere, in GB (h: hours at 40 % of the data sheet's speed; -: does not fit):"
    yield f"  {'':<14}" + "".join(f"{name:>18}" for name in plan["elsewhere"][0]["devices"])
    for row in plan["elsewhere"]:
        yield f"  {row['model']:<14}" + "".join(f"{cell:>18}" for cell in row["devices"].values())
