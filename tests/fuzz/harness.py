"""Tries hostile inputs on a target, and keeps what came of it: how many, the faults, the slowest, the most memory.

The rule: of an input only a GemtuneError may come, within the target's limits of time and memory.
"""

from __future__ import annotations

import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.strategies import SearchStrategy

from gemtune.errors import GemtuneError

SHRINKING = 30.0  # seconds for looking for a smaller input that fails in the same way
LONGEST = 2_000  # characters of an input that are printed

_SETTINGS = settings(
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    print_blob=False,
    verbosity=Verbosity.quiet,
)

Attempt = Callable[[Any, Path], None]


@dataclass(frozen=True)
class Target:
    """What is attacked: where inputs come from, and the work done on one in a scratch folder of its own."""

    inputs: SearchStrategy[Any]
    attempt: Attempt
    quick: int  # inputs in the tests, which have about two seconds a target
    seconds: float = 5.0  # for one input
    megabytes: int = 500  # that one input may add to the process


@dataclass(frozen=True)
class Fault:
    """An input that broke the rule, the smallest found, and where it broke."""

    kind: str
    value: str
    detail: str
    seed: int


@dataclass
class Tally:
    """What became of the inputs of a target."""

    tried: int = 0
    slowest: float = 0.0  # seconds
    megabytes: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.tried += other.tried
        self.slowest, self.megabytes = max(self.slowest, other.slowest), max(self.megabytes, other.megabytes)
        self.faults = other.faults | self.faults


class TooSlow(BaseException):
    """No Exception: code that catches those must not hold an input up."""


class TooLarge(BaseException):
    """An input for which the process grew beyond the limit."""


def fuzz(target: Target, folder: Path, number: int, count: int, until: float, tally: Tally) -> None:
    """Tries `count` inputs, those of seed `number`, or as many as there is time for until the clock says `until`.

    Each new fault is shrunk to the smallest input that Hypothesis finds within its time; the rest are then tried.
    """
    while time.monotonic() < until:
        trial = _Trial(target, folder, number, until, tally)
        try:
            trial.run(count)
        except BaseException:
            if not trial.found:
                raise
        if not trial.found:
            return
        tally.faults[trial.found.kind] = trial.found
        number = Random(number).getrandbits(32)


class _Trial:
    """One input after the other, until one breaks the rule in a new way; then smaller ones that break it the same way.

    Hypothesis calls it as a test: it raises what the target raised, so that shrinking keeps to that.
    """

    def __init__(self, target: Target, folder: Path, number: int, until: float, tally: Tally):
        self.target, self.folder, self.number, self.until, self.tally = target, folder, number, until, tally
        self.known = set(tally.faults)
        self.found: Fault | None = None
        self.shrink_until = 0.0

    def run(self, count: int) -> None:
        @seed(self.number)
        @settings(_SETTINGS, max_examples=count)
        @given(self.target.inputs)
        def test(value: Any) -> None:
            self.attempt(value)

        test()

    def attempt(self, value: Any) -> None:
        if time.monotonic() > (self.shrink_until if self.found else self.until):
            return
        error = self._error_of(value)
        if error is None:
            return
        kind = _kind_of(error)
        if kind in self.known or (self.found and kind != self.found.kind):
            return
        if self.found is None:
            # An input that takes seconds or a gigabyte is kept as it is.
            is_costly = isinstance(error, TooSlow | TooLarge | MemoryError)
            self.shrink_until = time.monotonic() + (0 if is_costly else SHRINKING)
        if self.found is None or len(repr(value)) <= len(self.found.value):
            self.found = Fault(kind, repr(value), "".join(traceback.format_exception(error)[-12:]), self.number)
        raise error

    def _error_of(self, value: Any) -> BaseException | None:
        """What an input raised that it must not raise; that it took too long, where it does so a second time."""
        (self.folder / "input").write_text(repr(value), encoding="utf-8", errors="backslashreplace")
        for is_last in (False, True):
            before, began = _memory(), time.monotonic()
            error = self._raised(value)
            seconds, grown = time.monotonic() - began, _peak() - before
            if is_last or not isinstance(error, TooSlow):  # the first time may be that of an import
                break
        self.tally.tried += 1
        self.tally.slowest, self.tally.megabytes = max(self.tally.slowest, seconds), max(self.tally.megabytes, grown)
        if error is None and grown > self.target.megabytes:
            return TooLarge(f"{grown:.0f} MB")
        return error

    def _raised(self, value: Any) -> BaseException | None:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        try:
            with _time_limit(self.target.seconds):
                self.target.attempt(value, scratch)
        except GemtuneError:
            return None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:
            return raised
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return None


def _kind_of(error: BaseException) -> str:
    """Where it broke: the exception, and the last line of gemtune's that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "gemtune" in Path(frame.filename).parts] or frames
    last = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return type(error).__name__ if isinstance(error, TooSlow | TooLarge) else f"{type(error).__name__} at {last}"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _memory() -> float:
    """The memory of this process now, in MB, from where its peak is counted."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1e3
