"""The learning rate of every step as a share of the recipe's: no step is taken at a rate of 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]

AFTER_WARMUP: dict[Schedule, Callable[[float], float]] = {  # share of the steps after warm-up that are taken -> rate
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}


def rate_share(step: int, steps: int, warmup_ratio: float, schedule: Schedule) -> float:
    """The share of the learning rate at which step 0, 1, ... of a training is taken; the last one is never warm-up.

    >>> [round(rate_share(step, 5, 0.3, "linear"), 2) for step in range(5)]
    [0.33, 0.67, 1.0, 0.67, 0.33]
    >>> rate_share(0, 1, 0.05, "cosine"), rate_share(0, 2, 0.05, "cosine")
    (1.0, 0.5)
    """
    warmup = min(math.ceil(warmup_ratio * steps), steps - 1)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return AFTER_WARMUP[schedule](min(1.0, (step - warmup) / (steps - warmup)))
