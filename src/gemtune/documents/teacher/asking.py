"""Asks a teacher for many replies: those that are there already, then a probe of each task, then all by workers."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from gemtune.documents.folder import DistilledFolder
from gemtune.documents.teacher.batches import BatchEndpoint, Batches
from gemtune.documents.teacher.budget import cost_of, size_of
from gemtune.documents.teacher.chat_batches import ChatBatches
from gemtune.documents.teacher.chat_completions import chat_completions
from gemtune.documents.teacher.exchange import Local, Reply, Request, Say, Send, Tick, Usage
from gemtune.documents.teacher.failures import ANSWERED, Place
from gemtune.documents.teacher.gemini import gemini
from gemtune.documents.teacher.gemini_batches import GeminiBatches
from gemtune.documents.teacher.given_replies import given_replies
from gemtune.documents.teacher.ledger import Ledger
from gemtune.documents.teacher.loop import Loop
from gemtune.documents.teacher.pacing import Patience, Stopped
from gemtune.documents.teacher.repair import read_reply
from gemtune.documents.teacher.reply_store import ReplyStore, key_of
from gemtune.errors import RecipeError
from gemtune.recipe.document_sections import Teacher

_PROBES = 3  # tries of a task, before the others go without knowing what it takes


@dataclass(frozen=True)
class Forecast:
    """What the replies that are not there yet will take, from the pages that were asked for before."""

    replies: int  # to ask for
    usage: Usage
    cost: float | None  # None: no prices

    def __str__(self) -> str:
        """
        >>> str(Forecast(400, Usage(600_000, 200_000), 2.6))
        '400 replies to ask for: about 600,000 tokens in and 200,000 out, or 2.60'
        """
        money = "" if self.cost is None else f", or {self.cost:.2f}"
        return (
            f"{self.replies:,} {'reply' if self.replies == 1 else 'replies'} to ask for: about {self.usage.input:,} "
            f"tokens in and {self.usage.output:,} out{money}"
        )


def ask(
    requests: Iterable[Request],
    teacher: Teacher,
    folder: DistilledFolder,
    *,
    say: Say = print,
    tick: Tick = lambda what, done, total: None,
    local: Local | None = None,
    patience: Patience | None = None,
    sending: Callable[[Request], None] | None = None,
) -> Iterator[Reply]:
    """Yields a reply to each request, in any order; what was paid for before is not asked again.

    `sending` is told of every request before it is sent. A reply with a `problem` has been given up, or is not there;
    TeacherError where the user has to act, after all that was under way is stored.
    """
    requests = list(requests)
    if teacher.provider == "files":
        yield from _from_files(requests, teacher, tick)
        return
    with _opened(requests, teacher, folder, say, local, patience or Patience(), sending) as asking:
        for done, reply in enumerate(asking.replies(), 1):
            tick(f"asking {teacher.model}", done, len(requests))
            yield reply


def forecast(
    requests: Iterable[Request],
    teacher: Teacher,
    folder: DistilledFolder,
    *,
    say: Say = print,
    local: Local | None = None,
    patience: Patience | None = None,
    sending: Callable[[Request], None] | None = None,
) -> Forecast:
    """What is still to be paid, from at most one page of each task, which is asked for where none was before."""
    if teacher.provider == "files":
        return Forecast(0, Usage(), None)
    with _opened(list(requests), teacher, folder, say, local, patience or Patience(), sending) as asking:
        for _ in asking.probes():
            pass
        return asking.forecast()


def _from_files(requests: list[Request], teacher: Teacher, tick: Tick) -> Iterator[Reply]:
    if not teacher.replies:
        raise RecipeError("teacher.replies: is missing; it names the JSONL or folder of replies")
    words_of = given_replies(Path(teacher.replies))
    for done, request in enumerate(requests, 1):
        words = words_of(request)
        if words is None:
            yield Reply(request, None, "", f"no reply to it in {teacher.replies}", Usage())
        else:
            reading = read_reply(words, request.schema)
            yield Reply(request, reading.value, reading.text, "; ".join(reading.faults) or None, Usage())
        tick("reading replies", done, len(requests))


@contextlib.contextmanager
def _opened(
    requests: list[Request],
    teacher: Teacher,
    folder: DistilledFolder,
    say: Say,
    local: Local | None,
    patience: Patience,
    sending: Callable[[Request], None] | None,
) -> Iterator[_Asking]:
    if not teacher.model:
        raise RecipeError(f"teacher.model: is missing; it names the model that {teacher.provider} has")
    with Ledger.opened(folder.ledger_file, sending) as ledger, _client(teacher, local) as client:
        store = ReplyStore(folder.replies)
        store.reconcile(ledger)
        batches = ledger.batches_under_way(teacher.model) if teacher.batch else []
        in_batches = {name for batch in batches for name in batch.intents}
        if lost := [intent for intent in ledger.open_intents() if intent.intent not in in_batches]:
            say(
                f"{len(lost)} requests were under way when a run was ended; they may be paid for twice: "
                + "; ".join(map(str, lost[:5]))
                + (f"; and {len(lost) - 5} more" if len(lost) > 5 else "")
            )
        loop = Loop(teacher, client.send, client.place, ledger, store, patience, say)
        by_batches = Batches(loop, client.batches, client.place.url, patience, say) if client.batches else None
        yield _Asking(requests, loop, by_batches, say)


@dataclass(frozen=True)
class _Client:
    send: Send
    place: Place
    batches: BatchEndpoint | None = None


@contextlib.contextmanager
def _client(teacher: Teacher, local: Local | None) -> Iterator[_Client]:
    if teacher.provider == "local":
        if local is None:
            raise TypeError("a local teacher is handed in: local=")
        yield _Client(lambda request, name: local(request), Place("this machine", teacher.model, None))
    elif teacher.provider == "gemini":
        with gemini(teacher) as google:
            yield _Client(google, google.place, GeminiBatches(google) if teacher.batch else None)
    else:
        with chat_completions(teacher) as chat:
            yield _Client(chat, chat.place, ChatBatches(chat) if teacher.batch else None)


class _Asking:
    """The replies to a list of requests, those of equal keys asked for once."""

    def __init__(self, requests: list[Request], loop: Loop, batches: Batches | None, say: Say):
        self._batches = batches
        self._loop, self._say, self._is_local = loop, say, loop.teacher.provider == "local"
        self._of_key: dict[str, list[Request]] = {}
        for request in requests:
            self._of_key.setdefault(key_of(request, loop.teacher), []).append(request)
        self._missing: dict[str, Request] = {}
        for key, same in self._of_key.items():
            stored = loop.store.get(key)
            if not (stored and stored.outcome == ANSWERED) and loop.problem(key) is None:
                self._missing[key] = same[0]

    def forecast(self) -> Forecast:
        """For all that is missing now; tasks of which nothing is known at the most they can take."""
        usage, loop = Usage(), self._loop
        for task, count in Counter(request.task for request in self._missing.values()).items():
            one = loop.estimate.mean(task)
            if one is None:
                one = loop.estimate.most(task, size_of(self._first(task)))
            usage += Usage(one.input * count, one.output * count, one.thinking * count)
        return Forecast(len(self._missing), usage, cost_of(usage, loop.teacher))

    def replies(self) -> Iterator[Reply]:
        for key, same in self._of_key.items():
            if key not in self._missing:
                yield from self._known(key, same)
        yield from self.probes()
        if self._missing and not self._is_local:
            self._say(self._forecast_line())
        if self._batches:
            for key, reply in self._batches.replies(self._missing):
                yield from (replace(reply, request=same) for same in self._of_key[key])
        else:
            yield from self._by_workers()

    def _known(self, key: str, same: list[Request]) -> Iterator[Reply]:
        stored, problem = self._loop.store.get(key), self._loop.problem(key)
        for request in same:
            is_of_use = stored is not None and stored.outcome == ANSWERED
            yield stored.reply_to(request) if stored and is_of_use else Reply(request, None, "", problem, Usage())

    def _forecast_line(self) -> str:
        there, teacher = self.forecast(), self._loop.teacher
        if teacher.budget is not None and there.cost and there.cost > teacher.budget:
            return f"{there}, more than teacher.budget of {teacher.budget:g}: it stops there"
        return str(there)

    def probes(self) -> Iterator[Reply]:
        """Asks for one page of each task of which it is not known what it takes, one after the other."""
        loop = self._loop
        unknown = [task for task in self._tasks() if loop.estimate.mean(task) is None]
        if unknown and not self._is_local:
            most = sum((loop.estimate.most(task, size_of(self._first(task))) for task in unknown), Usage())
            cost = cost_of(most, loop.teacher)
            self._say(
                f"one page is asked for first ({', '.join(unknown)}), to learn what a reply takes: at most "
                f"{most.total:,} tokens{'' if cost is None else f', or {cost:.2f}'}"
            )
        for task in unknown:
            for key in [key for key, request in self._missing.items() if request.task == task][:_PROBES]:
                if loop.estimate.mean(task) is None:
                    yield from self._asked_for(key, self._missing.pop(key))

    def _tasks(self) -> list[str]:
        return list(dict.fromkeys(request.task for request in self._missing.values()))

    def _first(self, task: str) -> Request:
        return next(request for request in self._missing.values() if request.task == task)

    def _asked_for(self, key: str, request: Request) -> list[Reply]:
        reply = self._loop.reply(key, request)
        return [replace(reply, request=same) for same in self._of_key[key]]

    def _by_workers(self) -> Iterator[Reply]:
        """Several threads ask; when one meets an error, or the caller goes, the others end what is under way."""
        count, stop = self._loop.teacher.concurrency, self._loop.pace.stop
        with ThreadPoolExecutor(1 if self._is_local else count, "teacher") as workers:
            asked = [workers.submit(self._asked_for, *entry) for entry in self._missing.items()]
            errors: list[BaseException] = []
            try:
                for future in as_completed(asked):
                    if error := future.exception():
                        errors += [] if isinstance(error, Stopped) else [error]
                        stop()
                    else:
                        yield from future.result()
            except KeyboardInterrupt:
                self._say("replies that are under way are waited for, since they are paid for; once more leaves them")
                raise
            finally:
                stop()
        if errors:
            raise errors[0]
