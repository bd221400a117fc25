"""An answer in OpenAI's shapes: what a completion, a chunk of a stream and a model look like as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from gemtune.errors import RequestError
from gemtune.files import JsonObject
from gemtune.serving.chat import ChatRequest
from gemtune.serving.engine import Served, Ticket
from gemtune.serving.replies import Piece, TokenLogprob

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Outlet = asyncio.Queue[tuple[int, Piece | RequestError]]  # (the number of a choice, what its reply says next)


@dataclass
class Answer:
    """A request that is being answered: its name, its ticket, and where the pieces of its replies come out."""

    request: ChatRequest
    served: Served
    ticket: Ticket
    outlet: Outlet
    name: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Yields the pieces of all choices as they come; RequestError where one cannot go on."""
        open_choices = self.request.n
        while open_choices:
            number, piece = await self.outlet.get()
            if isinstance(piece, RequestError):
                raise piece
            open_choices -= piece.finish is not None
            yield number, piece

    @property
    def usage(self) -> JsonObject:
        prompt, completion = len(self.ticket.prompt), self.ticket.tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def envelope(self, kind: str, choices: Sequence[JsonObject], **more: object) -> JsonObject:
        """An object of the API around its choices."""
        head = {"id": self.name, "object": kind, "created": self.created, "model": self.served.name}
        return {**head, "choices": list(choices), **more}


def model_json(served: Served) -> JsonObject:
    """A model of the list."""
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "gemtune"}


def chunk(
    answer: Answer,
    number: int,
    delta: JsonObject,
    logprobs: Sequence[TokenLogprob] = (),
    finish: str | None = None,
) -> JsonObject:
    """A piece of a stream: what one choice says next, or why it ended."""
    told = logprobs_json(answer, logprobs) if logprobs else None
    choice = {"index": number, "delta": delta, "logprobs": told, "finish_reason": finish}
    return answer.envelope("chat.completion.chunk", [choice])


def logprobs_json(answer: Answer, logprobs: Sequence[TokenLogprob]) -> JsonObject | None:
    """The log-probabilities of a choice's tokens, where the request asks for them."""
    if not answer.request.logprobs:
        return None

    def said(token: int, logprob: float) -> JsonObject:
        """A token's text; its bytes, where it is no piece of a character."""
        (text,) = answer.served.renderer.pieces([token])
        return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}

    content = [
        {**said(each.token, each.logprob), "top_logprobs": [said(*pair) for pair in each.likeliest]}
        for each in logprobs
    ]
    return {"content": content}


def event(value: JsonObject) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


class EventStream(StreamingResponse):
    """Server-sent events, and what is let go of when the last was sent or the client has left."""

    def __init__(self, events: AsyncIterator[str], kept: contextlib.ExitStack):
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self.kept = kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.kept:
            await super().__call__(scope, receive, send)
