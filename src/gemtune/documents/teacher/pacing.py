"""The pace of a model's requests, shared by all workers: places, limits per minute, and the waits of its server."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gemtune.recipe.document_sections import Teacher

_FEWER = 0.75  # of the places, after a rate limit
_SUCCESSES = 25  # for one place more
_BURST = 6  # of a minute's requests or tokens, the part that may be taken at once


class Stopped(Exception):
    """No more requests are sent."""


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds."""

    first: float = 1.0  # after a failure; twice as long after the next, and so on
    longest: float = 120.0
    servers: float = 600.0  # a server that wants to be left alone for longer ends the run
    silence: float = 1800.0  # without any answer, then the run ends

    def backoff(self, failures: int) -> float:
        """Anything up to the doubled wait, so that workers do not come back together.

        >>> [Patience(first=0.0).backoff(3), Patience(longest=0.5).backoff(9) <= 0.5]
        [0.0, True]
        """
        return random.uniform(0, min(self.longest, self.first * 2 ** min(failures - 1, 30)))  # noqa: S311


class Bucket:
    """Fills by `per_minute` and is taken from; a large amount takes it below zero once it is full.

    >>> bucket = Bucket(60, now=0.0)
    >>> [bucket.seconds_until(10, 0.0), bucket.take(10), bucket.seconds_until(1, 0.0), bucket.seconds_until(1, 1.0)]
    [0.0, None, 1.0, 0.0]
    """

    def __init__(self, per_minute: float, now: float):
        self._per_second = per_minute / 60
        self._full = max(1.0, per_minute / _BURST)
        self._level, self._at = self._full, now

    def seconds_until(self, amount: float, now: float) -> float:
        """Until so much can be taken."""
        self._level = min(self._full, self._level + (now - self._at) * self._per_second)
        self._at = now
        return max(0.0, (min(amount, self._full) - self._level) / self._per_second)

    def take(self, amount: float) -> None:
        self._level -= amount


class Pace:
    """Who may send now."""

    def __init__(self, teacher: Teacher):
        self._most = self._places = float(teacher.concurrency)
        self._active, self._successes = 0, 0
        self._not_before = self._reduced = time.monotonic()
        self._changed = threading.Condition()
        self._stopped = False
        self._requests = _bucket(teacher.requests_per_minute)
        self._tokens = _bucket(teacher.tokens_per_minute)

    @property
    def places(self) -> int:
        """Requests that may be under way at once."""
        return int(self._places)

    @contextlib.contextmanager
    def turn(self, tokens: int) -> Iterator[float]:
        """Holds a place, once there is one and the limits allow a request of so many tokens; gives when it began."""
        with self._changed:
            while (wait := self._seconds_until(tokens)) != 0.0:
                self._changed.wait(wait)
            for bucket, amount in ((self._requests, 1), (self._tokens, tokens)):
                if bucket:
                    bucket.take(amount)
            self._active += 1
        try:
            yield time.monotonic()
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _seconds_until(self, tokens: int) -> float | None:
        """0: now; None: until something changes."""
        self.check()
        if self._active >= self.places:
            return None
        now = time.monotonic()
        waits = [self._not_before - now]
        waits += [self._requests.seconds_until(1, now)] if self._requests else []
        waits += [self._tokens.seconds_until(tokens, now)] if self._tokens else []
        return max(0.0, *waits)

    def check(self) -> None:
        """Stopped where no more is to be sent."""
        if self._stopped:
            raise Stopped

    def correct(self, estimated: int, used: int) -> None:
        """Takes what a reply really took of the minute's tokens, not what it was thought to."""
        with self._changed:
            if self._tokens:
                self._tokens.take(used - estimated)
                self._changed.notify_all()

    def succeeded(self) -> None:
        with self._changed:
            self._successes += 1
            if self._successes >= _SUCCESSES:
                self._successes, self._places = 0, min(self._most, self._places + 1)
                self._changed.notify_all()

    def limited(self, began: float) -> None:
        """Takes places away: once for all that were under way when the limit was met."""
        with self._changed:
            if began > self._reduced:
                self._places, self._successes, self._reduced = max(1.0, self._places * _FEWER), 0, time.monotonic()

    def wait(self, seconds: float) -> None:
        """No worker sends for so long."""
        with self._changed:
            self._not_before = max(self._not_before, time.monotonic() + seconds)
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """This worker does nothing for so long, or until all are stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, seconds)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _bucket(per_minute: int | None) -> Bucket | None:
    return Bucket(per_minute, time.monotonic()) if per_minute else None
