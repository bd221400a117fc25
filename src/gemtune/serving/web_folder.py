"""A GGUF model -> a folder that any web server can offer: the page, its engine, the model in parts, and its proof."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path

from gemtune.files import os_errors, write_json, write_text
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
by WebGPU, or on the processor. What is typed stays on the visitor's device. Nothing is fetched from anywhere but this
folder, and it works without a network once it is loaded.

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


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the page says and asks."""

    name: str
    base: str
    placeholder: str
    before: str  # of the prompt, in front of what the visitor typed
    after: str
    limit: int  # tokens of a reply
    temperature: float
    top_p: float
    context: int  # positions
    examples: Sequence[str]
    golden: Sequence[Golden]


def write_web(
    gguf: Path, site: Site, folder: Path, assets: Path | None = None, packages: Sequence[Package] = PACKAGES
) -> None:
    """Writes the page for a model into an empty folder; `assets` and `packages` as in `write_engine`."""
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in PAGE:
            with as_file(files("gemtune.serving") / "web" / name) as path:
                shutil.copyfile(path, folder / name)
        write_engine(folder / "wllama", assets, packages)
        parts = list(_write_parts(gguf, folder))
    size = sum(int(part["bytes"]) for part in parts)
    values = asdict(site)
    prompt = {"before": values.pop("before"), "after": values.pop("after")}
    sampling = {"limit": values.pop("limit"), "temperature": values.pop("temperature"), "topP": values.pop("top_p")}
    model = {"bytes": size, "parts": parts}
    write_json(folder / "site.json", {**values, "prompt": prompt, "sampling": sampling, "model": model})
    write_text(folder / "README.md", SPACE.format(name=site.name, base=site.base, size=size / 1e6))


def _write_parts(gguf: Path, folder: Path) -> list[dict[str, str | int]]:
    """Cuts a file into parts that are named by their hash, so that a browser never takes an old one for a new one."""
    (folder / "parts").mkdir()
    parts: list[dict[str, str | int]] = []
    with gguf.open("rb") as stream:
        while data := stream.read(PART):
            digest = hashlib.sha256(data).hexdigest()
            name = f"parts/{len(parts):03d}-{digest[:12]}.bin"
            (folder / name).write_bytes(data)
            parts.append({"file": name, "bytes": len(data), "sha256": digest})
    return parts
