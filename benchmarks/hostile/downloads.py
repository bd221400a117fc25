"""Pictures at addresses, and the server behind them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.hostile.archives import NONE, picture, rows
from benchmarks.hostile.place import DROPPED, Command, Kind, Place, prepare

AWAY = {
    "/file": "file:///etc/passwd",
    "/ftp": "ftp://127.0.0.1/a.png",
    "/gopher": "gopher://127.0.0.1/",
    "/round": "/round",
}
SPELLED = (
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0.0.0.0",
    "[::ffff:127.0.0.1]",
    "localhost",
    "169.254.169.254",
)


@contextmanager
def served() -> Iterator[str]:
    """The address of a server on this machine that gives its pictures slowly, cut, wrong, or from elsewhere."""
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = b"<html>not found</html>" if self.path == "/html" else picture()
            self.send_response(302 if self.path in AWAY else 200)
            if self.path in AWAY:
                self.send_header("Location", AWAY[self.path])
            else:
                self.send_header(
                    "Content-Length", str({"/short": len(data) + 10, "/huge": 10**12}.get(self.path, len(data)))
                )
            self.end_headers()
            if self.path == "/slow":
                for byte in data:
                    if over.wait(0.5):
                        return
                    self.wfile.write(bytes([byte]))
                return
            self.wfile.write(data)

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                return  # the client has gone

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()


def fetched(*paths: str) -> Any:
    """Pictures at these paths of the server, which the recipe allows."""

    def commands(place: Place) -> Iterator[Command]:
        rows(place, *(f"{place.made.address}{path}" for path in paths))
        place.recipe("product", "rows.jsonl", split=NONE, data={"download_images": True, "download_private": True})
        yield prepare()

    return commands


def private(place: Place) -> Iterator[Command]:
    """The server's address in every spelling, which the recipe does not allow."""
    port = place.made.address.rpartition(":")[2]
    rows(place, *(f"http://{host}:{port}/a.png" for host in SPELLED))
    place.recipe("product", "rows.jsonl", split=NONE, data={"download_images": True})
    yield prepare()


def kinds() -> Iterator[Kind]:
    for what, commands, then in (
        ("half a second a byte", fetched("/slow"), "no limit for a whole file"),
        ("shorter than it says, a page of HTML, 1 TB", fetched("/short", "/html", "/huge"), "kept for good"),
        ("redirects to ftp, file, gopher, itself", fetched(*AWAY), "ftp was opened"),
        ("this machine in 8 spellings", private, "fetched"),
    ):
        yield Kind(f"download: {what}", commands, DROPPED, then)
