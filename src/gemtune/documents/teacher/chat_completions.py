"""A teacher behind an endpoint that speaks OpenAI's chat completions: one POST a request, and no retries here."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from gemtune.documents.teacher.endpoints import (
    Hidden,
    Level,
    check_address,
    easier_level,
    first_level,
    key_in,
    prompt_of,
)
from gemtune.documents.teacher.exchange import Answer, Request, Usage
from gemtune.documents.teacher.failures import (
    MOST_SAID,
    Failure,
    Place,
    failure_of,
    scrubbed,
    server_words,
)
from gemtune.documents.teacher.schemas import OPENAI, Converted, converted
from gemtune.files import JsonObject
from gemtune.recipe.document_sections import Teacher

OWN_URL = "https://api.openai.com/v1"
_CONNECT_SECONDS = 30.0
_MOST_BYTES = 64 << 20  # of a reply
# Words of an endpoint that does not take a field.
_OTHER_TOKENS = re.compile(r"max_completion_tokens", re.I)
_NO_TEMPERATURE = re.compile(r"temperature", re.I)


@dataclass
class _Dialect:
    """How the endpoint is asked; a field changes when it is refused."""

    level: Level
    tokens: str = "max_tokens"
    temperature: bool = True


class ChatCompletions:
    """A function of a request. The key is in the headers of its HTTP client and nowhere else."""

    def __init__(self, teacher: Teacher, url: str, key: str | None):
        from huggingface_hub.utils import httpx

        self._httpx, self._teacher, self._key = httpx, teacher, Hidden(key)
        self.place = Place(url, teacher.model, (teacher.key or "OPENAI_API_KEY") if key else None)
        self._url = url.rstrip("/") + "/chat/completions"
        self._dialect = _Dialect(first_level(teacher))
        self._lock = threading.Lock()
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(teacher.timeout, connect=min(_CONNECT_SECONDS, teacher.timeout), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=teacher.concurrency),
        )

    def close(self) -> None:
        self._client.close()

    def __call__(self, request: Request, name: str) -> Answer:
        """Sends a request, `name` its id in the ledger."""
        with self._lock:
            asked = _Dialect(**vars(self._dialect))
        status, headers, body = self._posted(self.body(request, asked), name)
        if status != 200:
            body = scrubbed(body, self._key.value)
            failure = failure_of(status, headers, body, self.place)
            if failure.kind == "bad request" and self._changes(server_words(body), asked):
                raise Failure("other dialect", failure.said)
            raise failure
        answer = _answer(body, self._teacher.max_tokens)
        if request.schema is None:
            return answer
        changes = openai_schema(request).changes if asked.level == "schema" else ()
        return replace(answer, structured=asked.level, changes=changes)

    def body(self, request: Request, dialect: _Dialect) -> JsonObject:
        """What is posted."""
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_base64(request)}"}},
            {"type": "text", "text": prompt_of(request, dialect.level)},
        ]
        body: JsonObject = {
            "model": self._teacher.model,
            "messages": [{"role": "user", "content": content}],
            dialect.tokens: self._teacher.max_tokens,
        }
        if dialect.temperature:
            body["temperature"] = self._teacher.temperature
        if request.schema is not None and dialect.level != "none":
            body["response_format"] = _response_format(request, dialect.level)
        return body

    def _posted(self, body: JsonObject, name: str) -> tuple[int, Any, str]:
        """Status, headers and text; all of it within the timeout, not each part of it."""
        httpx, headers = self._httpx, {"X-Client-Request-Id": name}
        ends, sent = time.monotonic() + self._teacher.timeout, False
        try:
            with self._client.stream("POST", self._url, json=body, headers=headers) as response:
                sent, data = True, bytearray()
                for part in response.iter_bytes():
                    data += part
                    if time.monotonic() > ends:
                        raise Failure("timeout", f"no whole reply in {self._teacher.timeout:g} s")
                    if len(data) > _MOST_BYTES:
                        raise Failure("no answer", f"a reply of more than {_MOST_BYTES >> 20} MB")
                return response.status_code, response.headers, data.decode("utf-8", "replace")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            raise Failure("unreachable", _words(error)) from error
        except httpx.TimeoutException as error:
            raise Failure("timeout", f"no reply in {self._teacher.timeout:g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Failure(
                "connection lost", f"{_words(error)}{' in the middle of the reply' if sent else ''}"
            ) from error

    def _changes(self, said: str, asked: _Dialect) -> bool:
        """Asks in another way from now on, where the endpoint says that it does not take this one."""
        with self._lock:
            now = self._dialect
            if vars(now) != vars(asked):  # another worker was told the same
                return True
            if asked.tokens == "max_tokens" and _OTHER_TOKENS.search(said):
                now.tokens = "max_completion_tokens"
            elif asked.temperature and _NO_TEMPERATURE.search(said):
                now.temperature = False
            elif easier := easier_level(asked.level, said, self._teacher):
                now.level = easier
            else:
                return False
            return True


@contextlib.contextmanager
def chat_completions(teacher: Teacher) -> Iterator[ChatCompletions]:
    """The client of a teacher; TeacherError where its key is not set, RecipeError where its address is none."""
    url = teacher.url or OWN_URL
    check_address(url)
    name = teacher.key or (None if teacher.url else "OPENAI_API_KEY")  # no key of another's goes to an address
    key = key_in(name) if name else None
    client = ChatCompletions(teacher, url, key)
    try:
        yield client
    finally:
        client.close()


def openai_schema(request: Request) -> Converted:
    """The schema of a request as OpenAI's strict mode takes it."""
    return converted(request.schema or {}, OPENAI)


def _response_format(request: Request, level: Level) -> JsonObject:
    if level == "json":
        return {"type": "json_object"}
    there = openai_schema(request)
    name = re.sub(r"[^\w-]", "_", request.task, flags=re.ASCII)[:64] or "reply"
    return {"type": "json_schema", "json_schema": {"name": name, "strict": there.strict, "schema": there.schema}}


def _base64(request: Request) -> str:
    return base64.b64encode(request.image.read_bytes()).decode("ascii")


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _answer(body: str, max_tokens: int) -> Answer:
    """What a chat completion says; what it says about its end comes before its text."""
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        usage = usage_of(value.get("usage"))
        text, refusal = message.get("content") or "", message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Failure("no answer", f"no chat completion ({server_words(scrubbed(body[:10_000], None))})") from error
    if isinstance(text, list):  # parts, as some servers have them
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    if refusal or finish == "content_filter":
        return Answer(text, usage, "refused", str(refusal or "the endpoint's content filter")[:MOST_SAID])
    if finish == "length" or (usage and usage.output >= max_tokens):
        return Answer(text, usage, "cut")
    if finish not in ("stop", None):
        raise Failure("no answer", f"finish_reason {str(finish)[:40]!r}", usage=usage)
    return Answer(text, usage)


def usage_of(value: object) -> Usage | None:
    """Tokens as chat completions count them; thinking is part of the output."""
    if not isinstance(value, dict):
        return None
    details = value.get("completion_tokens_details")
    read, written = value.get("prompt_tokens"), value.get("completion_tokens")
    thinking = details.get("reasoning_tokens") if isinstance(details, dict) else 0
    if not isinstance(read, int) or not isinstance(written, int) or min(read, written) < 0:
        return None
    return Usage(read, written, thinking if isinstance(thinking, int) else 0)
