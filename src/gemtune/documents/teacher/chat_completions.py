"""A teacher behind an endpoint that speaks OpenAI's chat completions: one POST a request, and no retries here."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gemtune.documents.teacher.endpoints import (
    Level,
    check_address,
    easier_level,
    first_level,
    key_in,
    prompt_of,
)
from gemtune.documents.teacher.exchange import Answer, Request, Usage
from gemtune.documents.teacher.failures import MOST_SAID, Failure, Place, failure_of, scrubbed, server_words
from gemtune.documents.teacher.http_client import HttpEndpoint
from gemtune.documents.teacher.schemas import OPENAI, Converted, converted
from gemtune.files import JsonObject
from gemtune.recipe.document_sections import Teacher

OWN_URL = "https://api.openai.com/v1"
# Words of an endpoint that does not take a field.
_OTHER_TOKENS = re.compile(r"max_completion_tokens", re.I)
_NO_TEMPERATURE = re.compile(r"temperature", re.I)


@dataclass
class Dialect:
    """How the endpoint is asked; a field changes when it is refused."""

    level: Level
    tokens: str = "max_tokens"
    temperature: bool = True


class ChatCompletions:
    """A function of a request."""

    def __init__(self, teacher: Teacher, endpoint: HttpEndpoint):
        self.endpoint, self.place, self._teacher = endpoint, endpoint.place, teacher
        self._dialect, self._lock = Dialect(first_level(teacher)), threading.Lock()

    def __call__(self, request: Request, name: str) -> Answer:
        """Sends a request, `name` its id in the ledger."""
        body, asked = self.body(request)
        try:
            headers = {"X-Client-Request-Id": name}
            text = self.endpoint.text("POST", "chat/completions", json=body, headers=headers)
        except Failure as failure:
            raise self.understood(failure, asked) from failure
        return self.answer(request, text, asked.level)

    def understood(self, failure: Failure, asked: Dialect) -> Failure:
        """The failure; `other dialect` where the request can be made in another way, as it is from then on."""
        if failure.kind == "bad request" and self._changes(failure.said, asked):
            return Failure("other dialect", failure.said)
        return failure

    def answer(self, request: Request, text: str, level: Level) -> Answer:
        """What a chat completion says to a request that told the schema so."""
        if (failure := _failure_in(text, self.place)) is not None:
            raise failure
        answer = answer_of(text, self._teacher.max_tokens)
        if request.schema is None:
            return answer
        changes = openai_schema(request).changes if level == "schema" else ()
        return replace(answer, structured=level, changes=changes)

    def dialect(self) -> Dialect:
        """How the endpoint is asked now."""
        with self._lock:
            return Dialect(**vars(self._dialect))

    def body(self, request: Request) -> tuple[JsonObject, Dialect]:
        """What is posted, and in which dialect."""
        dialect = self.dialect()
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
        return body, dialect

    def _changes(self, said: str, asked: Dialect) -> bool:
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
    name = teacher.key_variable
    key = key_in(name) if name else None
    endpoint = HttpEndpoint(teacher, Place(url, teacher.model, name), key)
    try:
        yield ChatCompletions(teacher, endpoint)
    finally:
        endpoint.close()


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


def _failure_in(body: str, place: Place) -> Failure | None:
    """The failure that a 200 holds, as of a router whose own endpoint has failed.

    >>> _failure_in('{"error": {"code": 429, "message": "slow down"}}', Place("http://x", "m", None))
    Failure('slow down')
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = value.get("error") if isinstance(value, dict) and not value.get("choices") else None
    if not isinstance(error, dict):
        return None
    code = error.get("code")
    return failure_of(code if isinstance(code, int) and 400 <= code < 600 else 500, {}, scrubbed(body, None), place)


def answer_of(body: str, max_tokens: int) -> Answer:
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
