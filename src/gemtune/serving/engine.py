"""One model, one thread that generates, and the requests that wait for it, in the order in which they came.

Requests for the same model that wait together are answered side by side, as `gemtune evaluate` answers rows; those for
another model wait for their turn. The first in the queue is always next.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transformers import LogitsProcessorList, StoppingCriteriaList

from gemtune.data.conversation import Conversation
from gemtune.errors import RequestError, is_out_of_memory
from gemtune.evaluation.generate import generate_ids
from gemtune.serving.replies import Drawing, Putting, Reply

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
    features: ImageFeatures | None
    active: Callable[[], AbstractContextManager[object]]
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
    def is_begun(self) -> bool:
        return any(reply.ids for reply in self.replies)


@dataclass
class Engine:
    """Answers tickets in `run`, which belongs in a thread of its own; the rest may be called from any other."""

    model: PreTrainedModel
    rows: int  # replies generated side by side
    most_waiting: int
    say: Callable[[str], None] = print
    tokens: int = 0  # generated since the start
    running: Sequence[Ticket] = ()
    _waiting: deque[Ticket] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _is_closed: bool = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

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
            self._changed.notify()

    def run(self) -> None:
        """Answers until `close`."""
        while batch := self._next():
            self._answer(batch)
            self.running = ()

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
            self.running = batch
            return batch

    def _answer(self, batch: Sequence[Ticket]) -> None:
        """Generates; where memory runs out before the first token, one ticket after the other."""
        try:
            self._generate(batch)
        except Exception as error:  # of one batch: those who wait are answered
            if is_out_of_memory(error) and len(batch) > 1 and not any(ticket.is_begun for ticket in batch):
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

    def _generate(self, batch: Sequence[Ticket]) -> None:
        served, rows = batch[0].served, [(ticket, reply) for ticket in batch for reply in ticket.replies]
        replies = [reply for _, reply in rows]
        longest = max(reply.sampling.limit for reply in replies)
        with served.active():
            generate_ids(
                self.model,
                served.renderer,
                [ticket.prompt for ticket, _ in rows],
                served.decoding.model_copy(update={"max_new_tokens": longest, "temperature": 0.0}),
                [ticket.images for ticket, _ in rows],
                served.features,
                logits_processor=LogitsProcessorList([Drawing(replies)]),
                stopping_criteria=StoppingCriteriaList([Putting(replies, self._count)]),
            )

    def _count(self) -> None:
        self.tokens += sum(not reply.is_over for ticket in self.running for reply in ticket.replies)
