"""What a request may cost at most, reserved before it is sent, so that a budget is never passed by those under way."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from dataclasses import dataclass, field

from gemtune.documents.teacher.exchange import Request, Usage
from gemtune.documents.teacher.failures import TeacherError
from gemtune.documents.teacher.ledger import Ledger
from gemtune.recipe.document_sections import Teacher

_PATCH = 14  # pixels of a side for which the finest of vision models takes a token
_BYTES_A_TOKEN = 2  # of a prompt; English has about 4
_AROUND = 100  # tokens of a chat's own words
_SLACK = 1.1  # above the most that was seen


def cost_of(usage: Usage, teacher: Teacher, share: float = 1.0) -> float | None:
    """In the currency of the recipe's prices, of which a batch pays a share; None without them.

    >>> cost_of(Usage(1_000_000, 500_000), Teacher(input_price=2.0, output_price=8.0))
    6.0
    """
    if teacher.input_price is None or teacher.output_price is None:
        return None
    return share * (usage.input * teacher.input_price + usage.output * teacher.output_price) / 1e6


@dataclass
class _Seen:
    """Of the answered requests of a task."""

    count: int = 0
    usage: Usage = field(default_factory=Usage)
    most_input: int = 0
    most_per_size: float = 0.0

    def add(self, size: int, usage: Usage) -> None:
        self.count += 1
        self.usage += usage
        self.most_input = max(self.most_input, usage.input)
        self.most_per_size = max(self.most_per_size, usage.input / size)


class Estimate:
    """The tokens of a request, learned from those that were answered; before that, more than any model takes."""

    def __init__(self, teacher: Teacher, ledger: Ledger):
        self._teacher = teacher
        self._lock = threading.Lock()
        self._of_task: defaultdict[str, _Seen] = defaultdict(_Seen)
        for intent, usage in ledger.usages(teacher.model):
            self._of_task[intent.task].add(intent.size, usage)

    def learn(self, task: str, size: int, usage: Usage) -> None:
        """Takes in what an answered request took."""
        with self._lock:
            self._of_task[task].add(size, usage)

    def most(self, task: str, size: int) -> Usage:
        """The most that a request takes."""
        with self._lock:
            seen = self._of_task[task]
            likely = max(size * seen.most_per_size, seen.most_input) if seen.count else size
            return Usage(math.ceil(_SLACK * likely), self._teacher.max_tokens)

    def mean(self, task: str) -> Usage | None:
        """What a request of a task takes on average; None before one was answered."""
        with self._lock:
            count, usage = self._of_task[task].count, self._of_task[task].usage
        if not count:
            return None
        return Usage(round(usage.input / count), round(usage.output / count), round(usage.thinking / count))


def size_of(request: Request) -> int:
    """The tokens of a request to a model that takes one for each small patch of an image and each two bytes of text."""
    from PIL import Image

    with Image.open(request.image) as picture:
        width, height = picture.size
    text = len(request.prompt.encode("utf-8", "surrogatepass")) + (len(str(request.schema)) if request.schema else 0)
    return math.ceil(width / _PATCH) * math.ceil(height / _PATCH) + text // _BYTES_A_TOKEN + _AROUND


class Budget:
    """What may still be spent on a model. What may have been charged for nothing counts as charged."""

    def __init__(self, teacher: Teacher, ledger: Ledger):
        self._teacher = teacher
        total = ledger.total(teacher.model)
        self._cost, self._tokens = total.cost + total.open_cost, total.usage.total + total.open_usage.total
        self._under_way = 0
        self._changed = threading.Condition()

    def reserve(self, most: Usage, share: float = 1.0) -> None:
        """Waits until there is money for a request; TeacherError when there will be none."""
        with self._changed:
            while not self._has(most, share):
                if not self._under_way:
                    raise TeacherError(self._reached(most, share))
                self._changed.wait()
            self._cost += cost_of(most, self._teacher, share) or 0.0
            self._tokens += most.total
            self._under_way += 1

    def has(self, most: Usage, share: float = 1.0) -> bool:
        """Whether there is money for a request now."""
        with self._changed:
            return self._has(most, share)

    def resume(self, requests: int) -> None:
        """Takes on requests that another process has reserved for."""
        with self._changed:
            self._under_way += requests

    def settle(self, reserved: Usage, charged: Usage, share: float = 1.0) -> None:
        """Gives back what of a reservation was not charged."""
        with self._changed:
            was, now = cost_of(reserved, self._teacher, share), cost_of(charged, self._teacher, share)
            self._cost += (now or 0.0) - (was or 0.0)
            self._tokens += charged.total - reserved.total
            self._under_way -= 1
            self._changed.notify_all()

    def _has(self, most: Usage, share: float) -> bool:
        money, tokens = self._teacher.budget, self._teacher.budget_tokens
        cost = cost_of(most, self._teacher, share) or 0.0
        return (money is None or self._cost + cost <= money) and (tokens is None or self._tokens + most.total <= tokens)

    def _reached(self, most: Usage, share: float) -> str:
        money, cost = self._teacher.budget, cost_of(most, self._teacher, share) or 0.0
        if money is not None and self._cost + cost > money:
            key, limit, spent, more = "budget", f"{money:g}", f"{self._cost:.4g}", f"{cost:.4g}"
        else:
            key, limit = "budget_tokens", f"{self._teacher.budget_tokens:,}"
            spent, more = f"{self._tokens:,}", f"{most.total:,}"
        return (
            f"teacher.{key} of {limit} is reached: {spent} is spent or reserved, and the next reply may take {more}; "
            "raise it and run again: what is paid for is kept"
        )
