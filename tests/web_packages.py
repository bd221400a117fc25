"""A package as npm has them, made here, for tests of the web page that need no engine."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

from gemtune.serving.web_assets import Package

FILES = {"esm/index.min.js": b"export class Wllama {}", "esm/wasm/wllama.wasm": b"\0asm"}
NAMES = {"esm/index.min.js": "index.js", "esm/wasm/wllama.wasm": "wllama.wasm"}


def package_in(folder: Path) -> Package:
    """Writes small.tgz into a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in FILES.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (folder / "small.tgz").write_bytes(out.getvalue())
    digest = base64.b64encode(hashlib.sha512(out.getvalue()).digest()).decode()
    return Package("@some/small/-/small.tgz", digest, NAMES)
