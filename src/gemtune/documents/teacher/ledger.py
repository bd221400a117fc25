"""The ledger: an intent before each request is sent, a charge after; what a killed run may have paid twice is its rest.

One process writes it at a time. A line is on the disk before the next step, so the sum of the lines is what was spent.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout

from gemtune.documents.teacher.exchange import Request, Usage
from gemtune.documents.teacher.failures import ANSWERED, KINDS
from gemtune.errors import RunError
from gemtune.files import JsonObject, os_errors
from gemtune.run_files import Stored


@dataclass(frozen=True, kw_only=True)
class Intent(Stored):
    """A request that is about to be sent."""

    intent: Annotated[str, "its id, which the endpoint gets as `X-Client-Request-Id`"]
    at: Annotated[str, "UTC"]
    model: str
    document: str
    page: int
    task: str
    sample: int
    reply: Annotated[str, "the key of the reply that it is for, by which it is kept in `replies`"]
    size: Annotated[int, "of its image and prompt, in the smallest tokens that any model has", "tokens"]
    input: Annotated[int, "at most, as estimated", "tokens"]
    output: Annotated[int, "at most: `teacher.max_tokens`", "tokens"]
    cost: Annotated[float | None, "reserved; null without prices"]

    def __str__(self) -> str:
        return f"{self.document} page {self.page}, {self.task} ({self.model}, {self.at})"


@dataclass(frozen=True, kw_only=True)
class Charge(Stored):
    """What became of an intent."""

    charge: Annotated[str, "the intent's id"]
    outcome: Annotated[str, "answered, or how it failed"]
    input: Annotated[int, "", "tokens"] = 0
    output: Annotated[int, "thinking included", "tokens"] = 0
    thinking: Annotated[int, "", "tokens"] = 0
    cost: Annotated[float | None, "null without prices"] = None
    maybe: Annotated[bool, "whether it may have been charged, though nothing arrived; then not in `cost`"] = False
    counted: Annotated[bool, "whether the tokens are the endpoint's; else they are estimated"] = True
    said: Annotated[str, "why it failed, in the endpoint's words"] = ""

    @property
    def usage(self) -> Usage:
        return Usage(self.input, self.output, self.thinking)


@dataclass(frozen=True, kw_only=True)
class Batch(Stored):
    """Intents that go to the endpoint's batch API together; the last line of a batch counts."""

    batch: Annotated[str, "its name, which the endpoint gets, too"]
    at: Annotated[str, "UTC"]
    model: str
    intents: list[str]
    job: Annotated[str | None, "the endpoint's id of it; null before it has one"] = None
    ended: Annotated[bool, "whether its results are stored"] = False


@dataclass
class Total:
    """What a model has cost, on a day or in all."""

    requests: int = 0
    answered: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    open: int = 0  # intents without a result, and results that may have been charged
    open_cost: float = 0.0  # what was reserved for them
    open_usage: Usage = field(default_factory=Usage)

    def to_json(self) -> JsonObject:
        return asdict(self)


