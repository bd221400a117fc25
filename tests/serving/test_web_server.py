"""The server of the page: headers for threads, types for modules, no lists of folders."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemtune.errors import GemtuneError
from gemtune.serving.web_server import HEADERS, web_server


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "page.js").write_text("export {}", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with web_server(tmp_path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_module_comes_with_its_type_and_the_headers(address: str) -> None:
    with urllib.request.urlopen(f"{address}/page.js") as response:
        assert response.headers["Content-Type"] == "text/javascript"
        assert {name: response.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize("path", ["/empty/", "/../pyproject.toml", "/none"])
def test_nothing_else_is_shown(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address + path)


def test_a_port_that_is_taken_is_said(address: str, tmp_path: Path) -> None:
    with pytest.raises(GemtuneError, match="give another --port"):
        web_server(tmp_path, int(address.rpartition(":")[2]))


def test_a_name_that_leads_here_from_elsewhere_is_refused(address: str) -> None:
    """As a web page does that has its own name point to 127.0.0.1: it would read the model."""
    port = address.rpartition(":")[2]
    for host, status in (
        ("evil.example", 403),
        (f"evil.example:{port}", 403),
        (f"localhost:{port}", 200),
        ("[::1]", 200),
    ):
        request = urllib.request.Request(f"{address}/page.js", headers={"Host": host})
        try:
            with urllib.request.urlopen(request) as response:
                found = response.status
        except urllib.error.HTTPError as error:
            found = error.code
        assert found == status, host
