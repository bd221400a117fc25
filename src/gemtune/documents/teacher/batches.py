"""Replies by an endpoint's batch API: half the price, hours later, into the same cache; jobs outlive this process."""

from __future__ import annotations

import itertools
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import IO, Protocol, TypeVar

from gemtune.documents.teacher.budget import cost_of, size_of
from gemtune.documents.teacher.exchange import Answer, Reply, Request, Say, Usage
from gemtune.documents.teacher.failures import ANSWERED, KINDS, Failure, TeacherError
from gemtune.documents.teacher.ledger import Batch, Charge, Intent, now
from gemtune.documents.teacher.loop import Loop
from gemtune.documents.teacher.pacing import Patience
from gemtune.documents.teacher.settling import charge_of, stored_reply
from gemtune.files import os_errors

SHARE = 0.5  # of the price: so it is at OpenAI and at Google
_TRIES = 20  # of a call that asks about a batch
_KEPT = "run it again later: what is paid for is kept"

T = TypeVar("T")


class BatchEndpoint(Protocol):
    """An endpoint's batch API."""

    most_bytes: int  # of a job's requests
    most_requests: int

    def line(self, request: Request, name: str) -> bytes:
        """A request as a line of a job, `name` its id in the ledger."""
        ...

    def create(self, name: str, lines: IO[bytes]) -> str:
        """Hands lines over as a job and returns its id; `name` is ours."""
        ...

    def find(self, name: str) -> str | None:
        """The id of the job of a name, if it was created."""
        ...

    def state(self, job: str) -> str | None:
        """None while it runs; then empty, or why there are no results."""
        ...

    def results(self, job: str, requests: Mapping[str, Request]) -> Iterator[tuple[str, Answer | Failure]]:
        """What became of each request, by its id."""
        ...


