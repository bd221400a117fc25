"""Which evaluation is best: one rule, by which a checkpoint is kept, training stops early and the report marks a step.

The evaluations are lines of metrics.jsonl, so a resumed run selects among those before it was stopped, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """The name of the deciding number in metrics.jsonl, and which way is better."""

    name: str
    higher_is_better: bool = False


BY_LOSS = Criterion("eval_loss")


@dataclass(frozen=True)
class Selection:
    """The best evaluation: its step, its value, and how many evaluations came after it."""

    step: int
    value: float
    since: int


def select(lines: Sequence[Mapping[str, float | None]], criterion: Criterion) -> Selection | None:
    """The best evaluation after step 0, the earliest of equals; None before there is one.

    >>> lines = [{"step": s, "eval_loss": loss} for s, loss in [(0, 1.0), (4, 3.0), (8, 2.5), (12, 2.5), (16, 2.7)]]
    >>> select(lines, Criterion("eval_loss"))
    Selection(step=8, value=2.5, since=2)
    >>> select(lines, Criterion("eval_loss", higher_is_better=True))
    Selection(step=4, value=3.0, since=3)
    >>> select(lines[:1], Criterion("eval_loss"))
    """
    trained = [
        (int(line["step"] or 0), value)
        for line in lines
        if line["step"] and (value := line.get(criterion.name)) is not None  # null: it was no number
    ]
    if not trained:
        return None
    sign = -1 if criterion.higher_is_better else 1
    step, value = min(trained, key=lambda evaluation: sign * evaluation[1])
    return Selection(step, value, len(trained) - 1 - trained.index((step, value)))
