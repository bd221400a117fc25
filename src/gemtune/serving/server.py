"""Listening, and a clean end at Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

from gemtune.errors import GemtuneError
from gemtune.serving.hosts import is_address

if TYPE_CHECKING:
    from starlette.types import ASGIApp

GRACE = 10  # seconds that replies may go on after the server was told to stop


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