class Batches:
    """Asks for many replies by batches."""

    def __init__(self, loop: Loop, endpoint: BatchEndpoint, place: str, patience: Patience, say: Say):
        self._loop, self._endpoint, self._place, self._patience, self._say = loop, endpoint, place, patience, say

    def replies(self, missing: Mapping[str, Request]) -> Iterator[tuple[str, Reply]]:
        """Yields each key with its reply; batches that another process has sent are waited for first."""
        asked, ledger, model = dict(missing), self._loop.ledger, self._loop.teacher.model
        self._loop.budget.resume(sum(len(self._open(batch)) for batch in ledger.batches_under_way(model)))
        while asked or ledger.batches_under_way(model):
            batches = [self._placed(batch) for batch in ledger.batches_under_way(model)] or self._sent(asked)
            progress = 0
            for batch, problem in self._ended([batch for batch in batches if batch.job]):
                if problem:
                    self._drop(batch, problem)
                else:
                    progress += self._collected(batch, asked)
                yield from self._settled(asked, missing)
            if not progress and any(batch.job for batch in batches):
                raise TeacherError(
                    f"{self._place}: a batch ended without a reply ({self._last_words(batches)}); {_KEPT}"
                )

    def _settled(self, asked: dict[str, Request], missing: Mapping[str, Request]) -> Iterator[tuple[str, Reply]]:
        """Those that are answered now, or given up."""
        for key in list(asked):
            stored, problem = self._loop.store.get(key), self._loop.problem(key)
            if stored and stored.outcome == ANSWERED:
                yield key, stored.reply_to(missing[key])
            elif problem is not None:
                yield key, Reply(missing[key], None, "", problem, Usage())
            else:
                continue
            del asked[key]

    def _open(self, batch: Batch) -> list[Intent]:
        ledger = self._loop.ledger
        return [ledger.intents[name] for name in batch.intents if name not in ledger.charges]

    def _sent(self, asked: Mapping[str, Request]) -> list[Batch]:
        """Batches of all that there is money for now, each within the endpoint's sizes; TeacherError for no money."""
        sent, left = list[Batch](), list(asked.items())
        while left and (not sent or self._is_affordable(left[0][1])):
            self._loop.store.folder.mkdir(parents=True, exist_ok=True)
            with os_errors(self._loop.store.folder), tempfile.TemporaryFile(dir=self._loop.store.folder) as lines:
                sent.append(self._created(self._filled(lines, left), lines))
        count = sum(len(batch.intents) for batch in sent)
        self._say(
            f"{count} requests went out in {len(sent)} batches: {self._place} may take a day. This waits; end it, and "
            "run it again later, as you like"
        )
        return sent

    def _most(self, request: Request) -> Usage:
        return self._loop.estimate.most(request.task, size_of(request))

    def _is_affordable(self, request: Request) -> bool:
        return self._loop.budget.has(self._most(request), SHARE)

    def _filled(self, lines: IO[bytes], left: list[tuple[str, Request]]) -> Batch:
        """Writes lines until a batch is full or the money is out; their intents are in the ledger then."""
        loop, endpoint, teacher = self._loop, self._endpoint, self._loop.teacher
        names: list[str] = []
        while left and len(names) < endpoint.most_requests and (not names or self._is_affordable(left[0][1])):
            key, request = left[0]
            data = endpoint.line(request, "0" * 32)
            if names and lines.tell() + len(data) >= endpoint.most_bytes:
                break
            most = self._most(request)
            loop.budget.reserve(most, SHARE)
            cost = cost_of(most, teacher, SHARE)
            intent = loop.ledger.begin(request, teacher.model, key, size_of(request), most, cost)
            names.append(intent.intent)
            lines.write(data.replace(b"0" * 32, intent.intent.encode(), 1) + b"\n")
            left.pop(0)
        batch = Batch(batch=uuid.uuid4().hex, at=now(), model=teacher.model, intents=names)
        loop.ledger.note(batch)
        return batch

    def _created(self, batch: Batch, lines: IO[bytes]) -> Batch:
        """Hands a batch over, once: after a call of which nothing came back it is looked for first."""
        is_unsure = False

        def create() -> str:
            nonlocal is_unsure
            if is_unsure and (there := self._endpoint.find(batch.batch)):
                return there
            is_unsure = True
            lines.seek(0)
            try:
                return self._endpoint.create(batch.batch, lines)
            except TeacherError as error:
                self._drop(batch, str(error))
                raise

        placed = replace(batch, job=self._tried(create))
        self._loop.ledger.note(placed)
        return placed

    def _placed(self, batch: Batch) -> Batch:
        """A batch that an ended process left: with its job, or settled where it was never created."""
        if batch.job:
            return batch
        job = self._tried(lambda: self._endpoint.find(batch.batch))
        if job is None:
            self._drop(batch, "the batch was never sent")
            return batch
        placed = replace(batch, job=job)
        self._loop.ledger.note(placed)
        return placed

    def _drop(self, batch: Batch, why: str) -> None:
        """Settles a batch that was not worked on."""
        self._settle_undone(self._open(batch), why)
        self._loop.ledger.note(replace(batch, ended=True))

    def _settle_undone(self, intents: list[Intent], why: str) -> None:
        """Settles what was not worked on, and so not charged."""
        for intent in intents:
            self._loop.ledger.settle(charge_of(TeacherError(why), intent, self._loop.teacher))
            self._loop.budget.settle(Usage(intent.input, intent.output), Usage(), SHARE)

    def _ended(self, batches: list[Batch]) -> Iterator[tuple[Batch, str]]:
        """Yields each batch when it has ended, and why there are no results, if there are none."""
        running, seconds = list(batches), self._patience.first
        while running:
            for batch in list(running):
                state = self._tried(partial(self._endpoint.state, batch.job or ""))
                if state is not None:
                    running.remove(batch)
                    yield batch, state
            if running:
                time.sleep(seconds)
                seconds = min(self._patience.longest, seconds * 2)

    def _collected(self, batch: Batch, asked: dict[str, Request]) -> int:
        """Stores what a batch has brought, and says how much of it was of any use or told us something."""
        loop, told = self._loop, 0
        waiting = {intent.intent: intent for intent in self._open(batch)}
        names = list(waiting)
        requests = {name: asked[intent.reply] for name, intent in waiting.items() if intent.reply in asked}
        for name, result in self._results(batch, requests) if names else ():
            intent = waiting.pop(name, None)
            if intent is None:
                continue
            told += isinstance(result, Answer) or KINDS[result.kind].strikes or result.kind == "other dialect"
            reserved = Usage(intent.input, intent.output)
            if isinstance(result, Failure):
                charge = charge_of(result, intent, loop.teacher, SHARE)
                loop.ledger.settle(charge)
                loop.budget.settle(reserved, reserved if charge.maybe else charge.usage, SHARE)
                continue
            stored = stored_reply(requests[name], result, intent, loop.teacher, SHARE)
            with loop.store.room(intent.reply, loop.teacher.max_tokens) as room:
                loop.budget.settle(reserved, loop.keep(intent.reply, room, stored, intent), SHARE)
            if stored.outcome == "wrong reply":
                asked[intent.reply] = requests[name].corrected(stored.raw, tuple(stored.faults))
        others = [intent for name, intent in waiting.items() if name not in requests]
        for intent in others:  # of another prompt or schema than the recipe has now: its reply is not read
            loop.ledger.settle(Charge(charge=intent.intent, outcome="stopped", maybe=True, said="not asked for now"))
            loop.budget.settle(most := Usage(intent.input, intent.output), most, SHARE)
        self._settle_undone([one for name, one in waiting.items() if name in requests], "the batch ended without it")
        loop.ledger.note(replace(batch, ended=True))
        return told + len(others) or not names

    def _results(self, batch: Batch, requests: Mapping[str, Request]) -> list[tuple[str, Answer | Failure]]:
        return self._tried(lambda: list(self._endpoint.results(batch.job or "", requests)))

    def _last_words(self, batches: list[Batch]) -> str:
        charges = self._loop.ledger.charges
        said = (charges[name].said for batch in batches for name in batch.intents if name in charges)
        return next(filter(None, said), "it says no more")

    def _tried(self, call: Callable[[], T]) -> T:
        """What a call returns; it is made again after a failure, as often as is sensible."""
        for failures in itertools.count(1):
            try:
                return call()
            except Failure as failure:
                if failures == _TRIES:
                    raise TeacherError(f"{self._place}: {failure.kind} ({failure.said}); {_KEPT}") from failure
                time.sleep(max(failure.wait, self._patience.backoff(failures)))
        raise AssertionError("itertools.count ends")
