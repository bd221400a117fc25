"""Requests that are made to hurt: each is answered in a short line, and the server goes on."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from gemtune.pipeline.stages import Job
from gemtune.serving.chat import MOST_FIELD, MOST_STOP
from serving.live import PROMPT, Live, live, user, wait_for

CHAT = "/v1/chat/completions"
MANY = 200_000
WHOLE = {"model": "one", "messages": [user(PROMPT)], "max_tokens": 4}


def body(**fields: Any) -> bytes:
    return json.dumps({**WHOLE, **fields}).encode()


def schema(value: object) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": value}}}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"type": "boolean"}
    for _ in range(depth):
        value = {"type": "object", "properties": {"a": value}, "required": ["a"]}
    return value


REFUSED: dict[str, bytes] = {
    "a long key": body(**{"k" * 5_000_000: 1}),
    "many keys": body(**{f"k{number}": 1 for number in range(MANY)}),
    "many wrong messages": body(messages=[{}] * MANY),
    "many wrong pieces": body(messages=[user([{}] * MANY)]),
    "many keys of a message": body(messages=[{**user(PROMPT), **{f"k{number}": 1 for number in range(MANY)}}]),
    "a long model": body(model="m" * 5_000_000),
    "a long role": body(messages=[{"role": "r" * 5_000_000, "content": "a"}]),
    "a long stop": body(stop=["s" * (MOST_STOP + 1)]),
    "numbers of a million digits": b'{"n": ' + b"9" * 1_000_000 + b"}",
    "infinity": body(temperature=float("inf")),
    "not a number": body(top_p=float("nan")),
    "half a character": b'{"model": "one", "messages": [{"role": "user", "content": "\\ud83c"}]}',
    "bytes that are no text": b'{"model": "one", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "UTF-16": json.dumps(WHOLE).encode("utf-16"),
    "a pattern that grows": body(**schema({"type": "string", "pattern": "((((a{99}){99}){99}){99}){99}"})),
    "a reference to nothing": body(**schema({"$ref": "#/$defs/a"})),
    "a schema with a number beyond 64 bits": body(**schema({"type": "integer", "maximum": 2**64})),
    "a schema that is not one": body(**schema({"type": ["a", {}], "enum": 3})),
    "deep": body(**schema(nested(400))),
    "a usage without its stream": body(stream_options={"include_usage": True}),
    "more tokens than there are": body(max_tokens=10**30),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_a_short_line(name: str, served: Live) -> None:
    answer: Any
    status, answer, _ = served.raw("POST", CHAT, REFUSED[name])
    assert status in (400, 404, 422), answer
    assert len(answer["error"]["message"]) <= 1_000 and len(answer["error"]["param"] or "") <= 3 * MOST_FIELD
    assert served.said(PROMPT)


TAKEN: dict[str, dict[str, Any]] = {
    "a temperature that overflows": {"temperature": 1e-300},
    "a nucleus of nothing": {"temperature": 1.0, "top_p": 1e-300},
    "the last seed": {"temperature": 1.0, "seed": 2**63 - 1, "n": 8},
    "stops that overlap": {"stop": ["aaaa", "aa", "a" * MOST_STOP, "\ufffd"]},
    "a stop of white space": {"stop": ["\n", " "]},
    "signs and no words": {"messages": [user("\u0000\u202e\ufffd\U0010ffff👨‍👩‍👧")]},
    "a schema of its own kind": schema(
        {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}
    ),
    "a deep schema": schema(nested(30)),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", TAKEN)
def test_it_is_answered(name: str, stream: bool, served: Live) -> None:
    asked = served.client.chat.completions.create(**{**WHOLE, **TAKEN[name], "stream": stream})
    ends = [choice.finish_reason for piece in (asked if stream else [asked]) for choice in piece.choices]
    assert {"stop", "length"} & set(ends)


def test_a_low_temperature_is_greedy(served: Live) -> None:
    assert served.said(PROMPT, temperature=1e-300) == served.said(PROMPT, temperature=0)


def test_a_text_that_is_far_too_long_is_refused(served: Live) -> None:
    with pytest.raises(openai.BadRequestError, match="no model reads more than 1,000,000"):
        served.said("beach " * 500_000)
    assert served.said(PROMPT)


def test_a_client_that_leaves_before_its_body_is_whole_is_no_bug(
    served: Live, capfd: pytest.CaptureFixture[str]
) -> None:
    host, _, port = served.url.removeprefix("http://").removesuffix("/v1").rpartition(":")
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode())
            time.sleep(0.1)
    assert served.said(PROMPT)
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err and "a bug" not in printed.out


def test_requests_that_are_read_have_places_in_the_queue(runs: list[Path], tmp_path: Path) -> None:
    """Else any number of them would be in memory."""
    with live([Job(runs[0], say=lambda text: None)], tmp_path, queue=2) as server:
        host, _, port = server.url.removeprefix("http://").removesuffix("/v1").rpartition(":")
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
        slow = [socket.create_connection((host, int(port)), timeout=30) for _ in range(2)]
        for connection in slow:
            connection.sendall(head.encode())
        wait_for(lambda: _is_full(server))
        for connection in slow:
            connection.close()
        wait_for(lambda: not _is_full(server))


def _is_full(server: Live) -> bool:
    try:
        server.said(PROMPT, max_tokens=1)
    except openai.RateLimitError as error:
        assert "2 requests wait already" in error.message
        return True
    return False
