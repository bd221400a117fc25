"""A server of trained runs on a free port of this machine, in a thread of this process, and clients of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from openai import OpenAI

from gemtune.pipeline.served import api_of
from gemtune.pipeline.served_gguf import gguf_api
from gemtune.pipeline.stages import Job
from gemtune.serving import server
from gemtune.serving.api import Api
from gemtune.serving.engine import Engine

PROMPT = "let's go to the beach"


@dataclass(frozen=True)
class Live:
    """A server that runs."""

    url: str
    engine: Engine
    token: str | None

    @property
    def client(self) -> OpenAI:
        """A client that asks once."""
        return OpenAI(base_url=self.url, api_key=self.token or "none", max_retries=0)

    def said(self, prompt: str, model: str = "one", **fields: Any) -> str:
        """The reply to a prompt."""
        return self.asked(prompt, model, **fields).choices[0].message.content

    def asked(self, prompt: str, model: str = "one", **fields: Any) -> Any:
        return self.client.chat.completions.create(model=model, messages=[user(prompt)], **fields)

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body and headers of a request without a client's help."""
        host, _, port = self.url.removeprefix("http://").removesuffix("/v1").rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        given = {"content-type": "application/json"} if body is not None else {}
        with contextlib.closing(connection):
            connection.request(method, path, body, {**given, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith("{") else text, dict(answer.headers)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@contextlib.contextmanager
def live(
    jobs: Sequence[Job], images: Path, *, token: str | None = None, batch: int = 8, queue: int = 64
) -> Iterator[Live]:
    with listening(api_of(jobs, images, batch=batch, queue=queue), token) as server:
        yield server


@contextlib.contextmanager
def live_gguf(
    models: Sequence[tuple[Job, str | None]], images: Path, *, batch: int = 8, queue: int = 64
) -> Iterator[Live]:
    """The same by GGUF artifacts, in llama.cpp."""
    with contextlib.ExitStack() as stack:
        api = gguf_api(models, images, batch=batch, queue=queue, stack=stack)
        yield stack.enter_context(listening(api, None))


@contextlib.contextmanager
def listening(api: Api, token: str | None) -> Iterator[Live]:
    listener = server.listening("127.0.0.1", 0)
    running = server.server_of(api.app(token, server.names_for("127.0.0.1")))
    thread = Thread(target=running.run, kwargs={"sockets": [listener]})
    url = server.address_of(listener)
    thread.start()
    try:
        yield Live(url, api.engine, token)
    finally:
        running.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Waits until a condition holds; fails when it does not within the time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


LONG = {  # a reply of a thousand tokens and more, whatever the model
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "flags", "schema": {"type": "array", "items": {"type": "boolean"}, "minItems": 600}},
    },
    "max_tokens": 1_900,
}
