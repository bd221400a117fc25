"""Fit: did the run underfit, overfit or diverge? A pure function of its evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gemtune.files import JsonObject
from gemtune.metrics.selection import BY_LOSS, Selection, select

Word = Literal["good fit", "underfit", "overfit", "diverged", "not enough evaluations"]

ENOUGH = 3  # step 0 and two more: with fewer there is no direction after the best one to look at
NOISE = 0.02  # of a loss: the same rows are scored every time, so a change of 2 % is the jitter of single steps
FLOOR = 0.01  # nats: below it perplexity changes by less than 1 %, however small the loss has become
MOVED = 0.05  # of the loss at step 0: a run that changed less has not learned its task
TAIL = 0.25  # of the steps: a fall is looked for over the last quarter, however often the run was evaluated
WIDE_GAP = 1.5  # val loss over probe loss from which more rows help more than more passes over the same ones


@dataclass(frozen=True)
class Verdict:
    """How well a run fits, the numbers behind that word, and the recipe keys to change."""

    word: Word
    why: str
    advice: str


@dataclass(frozen=True)
class Point:
    """One evaluation: both losses in eval mode, in nats per labelled token."""

    step: int
    epoch: float
    val: float
    probe: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.val) and math.isfinite(self.probe)

    def __str__(self) -> str:
        return f"val loss {_loss(self.val)} and probe loss {_loss(self.probe)} at step {self.step}"


def verdict(evaluations: Sequence[JsonObject], kept_step: int | None = None) -> Verdict:
    """Judges the evaluation lines of metrics.jsonl; `kept_step`: the checkpoint kept, if not the best by loss.

    >>> losses = [(0, 5.0, 5.0), (50, 1.1, 1.0), (100, 1.0, 0.7), (150, 1.3, 0.4)]
    >>> lines = [{"step": s, "epoch": s / 50, "eval_loss": val, "probe_loss": probe} for s, val, probe in losses]
    >>> verdict(lines).word
    'overfit'
    >>> verdict(lines).why
    'From step 100 to step 150 the val loss rose from 1 to 1.3 while the probe loss on train rows went from 0.7 to 0.4.'
    """
    lines = [line for line in evaluations if "eval_loss" in line and "probe_loss" in line]
    lines.sort(key=lambda line: int(line["step"]))
    points = [_point(line) for line in lines]
    finite = [point for point in points if point.finite]
    if len(finite) < len(points):
        return _not_finite(next(point for point in points if not point.finite), finite)
    if len(points) < ENOUGH:
        return _not_enough(points)
    first, last = points[0], points[-1]
    best = _best(points, select(lines, BY_LOSS))
    kept = next((point for point in points if point.step == kept_step), best)
    val_rose = last.val - best.val > margin(best.val)
    probe_rose = last.probe - best.probe > margin(best.probe)
    if _rose(first.val, last.val) and _rose(first.probe, last.probe):
        return _diverged(first, last, kept)
    if val_rose and not probe_rose:
        return _overfit(best, last, kept)
    if first.val - best.val <= max(MOVED * first.val, FLOOR):
        memorised = _fell(first.probe, last.probe) > _fell(first.val, best.val) + MOVED
        return _memorised(first, best, last) if memorised else _hardly_moved(first, best, last)
    start = _start_of_tail(points)
    if _rose(last.val, start.val) and _rose(last.probe, start.probe):
        return _still_falling(start, last)
    return _good(first, best, last, kept if val_rose else None)


def margin(loss: float) -> float:
    """How much a loss may differ before gemtune calls it a change, in nats.

    >>> margin(5.0), margin(0.1)
    (0.1, 0.01)
    """
    return max(NOISE * loss, FLOOR)


def _point(line: JsonObject) -> Point:
    val, probe = (math.nan if line[key] is None else float(line[key]) for key in ("eval_loss", "probe_loss"))
    return Point(int(line["step"]), float(line.get("epoch") or 0.0), val, probe)


def _best(points: list[Point], selection: Selection | None) -> Point:
    """The evaluation with the lowest val loss, that of before training included."""
    if selection is None or points[0].val <= selection.value:
        return points[0]
    return next(point for point in points if point.step == selection.step)


def _rose(before: float, after: float) -> bool:
    return after - before > margin(before)


def _fell(before: float, after: float) -> float:
    """The share by which a loss became smaller."""
    return (before - after) / before if before else 0.0


def _start_of_tail(points: list[Point]) -> Point:
    """The last evaluation that still lies before the final quarter of the steps."""
    first, last = points[0].step, points[-1].step
    return next(point for point in reversed(points[:-1]) if point.step <= last - TAIL * (last - first))


def _loss(value: float) -> str:
    return f"{value:.3g}"


def _epochs(value: float) -> str:
    return f"{max(math.ceil(value * 10) / 10, 0.1):g}"


def _not_finite(broken: Point, finite: list[Point]) -> Verdict:
    before = [point for point in finite if point.step < broken.step]
    until = f" The last finite evaluation: {before[-1]}." if before else ""
    return Verdict(
        "diverged",
        f"At step {broken.step} the loss is not a finite number.{until}",
        "Halve train.learning_rate; if the run was in fp16, set train.precision=bf16 or fp32.",
    )


def _not_enough(points: list[Point]) -> Verdict:
    evaluations = f"{len(points)} evaluation{'' if len(points) == 1 else 's'}"
    return Verdict(
        "not enough evaluations",
        f"The run has {evaluations}; a verdict needs {ENOUGH}: one before training and two more.",
        "Train longer (train.epochs) or set a smaller train.eval_steps." if points else "Hold val rows out: split.val.",
    )


def _diverged(first: Point, last: Point, kept: Point) -> Verdict:
    before = f" The checkpoint kept is from before: {kept}." if first.step < kept.step < last.step else ""
    return Verdict(
        "diverged",
        f"Both losses ended above where they began: {first}, {last}.{before}",
        "Halve train.learning_rate, or raise train.warmup_ratio to 0.1.",
    )


def _overfit(best: Point, last: Point, kept: Point) -> Verdict:
    why = (
        f"From step {best.step} to step {last.step} the val loss rose from {_loss(best.val)} to {_loss(last.val)} "
        f"while the probe loss on train rows went from {_loss(best.probe)} to {_loss(last.probe)}."
    )
    more = "more data first, then a smaller lora.r or a lower train.learning_rate."
    if best.step == 0:
        return Verdict("overfit", f"{why} No checkpoint beats the start.", f"What helps: {more}")
    if _rose(best.val, kept.val):
        return Verdict(
            "overfit",
            f"{why} The checkpoint kept, step {kept.step}, was chosen by metric and has val loss {_loss(kept.val)}.",
            f"Compare it with train.best_by=loss. For a lower val loss: {more}",
        )
    return Verdict(
        "overfit",
        why,
        f"Harmless here: the checkpoint kept is step {kept.step}, before the rise; what came after cost time only. "
        f"train.epochs={_epochs(best.epoch)} saves that time. For a lower val loss: {more}",
    )


def _memorised(first: Point, best: Point, last: Point) -> Verdict:
    return Verdict(
        "overfit",
        f"The probe loss on train rows fell from {_loss(first.probe)} to {_loss(last.probe)}, but the val loss never "
        f"got below {_loss(best.val)} (it began at {_loss(first.val)}): the model memorises rows instead of "
        "learning the task.",
        "More data helps most; then a smaller lora.r. Check too that val rows ask what train rows ask.",
    )


def _hardly_moved(first: Point, best: Point, last: Point) -> Verdict:
    return Verdict(
        "underfit",
        f"The val loss hardly moved: {_loss(first.val)} at step {first.step}, {_loss(best.val)} at its best, "
        f"{_loss(last.val)} at the end (probe {_loss(first.probe)} to {_loss(last.probe)}).",
        "Try three times the train.learning_rate, then more train.epochs, then a larger lora.r. "
        "If the base model already scores well, there is little left to learn.",
    )


def _still_falling(start: Point, last: Point) -> Verdict:
    longer = f"train.epochs={_epochs(2 * last.epoch)}" if last.epoch else "twice the train.epochs"
    return Verdict(
        "underfit",
        f"Both losses were still falling at the end: from step {start.step} to step {last.step} the val loss went from "
        f"{_loss(start.val)} to {_loss(last.val)} and the probe loss from {_loss(start.probe)} to {_loss(last.probe)}.",
        f"Train longer: {longer}; or raise train.learning_rate, then lora.r.",
    )


def _good(first: Point, best: Point, last: Point, kept: Point | None) -> Verdict:
    end = "the last evaluation" if best is last else f"and ended at {_loss(last.val)}"
    why = (
        f"The val loss fell from {_loss(first.val)} to {_loss(best.val)} at step {best.step}, {end}; "
        f"the probe loss on train rows ended at {_loss(last.probe)}."
    )
    if kept is not None:
        return Verdict(
            "good fit",
            f"{why} Both rose together after the best one: training was unsteady, not overfitting.",
            f"The checkpoint kept is step {kept.step}; a lower train.learning_rate makes the end steadier.",
        )
    if best.val > WIDE_GAP * best.probe and best.val - best.probe > margin(best.val):
        return Verdict(
            "good fit", why, "Val is well above the probe: more data would help more than train.epochs or lora.r."
        )
    return Verdict("good fit", why, "Nothing to change; a larger model or more data would lower the val loss further.")
