"""Two GGUF models -> a folder that any web server can offer: the page, its engine, the models in parts, their proof."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path

from gemtune.files import JsonObject, os_errors, write_json, write_text
from gemtune.serving.web_assets import PACKAGES, Package, write_engine

PART = 24_000_000  # bytes: Cloudflare Pages takes files up to 25 MiB, GitHub up to 100 MB
PAGE = ("index.html", "style.css", "icon.svg", "page.js", "engine.js", "model_store.js", "service_worker.js")
SPACE = """---
title: {name}
emoji: 💎
colorFrom: indigo
colorTo: purple
sdk: static
pinned: false
license: gemma
custom_headers:
  cross-origin-embedder-policy: require-corp
  cross-origin-opener-policy: same-origin
  cross-origin-resource-policy: same-origin
---

# {name}

A language model of {size:.0f} MB, fine-tuned from {base}, that answers in the visitor's browser: on the graphics card
by WebGPU, or on the processor. {base} itself, {more:.0f} MB more, is fetched when a visitor compares the two. What is
typed stays on the visitor's device. Nothing is fetched from anywhere but this folder, and it works without a network
once it is loaded.

The folder is static: any web server can offer it over https. The lines above are for a static Space of Hugging Face.

Gemma is provided under and subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms. This model is
a modified one. The page's engine is llama.cpp by way of wllama (both MIT; see wllama/LICENCE).
"""


@dataclass(frozen=True)
class Golden:
    """A prompt, and how the reply to it begins wherever the model runs as it should."""

    prompt: str
    reply: str
    tokens: int  # to write before the two are compared


@dataclass(frozen=True)
class Model:
    """A model that the page asks: what it is called, its GGUF file, and what shows that a browser runs it rightly."""

    name: str
    gguf: Path
    golden: Sequence[Golden]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the page says and asks."""

    tuned: Model
    base: Model
    placeholder: str
    before: str  # of the prompt, in front of what the visitor typed
    after: str
    limit: int  # tokens of a reply
    temperature: float
    top_p: float
    context: int  # positions
    examples: Sequence[str]


def write_web(site: Site, folder: Path, assets: Path | None = None, packages: Sequence[Package] = PACKAGES) -> None:
    """Writes the page into an empty folder; `assets` and `packages` as in `write_engine`."""
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in PAGE:
            with as_file(files("gemtune.serving") / "web" / name) as path:
                shutil.copyfile(path, folder / name)
        write_engine(folder / "wllama", assets, packages)
        models = {"tuned": _written(site.tuned, folder / "parts"), "base": _written(site.base, folder / "parts")}
    values = {
        "name": site.tuned.name,
        "base": site.base.name,
        "placeholder": site.placeholder,
        "examples": site.examples,
        "context": site.context,
        "prompt": {"before": site.before, "after": site.after},
        "sampling": {"limit": site.limit, "temperature": site.temperature, "topP": site.top_p},
        "models": models,
    }
    write_json(folder / "site.json", values)
    size = models["tuned"]["bytes"] / 1e6
    more = sum(path.stat().st_size for path in (folder / "parts").iterdir()) / 1e6 - size
    write_text(folder / "README.md", SPACE.format(name=site.tuned.name, base=site.base.name, size=size, more=more))


def _written(model: Model, folder: Path) -> JsonObject:
    """Cuts a model into parts that are named by their hash, and says what they are.

    So a browser never takes an old one for a new one, and what two models have in common is stored once: fine-tuning
    leaves an embedding as it was, which is more than half of a small model.
    """
    folder.mkdir(exist_ok=True)
    parts: list[JsonObject] = []
    with model.gguf.open("rb") as stream:
        while data := stream.read(PART):
            digest = hashlib.sha256(data).hexdigest()
            path = folder / f"{digest[:16]}.bin"
            path.write_bytes(data)
            parts.append({"file": f"parts/{path.name}", "bytes": len(data), "sha256": digest})
    golden = [asdict(entry) for entry in model.golden]
    return {"bytes": sum(part["bytes"] for part in parts), "parts": parts, "golden": golden}
