"""Whether a training has diverged: its loss is not a number, or far above the one that it began with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FAR, SLACK = 2.0, 2.0  # times the base model's loss, and nats on top, from which an evaluation has diverged
IN_A_ROW = 3  # single batches differ from one another: only so many of them above every chance say that it has diverged
NAMES = {"eval_loss": "val loss", "probe_loss": "loss on train rows"}


def limit(base: float) -> float:
    """The loss from which rows that the base model has `base` on were unlearned, not just learned badly for a while.

    >>> limit(1.5), limit(14.9)
    (5.0, 31.8)
    """
    return FAR * base + SLACK


def good_steps(lines: Sequence[Mapping[str, float | None]]) -> list[int]:
    """The steps whose weights may be kept if the training diverges later: no worse than base, but for a jitter of 2 %.

    >>> losses = [(0, 1.5), (4, 1.2), (8, 1.51), (12, 2.4), (16, None)]
    >>> good_steps([{"step": step, "probe_loss": loss} for step, loss in losses])
    [4, 8]
    """
    judged = [(int(line["step"] or 0), loss) for line in lines if (loss := line.get("probe_loss")) is not None]
    base = dict(judged).get(0, math.inf)
    return [step for step, loss in judged if step and loss <= 1.02 * base]


@dataclass
class DivergenceWatch:
    """Judges every loss of a training by those of step 0; `chance` is ln(vocabulary), the loss of a blind guess."""

    chance: float
    base: dict[str, float] = field(default_factory=dict)  # name -> the base model's, once it is known
    far_in_a_row: int = 0

    def begin(self, lines: Iterable[Mapping[str, float]]) -> None:
        """Takes the base model's losses from metrics.jsonl, where a run goes on."""
        first = next(iter(lines), {})
        self.base = {name: first[name] for name in NAMES if name in first and first.get("step") == 0}

    def of_step(self, step: int, loss: float) -> str | None:
        """Why the training has diverged by the loss of training batches, or None.

        >>> watch = DivergenceWatch(chance=12.5, base={"probe_loss": 3.0})
        >>> watch.of_step(7, 494096.0), watch.of_step(8, 60.0), watch.of_step(9, 30.0)
        (None, None, 'step 9: the loss of 3 batches in a row is above 27 (30 now)')
        >>> watch.of_step(9, float("nan"))
        'step 9: the loss is nan'
        """
        if not math.isfinite(loss):
            return f"step {step}: the loss is {loss}"
        most = limit(max([self.chance, *self.base.values()]))
        self.far_in_a_row = self.far_in_a_row + 1 if loss > most else 0
        if self.far_in_a_row < IN_A_ROW:
            return None
        return f"step {step}: the loss of {IN_A_ROW} batches in a row is above {most:.3g} ({loss:,.3g} now)"

    def of_evaluation(self, step: int, losses: Mapping[str, float]) -> str | None:
        """Why the training has diverged by the losses of fixed rows, or None; those of step 0 are the base model's.

        >>> watch = DivergenceWatch(chance=12.5)
        >>> watch.of_evaluation(0, {"eval_loss": 6.96}), watch.of_evaluation(3, {"eval_loss": 9.9})
        (None, None)
        >>> watch.of_evaluation(6, {"eval_loss": 494096.0})
        "step 6: the val loss is 494,096, the base model's was 6.96"
        """
        if step == 0:
            self.base = {name: losses[name] for name in NAMES if name in losses}
        for name, words in NAMES.items():
            loss = losses.get(name)
            if loss is not None and not math.isfinite(loss):
                return f"step {step}: the {words} is {loss}"
            if loss is not None and name in self.base and loss > limit(self.base[name]):
                shown = f"{loss:,.0f}" if loss >= 100 else f"{loss:.3g}"
                return f"step {step}: the {words} is {shown}, the base model's was {self.base[name]:.3g}"
        return None
