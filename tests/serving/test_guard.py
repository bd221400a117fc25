"""What is refused before a request is looked at: a foreign Host, a wrong token, a body that is no JSON or too large."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gemtune.pipeline.stages import Job
from gemtune.serving import guard
from serving.live import PROMPT, Live, live, user

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "one", "messages": [user(PROMPT)]}).encode()
TOKEN = "a-token-of-a-test"


@pytest.fixture(scope="module")
def locked(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live([Job(runs[0], say=lambda text: None)], tmp_path_factory.mktemp("images"), token=TOKEN) as server:
        yield server


def test_a_name_that_leads_here_from_elsewhere_is_refused(served: Live) -> None:
    """As a web page does that has its own name point to 127.0.0.1 (DNS rebinding)."""
    client = served.client.with_options(default_headers={"Host": "evil.example:8000"})
    with pytest.raises(openai.PermissionDeniedError, match=r"Host 'evil\.example' is not this server's"):
        client.models.list()
    for host in ("localhost:1234", "127.0.0.1", "[::1]:8000"):
        assert served.raw("GET", "/v1/models", headers={"host": host})[0] == 200


def test_no_other_page_may_read_an_answer(served: Live) -> None:
    """No CORS: neither for an answer nor for the question before a request."""
    origin = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for method in ("OPTIONS", "POST"):
        status, _, headers = served.raw(method, CHAT, BODY if method == "POST" else None, origin)
        assert status == (405 if method == "OPTIONS" else 200)
        assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_page_may_send_without_asking_is_refused(served: Live, kind: str) -> None:
    status, answer, _ = served.raw("POST", CHAT, BODY, {"content-type": kind})
    assert status == 415 and "wanted application/json" in answer["error"]["message"]


def test_a_wrong_token_is_refused_everywhere(locked: Live) -> None:
    for token in ("wrong", "", f"{TOKEN}x", "ä"):
        for method, path in (("GET", "/v1/models"), ("GET", "/health"), ("GET", "/nowhere"), ("POST", CHAT)):
            headers = {"authorization": f"Bearer {token}".encode("latin-1").decode("latin-1")} if token else {}
            status, answer, got = locked.raw(method, path, BODY if method == "POST" else None, headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key") and got["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=locked.url, api_key="wrong", max_retries=0).models.list()
    assert locked.raw("GET", "/v1/models", headers={"authorization": f"Basic {TOKEN}"})[0] == 401


def test_the_right_token_is_let_in(locked: Live) -> None:
    assert [model.id for model in locked.client.models.list().data] == ["one", "base"]
    assert locked.said(PROMPT)


def test_a_huge_body_is_read_to_its_end_and_refused(served: Live) -> None:
    """So that the client, which is still sending, hears why."""
    with pytest.raises(openai.APIStatusError, match="this server reads up to 34 MB") as error:
        served.said("a" * (guard.MOST_BODY + 1))
    assert error.value.status_code == 413
    assert served.said(PROMPT)


def test_a_body_that_does_not_come_is_not_waited_for(served: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    host, _, port = served.url.removeprefix("http://").removesuffix("/v1").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
        connection.sendall(head.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 408


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", CHAT, 405), ("POST", "/v1/embeddings", 404), ("GET", "/", 404)]
)
def test_what_is_not_here_says_what_is(served: Live, method: str, path: str, status: int) -> None:
    got, answer, _ = served.raw(method, path, BODY if method == "POST" else None)
    assert got == status and "this server has POST /v1/chat/completions" in answer["error"]["message"]
    assert answer["error"].keys() == {"message", "type", "param", "code"}


def test_a_body_that_is_no_json_is_refused(served: Live) -> None:
    answer: Any
    for body in (b"", b"{", b"[1]", b'{"a":' * 50_000):
        status, answer, _ = served.raw("POST", CHAT, body)
        assert status == 400 and answer["error"]["type"] == "invalid_request_error"
