"""HTTP to an endpoint, against servers that are cut short on purpose."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator

import pytest

from gemtune.documents.teacher.failures import Failure, Place, TeacherError
from gemtune.documents.teacher.http_client import HttpEndpoint
from gemtune.recipe.document_sections import Teacher


@pytest.fixture
def answering() -> Iterator[Callable[..., HttpEndpoint]]:
    """A server that answers every GET with one status and body."""
    servers = []

    def start(status: int, body: bytes, key: str | None = None) -> HttpEndpoint:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Location", "http://elsewhere/v1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        return HttpEndpoint(Teacher(timeout=5.0), Place(url, "m", "A_KEY" if key else None), key)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_lines_end_at_line_ends_alone(answering: Callable[..., HttpEndpoint]) -> None:
    endpoint = answering(200, '{"a": "x\u2028y"}\n{"b": 1}\n'.encode())
    assert list(endpoint.lines("files/1/content")) == ['{"a": "x\u2028y"}', '{"b": 1}', ""]


def test_a_redirect_is_not_followed_with_the_key(answering: Callable[..., HttpEndpoint]) -> None:
    endpoint = answering(302, b"", "live_0123456789")
    for call in (lambda: endpoint.text("GET", "x"), lambda: list(endpoint.lines("x"))):
        with pytest.raises(TeacherError, match=r"has moved to 'http://elsewhere/v1'; change teacher.url"):
            call()  # type: ignore[no-untyped-call]


def test_a_key_that_the_server_quotes_is_not_shown(answering: Callable[..., HttpEndpoint]) -> None:
    endpoint = answering(401, b'{"error": {"message": "bad key live_0123456789"}}', "live_0123456789")
    with pytest.raises(TeacherError, match=r"\(bad key \*\*\*\); check \$A_KEY"):
        endpoint.text("GET", "x")
    assert "live_" not in repr(endpoint) + repr(vars(endpoint))


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff\xfe"])
def test_another_body_than_an_object_is_no_answer(body: bytes, answering: Callable[..., HttpEndpoint]) -> None:
    with pytest.raises(Failure) as caught:
        answering(200, body).json("GET", "x")
    assert caught.value.kind == "no answer"