class Ledger:
    """The lines of ledger.jsonl, and the file to append to.

    >>> ledger = Ledger(Path("no/ledger.jsonl"))
    >>> ledger.total("m").requests
    0
    """

    def __init__(self, path: Path, sending: Callable[[Request], None] | None = None):
        self.path = path
        self._sending = sending
        self.intents: dict[str, Intent] = {}
        self.charges: dict[str, Charge] = {}
        self.batches: dict[str, Batch] = {}
        self._lock = threading.Lock()
        self._file = -1
        self._of_reply: defaultdict[str, list[str]] = defaultdict(list)
        for number, line in enumerate(_whole_lines(path), 1):
            try:
                self._take(json.loads(line), f"{path}:{number}")
            except ValueError as error:
                raise RunError(f"{path}:{number}: broken JSON ({error}); remove that line to go on") from error

    def _take(self, line: JsonObject, where: str) -> None:
        if "intent" in line:
            self._add(Intent.from_json(line, where))
        elif "batch" in line:
            self._add(Batch.from_json(line, where))
        else:
            self._add(Charge.from_json(line, where))

    def _add(self, line: Intent | Charge | Batch) -> None:
        if isinstance(line, Batch):
            self.batches[line.batch] = line
        elif isinstance(line, Intent):
            self.intents[line.intent] = line
            self._of_reply[line.reply].append(line.intent)
        else:
            self.charges[line.charge] = line

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path, sending: Callable[[Request], None] | None = None) -> Iterator[Ledger]:
        """The ledger, to be written by this process alone; a line that a kill has torn is taken off its end.

        `sending` is told of every request before it is sent.
        """
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunError(f"{path}: another gemtune asks the teacher for it; wait for it to end") from error
        try:
            ledger = cls(path, sending)
            with os_errors(path):
                ledger._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.ftruncate(ledger._file, sum(len(line) + 1 for line in _whole_lines(path)))
            yield ledger
        finally:
            if ledger._file >= 0:
                os.close(ledger._file)
            lock.release()

    def begin(self, request: Request, model: str, reply: str, size: int, most: Usage, cost: float | None) -> Intent:
        """Writes that a request is about to be sent."""
        intent = Intent(
            intent=uuid.uuid4().hex,
            at=now(),
            model=model,
            document=request.document,
            page=request.page,
            task=request.task,
            sample=request.sample,
            reply=reply,
            size=size,
            input=most.input,
            output=most.output,
            cost=cost,
        )
        self._append(intent)
        if self._sending:
            self._sending(request)
        return intent

    def settle(self, charge: Charge) -> None:
        """Writes what became of it."""
        self._append(charge)

    def note(self, batch: Batch) -> None:
        """Writes how far a batch is."""
        self._append(batch)

    def batches_under_way(self, model: str) -> list[Batch]:
        """Those of a model whose results are not stored yet."""
        return [batch for batch in self.batches.values() if batch.model == model and not batch.ended]

    def _append(self, line: Intent | Charge | Batch) -> None:
        data = (json.dumps(line.to_json(), ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        with self._lock, os_errors(self.path):
            size = os.fstat(self._file).st_size
            try:
                if os.write(self._file, data) != len(data):
                    raise OSError(28, "No space left on device")
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)  # half a line would hide the next one
                raise
            self._add(line)

    def open_intents(self) -> list[Intent]:
        """Those without a result: a process was killed while it waited, and the reply may have been paid for."""
        return [intent for name, intent in self.intents.items() if name not in self.charges]

    def maybe_charged(self) -> list[Intent]:
        """Those without a result, and those whose reply was lost on the way: what may have been paid for nothing."""
        return [intent for name, intent in self.intents.items() if self._is_open(name)]

    def _is_open(self, intent: str) -> bool:
        charge = self.charges.get(intent)
        return charge is None or charge.maybe

    def outcomes(self, reply: str, max_tokens: int) -> Counter[str]:
        """How the requests for a reply have failed; a cut counts only where no more tokens are allowed now."""
        found: Counter[str] = Counter()
        for intent in self._of_reply[reply]:
            charge = self.charges.get(intent)
            is_longer_now = charge and charge.outcome == "cut" and self.intents[intent].output < max_tokens
            if charge and KINDS[charge.outcome].strikes and not is_longer_now:
                found[charge.outcome] += 1
        return found

    def last_words(self, reply: str) -> str:
        """What was said when a request for a reply last failed."""
        said = (self.charges[name].said for name in reversed(self._of_reply[reply]) if name in self.charges)
        return next(filter(None, said), "")

    def usages(self, model: str) -> Iterator[tuple[Intent, Usage]]:
        """What the answered requests to a model took, by the endpoint's count."""
        for name, charge in self.charges.items():
            intent = self.intents.get(name)
            if intent and intent.model == model and charge.outcome == ANSWERED and charge.counted:
                yield intent, charge.usage

    def total(self, model: str | None = None, day: str | None = None) -> Total:
        """What a model, or all, have cost on a day such as `2026-11-28`, or ever."""
        total = Total()
        for name, intent in list(self.intents.items()):
            if model not in (None, intent.model) or not intent.at.startswith(day or ""):
                continue
            charge = self.charges.get(name)
            total.requests += 1
            if charge:
                total.answered += charge.outcome == ANSWERED
                total.usage += charge.usage
                total.cost += charge.cost or 0.0
            if self._is_open(name):
                total.open += 1
                total.open_cost += intent.cost or 0.0
                total.open_usage += Usage(intent.input, intent.output)
        return total

    def totals(self) -> dict[str, dict[str, Total]]:
        """By model and day."""
        days = sorted({(intent.model, intent.at[:10]) for intent in self.intents.values()})
        found: dict[str, dict[str, Total]] = {}
        for model, day in days:
            found.setdefault(model, {})[day] = self.total(model, day)
        return found


def now() -> str:
    """The time, as lines of the ledger have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _whole_lines(path: Path) -> list[bytes]:
    """The lines that end; what a kill has cut off the last one was never acted upon."""
    if not path.exists():
        return []
    with os_errors(path):
        return path.read_bytes().split(b"\n")[:-1]
