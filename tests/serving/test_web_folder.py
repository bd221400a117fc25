"""The folder of the page: the model in parts, what the page reads, and nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from gemtune.files import read_json
from gemtune.serving.web_folder import PART, Golden, Model, Site, write_web
from web_packages import package_in

TUNED, BASE = bytes(range(256)) * (PART // 256) + b"the rest", bytes(range(256)) * (PART // 256) + b"another rest"


def site_of(folder: Path) -> Site:
    """Of two models that differ in their last part."""
    (folder / "tuned.gguf").write_bytes(TUNED)
    (folder / "base.gguf").write_bytes(BASE)
    return Site(
        tuned=Model("emoji", folder / "tuned.gguf", [Golden("<start_of_turn>user\nhi", "👋", 4)]),
        base=Model("gemma-3-270m", folder / "base.gguf", []),
        placeholder="Type a text",
        before="<start_of_turn>user\n",
        after="<end_of_turn>\n<start_of_turn>model\n",
        limit=32,
        temperature=0.0,
        top_p=1.0,
        context=2048,
        examples=["let's go to the beach"],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = tmp_path_factory.mktemp("given")
    write_web(site_of(given), given / "web", given, [package_in(given)])
    return given / "web"


@pytest.mark.parametrize(("name", "whole"), [("tuned", TUNED), ("base", BASE)])
def test_the_parts_are_the_model(name: str, whole: bytes, folder: Path) -> None:
    model = read_json(folder / "site.json")["models"][name]
    data = [(folder / part["file"]).read_bytes() for part in model["parts"]]
    assert b"".join(data) == whole
    assert model["bytes"] == sum(part["bytes"] for part in model["parts"]) == sum(map(len, data))
    assert [part["sha256"] for part in model["parts"]] == [hashlib.sha256(piece).hexdigest() for piece in data]
    assert len(data) == 2


def test_what_two_models_have_in_common_is_there_once(folder: Path) -> None:
    models = read_json(folder / "site.json")["models"]
    tuned, base = ([part["file"] for part in models[name]["parts"]] for name in ("tuned", "base"))
    assert tuned[0] == base[0] and tuned[1] != base[1]
    assert {f"parts/{path.name}" for path in (folder / "parts").iterdir()} == {*tuned, *base}


def test_the_page_finds_every_value_it_reads(folder: Path) -> None:
    site = read_json(folder / "site.json")
    read = set(re.findall(r"\bsite\.(\w+(?:\.\w+)*)", (folder / "page.js").read_text(encoding="utf-8")))
    assert {"prompt.before", "sampling", "models.tuned.parts", "models.base.parts"} <= read
    for name in read - {"json"}:
        value = site
        for key in name.split("."):
            value = value[key]
    assert {"limit", "temperature", "topP"} == set(site["sampling"])
    assert {"bytes", "parts", "golden"} == set(site["models"]["tuned"]) == set(site["models"]["base"])
    assert {"prompt", "reply", "tokens"} == set(site["models"]["tuned"]["golden"][0])


def test_files_that_files_name_are_there(folder: Path) -> None:
    """Imports, links and what the service worker keeps."""
    names = set()
    for path in [*folder.glob("*.js"), folder / "index.html"]:
        text = path.read_text(encoding="utf-8")
        names |= set(re.findall(r"""(?:from|href=|src=|new URL\(|fetch\()\s*["']\.?/?([\w./]+\.\w+)["']""", text))
    worker = (folder / "service_worker.js").read_text(encoding="utf-8")
    names |= set(re.findall(r'"([\w/]+\.\w+)"', worker))
    assert {"page.js", "site.json", "wllama/index.js", "wllama/wllama.wasm"} <= names
    missing = {name for name in names if not (folder / name).is_file()}
    assert missing <= {"wllama/compat.js", "wllama/compat.wasm"}, "which the small package has not"


def test_nothing_comes_from_elsewhere_and_nothing_is_inline(folder: Path) -> None:
    html = (folder / "index.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy and policy[1].startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; ")
    assert "unsafe-inline" not in policy[1] and "http" not in policy[1]
    assert not re.search(r"<style|<script(?! type=\"module\" src=)|\son\w+=|\sstyle=", html)
    for path in folder.glob("*.[jc]s*"):
        assert not re.search(r"https?://(?!localhost)\w", path.read_text(encoding="utf-8")), path.name


def test_the_readme_is_that_of_a_static_space(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\ntitle: emoji\n") and "cross-origin-embedder-policy: require-corp" in text
