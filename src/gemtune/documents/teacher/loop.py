"""The one loop over every teacher: reserve, write the intent, send, store, settle; then wait, correct or give up."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from gemtune.documents.teacher.budget import Budget, Estimate, cost_of, size_of
from gemtune.documents.teacher.exchange import Reply, Request, Say, Send, Usage
from gemtune.documents.teacher.failures import ANSWERED, KINDS, Failure, Place, TeacherError
from gemtune.documents.teacher.ledger import Charge, Intent, Ledger
from gemtune.documents.teacher.pacing import Pace, Patience
from gemtune.documents.teacher.reply_store import ReplyStore, StoredReply
from gemtune.documents.teacher.settling import charge_of, stored_reply
from gemtune.recipe.document_sections import Teacher

_FAILING_PAGES = 10  # in a row, without an answer between them: it is not the pages
_BAD_REQUESTS = 3  # of different pages, before any answer
_KEPT = "run it again later: what is paid for is kept"


@dataclass
class _Health:
    """Whether the endpoint answers at all."""

    place: Place
    attempts: int
    patience: Patience
    ever: bool = False
    row: int = 0  # failures since the last answer
    pages: set[str] = field(default_factory=set)  # that they are of
    last: float = field(default_factory=time.monotonic)

    def answered(self) -> None:
        self.ever, self.row, self.last = True, 0, time.monotonic()
        self.pages.clear()

    def failed(self, key: str, failure: Failure) -> None:
        """TeacherError where it is not this page that fails."""
        self.row += 1
        url, said = self.place.url, failure.said
        if failure.wait > self.patience.servers:
            raise TeacherError(f"{url} wants to be left alone for {failure.wait / 60:.0f} min ({said}); {_KEPT}")
        silence = time.monotonic() - self.last
        if silence > self.patience.silence:
            raise TeacherError(f"{url} has not answered for {silence / 60:.0f} min ({failure.kind}: {said}); {_KEPT}")
        if failure.kind in ("rate limit", "other dialect"):
            return
        self.pages.add(key)
        if not self.ever and failure.kind in ("unreachable", "no answer") and self.row >= self.attempts:
            raise TeacherError(f"{url}: {failure.kind} ({said}); check teacher.url, and that the server runs")
        if not self.ever and failure.kind == "bad request" and len(self.pages) >= _BAD_REQUESTS:
            raise TeacherError(f"{url} takes none of the requests ({said}); check teacher.model and its other keys")
        if len(self.pages) >= _FAILING_PAGES:
            raise TeacherError(f"{url}: the last {self.row} requests all failed ({failure.kind}: {said}); {_KEPT}")


class Loop:
    """Asks for one reply at a time; many threads may."""

    def __init__(
        self,
        teacher: Teacher,
        send: Send,
        place: Place,
        ledger: Ledger,
        store: ReplyStore,
        patience: Patience,
        say: Say,
    ):
        self.teacher, self.ledger, self.store = teacher, ledger, store
        self.estimate, self.budget, self.pace = Estimate(teacher, ledger), Budget(teacher, ledger), Pace(teacher)
        self._send, self._say, self._patience = send, say, patience
        self._health, self._lock = _Health(place, teacher.attempts, patience), threading.Lock()

    def reply(self, key: str, request: Request) -> Reply:
        """The reply to a request, or why it gets none; TeacherError or Stopped where no request gets one now."""
        asked, failures = request, 0
        while (problem := self.problem(key)) is None:
            try:
                stored = self._asked(key, asked, request)
            except Failure as failure:
                failures += 1
                self._after(failure, failures)
                continue
            if stored.outcome == ANSWERED:
                return stored.reply_to(request)
            if stored.outcome == "wrong reply":
                asked = request.corrected(stored.raw, tuple(stored.faults))
        return Reply(request, None, "", problem, Usage())

    def problem(self, key: str) -> str | None:
        """Why a reply is not asked for any more."""
        outcomes = self.ledger.outcomes(key, self.teacher.max_tokens)
        for kind, count in outcomes.items():
            if count >= (KINDS[kind].tries or self.teacher.attempts):
                return _given_up(kind, count, self.ledger.last_words(key), self.teacher)
        if outcomes.total() >= self.teacher.attempts:
            return _given_up(" and ".join(outcomes), outcomes.total(), self.ledger.last_words(key), self.teacher)
        return None

    def _asked(self, key: str, asked: Request, request: Request) -> StoredReply:
        """Sends one request; its intent is on the disk before, its reply and its charge after."""
        size = size_of(asked)
        most = self.estimate.most(asked.task, size)
        likely = self.estimate.mean(asked.task) or most
        with self.pace.turn(likely.total) as began, self.store.room(key, self.teacher.max_tokens) as room:
            self.budget.reserve(most)
            charged = Usage()
            try:
                self.pace.check()
                intent = self.ledger.begin(request, self.teacher.model, key, size, most, cost_of(most, self.teacher))
                charged = most  # until it is known what became of it
                try:
                    answer = self._send(asked, intent.intent)
                except (Failure, TeacherError) as failure:
                    charged = self._failed(key, intent, failure, began)
                    raise
                with self._lock:
                    self._health.answered()
                stored = stored_reply(request, answer, intent, self.teacher)
                charged = self.keep(key, room, stored, intent)
            finally:
                self.budget.settle(most, charged)
                self.pace.correct(likely.total, charged.total)
            self.pace.succeeded()
        return stored

    def keep(self, key: str, room: Path, stored: StoredReply, intent: Intent) -> Usage:
        """Stores a reply, then settles its intent."""
        self.store.put(key, room, stored)
        charge = Charge.from_json(stored.charge, "the charge of a reply")
        self.ledger.settle(charge)
        if charge.counted and stored.outcome == ANSWERED:
            self.estimate.learn(intent.task, intent.size, charge.usage)
        return charge.usage

    def _failed(self, key: str, intent: Intent, failure: Failure | TeacherError, began: float) -> Usage:
        """Settles a request without an answer; gives what of its reservation stays."""
        charge = charge_of(failure, intent, self.teacher)
        self.ledger.settle(charge)
        if isinstance(failure, Failure):
            if failure.kind == "rate limit":
                self.pace.limited(began)
            with self._lock:
                self._health.failed(key, failure)
        return Usage(intent.input, intent.output) if charge.maybe else charge.usage

    def _after(self, failure: Failure, failures: int) -> None:
        """Waits as long as the server says, or longer."""
        if failure.kind == "other dialect":
            self._say(f"the endpoint says: {failure.said}; it is asked without from here on")
            return
        is_shared = KINDS[failure.kind].shared
        seconds = max(failure.wait, self._patience.backoff(self._health.row if is_shared else failures))
        if is_shared:
            self.pace.wait(seconds)
        else:
            self.pace.pause(seconds)


def _given_up(kind: str, count: int, said: str, teacher: Teacher) -> str:
    """
    >>> _given_up("cut", 1, "", Teacher(max_tokens=500))
    'cut at 500 tokens; raise teacher.max_tokens'
    >>> _given_up("server error", 5, "overloaded", Teacher())
    'given up after 5 tries: server error (overloaded); raise teacher.attempts to try again'
    """
    if kind == "cut":
        return f"cut at {teacher.max_tokens:,} tokens; raise teacher.max_tokens"
    words = f" ({said})" if said else ""
    if KINDS.get(kind, KINDS["server error"]).tries:
        return f"{kind}{words}"
    return f"given up after {count} tries: {kind}{words}; raise teacher.attempts to try again"
