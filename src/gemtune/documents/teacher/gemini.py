"""Google's Gemini through its own client, with that client's retries off; an extra."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
from gemtune.documents.teacher.failures import MOST_SAID, Failure, Place, failure_of, scrubbed, server_words
from gemtune.documents.teacher.schemas import GEMINI, converted
from gemtune.errors import MissingExtra
from gemtune.recipe.document_sections import Teacher

if TYPE_CHECKING:
    from google.genai import types

OWN_URL = "https://generativelanguage.googleapis.com"
# Of the reply's end: what is asked again in vain. The rest, such as MALFORMED_RESPONSE, is no answer.
_REFUSALS = {"SAFETY", "RECITATION", "SPII", "PROHIBITED_CONTENT", "BLOCKLIST", "LANGUAGE", "IMAGE_SAFETY"}


@dataclass
class Dialect:
    """How the model is asked; a field changes when it is refused."""

    level: Level
    thinks_little: bool = True  # reading needs no long thought, which is billed as output


class Gemini:
    """A function of a request. The key is in the headers of Google's client and nowhere else."""

    def __init__(self, teacher: Teacher, url: str, key: str | None):
        try:
            from google import genai
            from google.genai import errors, types
        except ImportError as error:
            raise MissingExtra("teacher.provider: gemini", "gemini") from error
        from huggingface_hub.utils import httpx

        self._types, self._api_error, self._httpx = types, errors.APIError, httpx
        self.teacher, self._key = teacher, Hidden(key)
        self.place = Place(url, teacher.model, teacher.key_variable if key else None)
        self._dialect, self._lock = Dialect(first_level(teacher)), threading.Lock()
        self.client = genai.Client(
            api_key=key or "none",  # it wants one
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=url,
                timeout=round(teacher.timeout * 1000),
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        )

    def close(self) -> None:
        self.client.close()

    def __call__(self, request: Request, name: str) -> Answer:
        """Sends a request, `name` its id in the ledger."""
        asked = self.dialect()
        with self.failures(asked):
            response = self.client.models.generate_content(
                model=self.teacher.model,
                contents=self.contents(request.image.read_bytes(), prompt_of(request, asked.level)),
                config=self.config(request, asked).model_copy(
                    update={"http_options": self._types.HttpOptions(headers={"X-Client-Request-Id": name})}
                ),
            )
        return self.answer(request, response, asked)

    def dialect(self) -> Dialect:
        """How the model is asked now."""
        with self._lock:
            return Dialect(**vars(self._dialect))

    def contents(self, image: bytes, prompt: str) -> list[Any]:
        """An image and what is asked of it."""
        return [self._types.Part.from_bytes(data=image, mime_type="image/png"), prompt]

    def config(self, request: Request, asked: Dialect) -> types.GenerateContentConfig:
        """How a request is to be answered."""
        types, keys = self._types, dict[str, Any]()
        if request.schema is not None and asked.level != "none":
            keys["response_mime_type"] = "application/json"
            if asked.level == "schema":
                keys["response_json_schema"] = converted(request.schema, GEMINI).schema
        if asked.thinks_little:
            keys["thinking_config"] = types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)
        return types.GenerateContentConfig(
            temperature=self.teacher.temperature, max_output_tokens=self.teacher.max_tokens, **keys
        )

    def answer(self, request: Request, response: types.GenerateContentResponse, asked: Dialect) -> Answer:
        """What Gemini says to a request that told the schema so."""
        answer = answer_of(response)
        if request.schema is None:
            return answer
        changes = converted(request.schema, GEMINI).changes if asked.level == "schema" else ()
        return replace(answer, structured=asked.level, changes=changes)

    @contextlib.contextmanager
    def failures(self, asked: Dialect) -> Iterator[None]:
        """Turns what Google's client raises into the failure that it is."""
        try:
            yield
        except self._api_error as error:
            raise self._failure(error, asked) from None  # its text quotes the whole answer
        except self._httpx.TimeoutException as error:
            kind = "unreachable" if isinstance(error, self._httpx.ConnectTimeout) else "timeout"
            raise Failure(kind, f"no reply in {self.teacher.timeout:g} s") from error
        except (self._httpx.ConnectError, self._httpx.ProxyError) as error:
            raise Failure("unreachable", _words(error)) from error
        except self._httpx.TransportError as error:
            raise Failure("connection lost", _words(error)) from error
        except ValueError as error:  # no JSON, or another JSON than Google's
            raise Failure("no answer", "no reply of Gemini's") from error

    def _failure(self, error: Any, asked: Dialect) -> Failure:
        """What Google's error is; TeacherError where the user has to act."""
        body = scrubbed(json.dumps(error.details), self._key.value)
        if _NO_KEY in body:  # Google says so with the status of a bad request
            return failure_of(401, {}, body, self.place)
        headers = getattr(error.response, "headers", None) or {}
        failure = failure_of(error.code or 500, headers, body, self.place)
        if failure.kind == "bad request" and self._changes(server_words(body), asked):
            return Failure("other dialect", failure.said)
        return failure

    def _changes(self, said: str, asked: Dialect) -> bool:
        with self._lock:
            now = self._dialect
            if vars(now) != vars(asked):  # another worker was told the same
                return True
            if asked.thinks_little and "think" in said.lower():
                now.thinks_little = False
            elif easier := easier_level(asked.level, said, self.teacher):
                now.level = easier
            else:
                return False
            return True


_NO_KEY = "API_KEY_INVALID"


@contextlib.contextmanager
def gemini(teacher: Teacher) -> Iterator[Gemini]:
    """The client of a teacher; TeacherError where its key is not set."""
    check_address(teacher.url or OWN_URL)
    name = teacher.key_variable
    client = Gemini(teacher, teacher.url or OWN_URL, key_in(name) if name else None)
    try:
        yield client
    finally:
        client.close()


def answer_of(response: types.GenerateContentResponse) -> Answer:
    """What Gemini says; what it says about its end comes before its text."""
    counts = response.usage_metadata
    usage = None
    if counts and counts.prompt_token_count is not None:
        thinking = counts.thoughts_token_count or 0
        usage = Usage(counts.prompt_token_count, (counts.candidates_token_count or 0) + thinking, thinking)
    if not response.candidates:
        reason = response.prompt_feedback and response.prompt_feedback.block_reason
        if reason is None:
            raise Failure("no answer", "no candidates")
        return Answer("", usage, "refused", str(reason.value)[:MOST_SAID])
    candidate = response.candidates[0]
    parts = (candidate.content and candidate.content.parts) or []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    finish = candidate.finish_reason.value if candidate.finish_reason else "STOP"
    if finish in _REFUSALS:
        return Answer(text, usage, "refused", finish)
    if finish == "MAX_TOKENS":
        return Answer(text, usage, "cut")
    if finish != "STOP":
        raise Failure("no answer", f"finish reason {finish}", usage=usage)
    return Answer(text, usage)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:MOST_SAID] or type(error).__name__
