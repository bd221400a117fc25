"""Offers a folder of `gemtune web` to browsers on this machine, with the headers that several threads need."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gemtune.errors import GemtuneError
from gemtune.serving.hosts import host_name, is_address

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript", ".wasm": "application/wasm"}


class _Handler(SimpleHTTPRequestHandler):
    def parse_request(self) -> bool:
        """And refuses a name that a page elsewhere has led here: it would read the model."""
        if not super().parse_request():
            return False
        name = host_name(self.headers.get("Host", ""))
        if name == "localhost" or is_address(name):
            return True
        self.send_error(403)
        return False

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """Not from the system's own table alone, which on some calls a module text/plain."""
        return TYPES.get(Path(path).suffix) or super().guess_type(path)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: object) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who visits is nobody's business."""


def web_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder on 127.0.0.1; port 0 takes a free one."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise GemtuneError(f"port {port}: {error.strerror}; give another --port") from error


def serve_web(folder: Path, port: int, say: Callable[[str], None]) -> None:
    """Offers the folder until Ctrl-C."""
    with web_server(folder, port) as server:
        say(f"http://127.0.0.1:{server.server_port}/ shows it, until Ctrl-C")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
