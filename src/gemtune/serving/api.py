"""The endpoints: chat completions, whole or streamed, and the list of models."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gemtune.data.conversation import Conversation, Part
from gemtune.data.images import ImageStore, PrepareImage
from gemtune.errors import GemtuneError, RequestError, RowError, listed
from gemtune.evaluation.generate import GREEDY
from gemtune.serving.answers import Answer, EventStream, Outlet, chunk, event, logprobs_json, model_json
from gemtune.serving.chat import ChatRequest, conversation_of, parsed
from gemtune.serving.engine import Engine, Served, Ticket
from gemtune.serving.guard import Guard, JsonResponse, body_of, error_json, refuse
from gemtune.serving.json_replies import JsonReplies
from gemtune.serving.replies import Piece, Reply, Sampling, TokenLogprob


@dataclass
class Api:
    """The models, the engine behind them, and a folder for the images of the requests that are being answered."""

    engine: Engine
    models: Mapping[str, Served]
    json_replies: JsonReplies
    longest: int  # tokens of prompt and reply together, as the model was made for
    images: Path
    lacks: Collection[str] = ()  # fields of a request that the engine cannot do
    arriving: int = 0  # requests that are being read
    reader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))  # tokenizers take one at a time

    def app(self, token: str | None, names: Collection[str]) -> Starlette:
        """The application, which runs the engine for as long as it lives."""
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name}", self.one_model),
            Route("/health", self.health),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Guard, token=token, names=names)],
            exception_handlers={RequestError: refuse, HTTPException: refuse},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(asyncio.to_thread(self.engine.run))
        try:
            yield
        finally:
            self.engine.close()
            await running
            self.reader.shutdown()

    async def list_models(self, request: Request) -> Response:
        return JsonResponse({"object": "list", "data": [model_json(served) for served in self.models.values()]})

    async def one_model(self, request: Request) -> Response:
        return JsonResponse(model_json(self._served(request.path_params["name"])))

    async def health(self, request: Request) -> Response:
        """What the engine does: requests that run and wait, and tokens generated since the start."""
        engine = self.engine
        return JsonResponse({"running": len(engine.running), "waiting": engine.waiting, "tokens": engine.tokens})

    async def chat(self, request: Request) -> Response:
        with contextlib.ExitStack() as stack:
            with self._place():
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.images)))
                answer = await self._read(request, folder)
                self.engine.submit(answer.ticket)
            stack.callback(self.engine.leave, answer.ticket)
            if not answer.request.stream:
                return await self._whole(answer, request)
            return EventStream(self._events(answer), stack.pop_all())

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """A place in the queue for a request while it is read: what is read is in memory, too."""
        self.engine.require_room(self.arriving)
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1

    async def _read(self, request: Request, folder: Path) -> Answer:
        """A request with its prompt, its images in a folder, and replies that are not begun."""
        asked = parsed(await body_of(request))
        for name in self.lacks:
            if getattr(asked, name) != ChatRequest.model_fields[name].default:
                text = f"{name}: this server's engine cannot do that; leave it out, or serve the run without --engine"
                raise RequestError(text, name, code="unsupported_parameter")
        if asked.response_format.type != "text":
            await asyncio.to_thread(self.json_replies.read_words)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.reader, partial(self._answer, asked, folder, loop))

    def _served(self, name: str) -> Served:
        if name not in self.models:
            text = f"model: {name[:100]!r} is not here; this server has {listed(self.models)}"
            raise RequestError(text, "model", status=404, code="model_not_found")
        return self.models[name]

    def _answer(self, asked: ChatRequest, folder: Path, loop: asyncio.AbstractEventLoop) -> Answer:
        """A request made ready: its prompt as tokens, its images in a folder, a reply for each choice."""
        served = self._served(asked.model)
        conversation = _with_images(conversation_of(asked.messages, served.asked), folder, served.seen)
        try:
            prompt = served.renderer.prompt_ids(conversation)
        except GemtuneError as error:
            raise RequestError(f"messages: {error}", "messages") from error
        limit = asked.limit or served.decoding.max_new_tokens
        if len(prompt) + limit > self.longest:
            text = (
                f"messages: {len(prompt)} tokens and a reply of up to {limit}; this model takes {self.longest} together"
            )
            raise RequestError(text, "messages", code="context_length_exceeded")
        outlet: Outlet = asyncio.Queue()

        def tell(number: int, piece: Piece | RequestError) -> None:
            loop.call_soon_threadsafe(outlet.put_nowait, (number, piece))

        replies = [
            Reply(
                renderer=served.renderer,
                sampling=sampling,
                tell=partial(tell, number),
                grammar=self.json_replies.grammar(asked.response_format),
            )
            for number, sampling in enumerate(_samplings(asked, served, limit))
        ]
        return Answer(asked, served, Ticket(served, prompt, conversation.image_paths, replies), outlet)

    async def _whole(self, answer: Answer, request: Request) -> Response:
        """All choices in one object."""
        leaving = asyncio.create_task(_left(request, answer.outlet))
        texts = [""] * answer.request.n
        logprobs: list[list[TokenLogprob]] = [[] for _ in texts]
        ends: list[str | None] = [None] * len(texts)
        try:
            async for number, piece in answer.pieces():
                texts[number] += piece.text
                logprobs[number] += piece.logprobs
                ends[number] = piece.finish
                await self._check(answer, piece, texts[number])
        finally:
            leaving.cancel()
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": text},
                "logprobs": logprobs_json(answer, logprobs[number]),
                "finish_reason": ends[number],
            }
            for number, text in enumerate(texts)
        ]
        return JsonResponse(answer.envelope("chat.completion", choices, usage=answer.usage))

    async def _events(self, answer: Answer) -> AsyncIterator[str]:
        """Server-sent events: the role of each choice, its pieces, why it ended, the usage where asked for, [DONE]."""
        texts = [""] * answer.request.n
        for number in range(answer.request.n):
            yield event(chunk(answer, number, {"role": "assistant", "content": ""}))
        try:
            async for number, piece in answer.pieces():
                texts[number] += piece.text
                if piece.text or piece.logprobs:
                    yield event(chunk(answer, number, {"content": piece.text}, piece.logprobs))
                await self._check(answer, piece, texts[number])
                if piece.finish:
                    yield event(chunk(answer, number, {}, finish=piece.finish))
        except RequestError as error:
            yield event(error_json(error))
            return
        if answer.request.tells_usage:
            yield event(answer.envelope("chat.completion.chunk", [], usage=answer.usage))
        yield "data: [DONE]\n\n"

    async def _check(self, answer: Answer, piece: Piece, text: str) -> None:
        """RequestError where a reply that has ended is not what its request wanted; one that was cut may be any."""
        wanted = answer.request.response_format
        if piece.finish == "stop" and wanted.type != "text":
            await asyncio.to_thread(self.json_replies.check, wanted, text)


def _samplings(asked: ChatRequest, served: Served, limit: int) -> Iterator[Sampling]:
    """How each choice of a request is drawn: what it does not say is as the run's recipe says."""
    decoding = served.decoding
    temperature = decoding.temperature if asked.temperature is None else asked.temperature
    temperature = temperature if temperature >= GREEDY else 0.0
    top_p = decoding.top_p if asked.top_p is None else asked.top_p
    seed = secrets.randbits(63) if asked.seed is None else asked.seed
    logprobs = asked.top_logprobs if asked.logprobs else None
    for number in range(asked.n):
        own_seed = (seed + number + 2**63) % 2**64 - 2**63  # which wraps round, as 64 bits do
        yield Sampling(temperature, top_p, own_seed, limit, asked.stop, logprobs)


def _with_images(conversation: Conversation, folder: Path, seen: PrepareImage) -> Conversation:
    """The conversation with its images in the folder, named by their paths from the folder above it."""

    def read(name: str) -> bytes:
        raise RowError("missing image", "not a data: URL")

    def placed(part: Part) -> Part:
        return part if part.image is None else replace(part, image=f"{folder.name}/{part.image!s}")

    try:
        stored = ImageStore(folder, read, seen).resolve(conversation)
    except RowError as error:
        raise RequestError(f"messages: an image: {error}", "messages") from error
    messages = tuple(replace(message, parts=tuple(map(placed, message.parts))) for message in stored.messages)
    return replace(stored, messages=messages)


async def _left(request: Request, outlet: Outlet) -> None:
    """Says so when the client is gone: what waits for the replies need not wait any more."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
    outlet.put_nowait((0, RequestError("the client has left", status=499)))
