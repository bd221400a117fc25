"""The requests that wait for what generates, in the order in which they came, and the threads in which it does.

Requests for the same model that wait together are one batch; those for another model wait for their turn. The first in
the queue is always next.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gemtune.data.conversation import Conversation
from gemtune.errors import RequestError, is_out_of_memory
from gemtune.serving.replies import Reply

if TYPE_CHECKING:
    from gemtune.data.images import PrepareImage
    from gemtune.models.image_features import ImageFeatures
    from gemtune.recipe.schema import Evaluate
    from gemtune.rendering.renderer import Renderer

TOO_LONG = "out of memory; ask with a shorter prompt, lower max_tokens, or n"


@dataclass(frozen=True)
class Served:
    """A model that requests may name: the base model with a run's adapter, or as it is.

    `active` puts the adapter in place; `asked` is a prompt in the words of the run's task; `seen` makes of an image
    what the model saw in training.
    """

    name: str
    created: int  # seconds since 1970
    renderer: Renderer
    decoding: Evaluate
    asked: Callable[[str], Conversation]
    features: ImageFeatures | None = None
    active: Callable[[], AbstractContextManager[object]] = nullcontext
    seen: PrepareImage = lambda data: data


@dataclass(eq=False)
class Ticket:
    """A request in the engine."""

    served: Served
    prompt: list[int]
    images: list[str]
    replies: Sequence[Reply]

    def leave(self) -> None:
        """Ends its generation at the next token."""
        for reply in self.replies:
            reply.is_left = True

    @property
    def tokens(self) -> int:
        """Generated so far."""
        return sum(reply.tokens for reply in self.replies)


Generate = Callable[[Sequence[Ticket]], None]  # tells every reply of a batch its pieces, and returns when all are over


@dataclass(kw_only=True)
class Engine:
    """Answers tickets in `run`, which belongs in a thread of its own; the rest may be called from any other."""

    generate: Generate
    rows: int  # replies in a batch
    most_waiting: int
    say: Callable[[str], None] = print
    lanes: int = 1  # batches at the same time
    stop: Callable[[], None] = lambda: None  # ends what `generate` waits for, where that is another program
    running: list[Ticket] = field(default_factory=list)
    _told: int = 0  # tokens of tickets that are over
    _waiting: deque[Ticket] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _is_closed: bool = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def tokens(self) -> int:
        """Generated since the start."""
        with self._changed:
            return self._told + sum(ticket.tokens for ticket in self.running)

    def require_room(self, arriving: int = 0) -> None:
        """RequestError 429 where as many wait as may, those that are still read among them."""
        if (waiting := self.waiting + arriving) >= self.most_waiting:
            text = f"{waiting} requests wait already; ask again in a moment"
            raise RequestError(text, status=429, code="rate_limit_exceeded")

    def submit(self, ticket: Ticket) -> None:
        """Queues a ticket, if there is room."""
        with self._changed:
            self.require_room()
            self._waiting.append(ticket)
            self._changed.notify()

    def leave(self, ticket: Ticket) -> None:
        """Forgets a ticket whose client has left: it gives its place free, or stops at the next token."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            ticket.leave()

    def close(self) -> None:
        """Ends `run` at the next token, whoever waits."""
        with self._changed:
            self._is_closed = True
            for ticket in (*self.running, *self._waiting):
                ticket.leave()
            self._waiting.clear()
            self._changed.notify_all()
        self.stop()

    def run(self) -> None:
        """Answers until `close`."""
        with ThreadPoolExecutor(self.lanes) as pool:
            for lane in [pool.submit(self._answer_all) for _ in range(self.lanes)]:
                lane.result()

    def _answer_all(self) -> None:
        """One lane: a batch after the other."""
        while batch := self._next():
            self._answer(batch)
            with self._changed:
                self.running = [ticket for ticket in self.running if ticket not in batch]
                self._told += sum(ticket.tokens for ticket in batch)

    def _next(self) -> list[Ticket]:
        """The first ticket, and what can be answered beside it; nothing once the engine is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._is_closed:
                return []
            batch, rows = [self._waiting.popleft()], 0
            for ticket in [ticket for ticket in self._waiting if ticket.served is batch[0].served]:
                rows = sum(len(taken.replies) for taken in batch)
                if rows + len(ticket.replies) > self.rows:
                    break
                self._waiting.remove(ticket)
                batch.append(ticket)
            self.running = [*self.running, *batch]
            return batch

    def _answer(self, batch: Sequence[Ticket]) -> None:
        """Generates; where memory runs out before the first token, one ticket after the other."""
        try:
            self.generate(batch)
        except Exception as error:  # of one batch: those who wait are answered
            if is_out_of_memory(error) and len(batch) > 1 and not any(ticket.tokens for ticket in batch):
                for ticket in batch:
                    self._answer([ticket])
                return
            fault = RequestError(TOO_LONG, status=503) if is_out_of_memory(error) else self._bug(error)
            for reply in (reply for ticket in batch for reply in ticket.replies if not reply.is_over):
                reply.tell(fault)

    def _bug(self, error: Exception) -> RequestError:
        """What the client reads of a bug; the server's own output says where it is, and nothing of the request."""
        kind, place = type(error).__name__, traceback.extract_tb(error.__traceback__)[-1]
        self.say(f"a bug: a request failed with {kind} in {place.filename}:{place.lineno}; the server goes on")
        return RequestError(f"the server failed at this request ({kind})", status=500)
