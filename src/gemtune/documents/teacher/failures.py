"""The ways in which a request fails, what each means for its page, and what a server's error says."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gemtune.documents.teacher.exchange import Usage
from gemtune.errors import GemtuneError, visible

MOST_SAID = 200  # characters of a server's words in an error


class TeacherError(GemtuneError):
    """A teacher that answers nothing until the user acts: a key, a model, a quota, a budget."""


@dataclass(frozen=True)
class Kind:
    """Of an outcome: whether the page is to blame, how often it is tried, and whether it may have been paid for."""

    strikes: bool = True  # it counts against the page
    tries: int | None = None  # of a page that ends so; `teacher.attempts` when None
    charged: bool = False  # the server may have made a reply that did not arrive
    shared: bool = False  # all workers wait, not this one alone


ANSWERED = "answered"
KINDS: dict[str, Kind] = {
    ANSWERED: Kind(strikes=False),
    # an answer came, and cannot be used
    "cut": Kind(tries=1),
    "refused": Kind(tries=2),
    "wrong reply": Kind(tries=2),
    # none came
    "rate limit": Kind(strikes=False, shared=True),
    "unreachable": Kind(strikes=False, shared=True),
    "other dialect": Kind(strikes=False),  # the endpoint does not take a field; it is asked without
    "bad request": Kind(tries=1),
    "server error": Kind(),
    "no answer": Kind(charged=True),  # 200, and no chat completion in it
    "connection lost": Kind(charged=True),
    "timeout": Kind(tries=2, charged=True),
    "stopped": Kind(strikes=False),  # TeacherError: it is up to the user
}


class Failure(Exception):
    """A request without an answer: its kind, the server's words, how long it wants to be left alone, its charge."""

    def __init__(self, kind: str, said: str, wait: float = 0.0, usage: Usage | None = None):
        super().__init__(said)
        self.kind, self.said, self.wait, self.usage = kind, said, wait, usage


@dataclass(frozen=True)
class Place:
    """Who is spoken of in an error: the address, the model, and where the key is from, never the key."""

    url: str
    model: str
    key_name: str | None  # the environment variable; None: no key was sent


def failure_of(status: int, headers: Mapping[str, str], body: str, place: Place) -> Failure:
    """The failure that a status other than 200 is; TeacherError where the user has to act."""
    said = server_words(body) or f"status {status}"
    if status in (401, 403):
        move = f"check ${place.key_name}" if place.key_name else "no key was sent: name its variable in teacher.key"
        raise TeacherError(f"{place.url} does not let this key in ({said}); {move}")
    if status in (400, 404) and (_NO_MODEL.search(said) or (status == 404 and place.model in said)):
        raise TeacherError(f"{place.url} has no model {place.model!r} ({said}); check teacher.model")
    if status in (404, 405):
        raise TeacherError(f"no chat completions at {place.url} ({said}); check teacher.url, which goes up to /v1")
    if status == 402 or (status == 429 and _USED_UP.search(body)):
        move = "run it again when there is credit, or tomorrow: what is paid for is kept"
        raise TeacherError(f"{place.url}: the quota of {place.model} is used up ({said}); {move}")
    if 300 <= status < 400:
        raise TeacherError(f"{place.url} has moved to {headers.get('location', 'nowhere')!r}; change teacher.url")
    if status == 429:
        return Failure("rate limit", said, asked_wait(headers, body))
    if status in (408, 409, 425) or status >= 500:
        return Failure("server error", said, asked_wait(headers, body))
    return Failure("bad request", said)


_NO_MODEL = re.compile(
    r"model\b.{0,120}(does not exist|not found|unknown)|(invalid|not a valid|unknown) model", re.I | re.S
)
# A minute's limit is waited for. (Google's words for that name the quota and the billing, too.)
_USED_UP = re.compile(
    r"insufficient_quota|billing_hard_limit|per_?day|per day|daily limit|insufficient (balance|credit)", re.I
)


def server_words(body: str) -> str:
    """What a server's error says, on one line.

    >>> server_words('{"error": {"message": "No such\\\\nmodel", "code": "x"}}'), server_words("<html><h1>Bad gateway")
    ('No such model', 'Bad gateway')
    """
    value = _parsed(body)
    if isinstance(value, list) and value:  # as Google's streams have it
        value = value[0]
    if isinstance(value, dict):
        error = value.get("error", value)
        words = error.get("message", "") if isinstance(error, dict) else error
        body = words if isinstance(words, str) and words else body
    return visible(" ".join(re.sub(r"<[^>]*>", " ", body).split()))[:MOST_SAID]


def asked_wait(headers: Mapping[str, str], body: str) -> float:
    """The seconds that a server wants to be left alone, from its headers or its words; 0 where it does not say.

    >>> asked_wait({"retry-after": "3"}, ""), asked_wait({"retry-after-ms": "250"}, "")
    (3.0, 0.25)
    >>> asked_wait({}, '{"error": {"details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "45.83s"}]}}')
    45.83
    >>> asked_wait({}, "Rate limit reached. Please try again in 1m2.5s."), asked_wait({}, "no")
    (62.5, 0.0)
    """
    waits = [_milliseconds(headers.get("retry-after-ms")), _retry_after(headers.get("retry-after"))]
    waits += [_duration(found[1]) for found in _DELAY.finditer(body)]
    return max(waits)


_DELAY = re.compile(
    r'(?:"retry_?delay"\s*:\s*"|(?:try again|retry) (?:in|after) ~?)'
    r"((?:\d+(?:\.\d+)?\s*(?:ms|milliseconds?|hours?|h|minutes?|min|m|seconds?|sec|s)\s*)+)",
    re.I,
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|milli|h|m|s)", re.I)
_SECONDS = {"ms": 0.001, "milli": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}


def _duration(text: str) -> float:
    return sum(float(count) * _SECONDS[unit.lower()] for count, unit in _PART.findall(text))


def _milliseconds(value: str | None) -> float:
    return float(value) / 1000 if value and re.fullmatch(r"\d{1,9}(\.\d+)?", value) else 0.0


def _retry_after(value: str | None) -> float:
    """In seconds, or until a date."""
    if not value:
        return 0.0
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def scrubbed(text: str, key: str | None) -> str:
    """A server's words without the key, whole or as servers quote it.

    >>> scrubbed("Incorrect API key provided: sk-ab12****wxyz. Bearer abcdef123456", None)
    'Incorrect API key provided: ***. Bearer ***'
    """
    text = text.replace(key, "***") if key else text
    return _KEY_LIKE.sub(lambda found: f"{found[1] or ''}***", text)


_KEY_LIKE = re.compile(r"\bsk-[\w*-]{4,}|\bAIza[\w*-]{8,}|((?:bearer |[?&]key=))[\w.*-]{8,}", re.I)
