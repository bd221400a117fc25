"""Listening, the token, and a clean end at Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import secrets
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from gemtune.errors import GemtuneError
from gemtune.files import READING, os_errors
from gemtune.serving.hosts import is_address, is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp

GRACE = 10  # seconds that replies may go on after the server was told to stop
LEAST_TOKEN = 16  # characters


def token_for(host: str, token_file: str | None, say: Callable[[str], None]) -> str | None:
    """The bearer token that requests must have: the file's, a new one that is said once, or none on loopback."""
    if token_file is not None:
        return _token_in(Path(token_file))
    if is_loopback(host):
        return None
    token = secrets.token_urlsafe(32)
    say(f"token: {token}")
    say(
        "Requests need it, as `Authorization: Bearer TOKEN`; it is shown this once. It travels in the open without TLS."
    )
    return token


def _token_in(path: Path) -> str:
    with os_errors(path, READING):
        mode, token = path.stat().st_mode, path.read_text(encoding="utf-8", errors="replace").strip()
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise GemtuneError(f"{path}: others than you can read or write this token; chmod 600 {path}")
    if len(token) < LEAST_TOKEN or not token.isascii() or any(character.isspace() for character in token):
        wanted = f"wanted one line of at least {LEAST_TOKEN} ASCII characters without blanks"
        raise GemtuneError(f"{path}: no token in it; {wanted}, such as `openssl rand -hex 32` prints")
    return token


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; GemtuneError where the address cannot be had. Port 0 is any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = error.strerror or str(error)
        raise GemtuneError(f"{host} port {port}: cannot listen there ({why}); give another --port or --host") from error


def address_of(listener: socket.socket) -> str:
    """The base URL for clients of a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def names_for(host: str) -> set[str]:
    """The names beside addresses under which a server on this host is asked."""
    return {"localhost"} if is_address(host) else {"localhost", host.lower()}


def server_of(app: ASGIApp) -> uvicorn.Server:
    """The server of an app; when it is told to stop, replies that are being made have GRACE seconds more."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Serves until a signal."""
    with _ending_quietly():
        server_of(app).run(sockets=[listener])


@contextlib.contextmanager
def _ending_quietly() -> Iterator[None]:
    """A signal that uvicorn has seen to and sends again ends nothing more; what is cancelled then is no error."""
    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(_is_no_cancellation)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        logger.removeFilter(_is_no_cancellation)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, BaseException) or isinstance(error, Exception)
