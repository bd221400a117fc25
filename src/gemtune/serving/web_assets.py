"""The engine of the web page: llama.cpp in WebAssembly, two packages of npm, pinned by their SHA-512.

They are fetched once into the user's cache, or come from a folder that the user gives; nothing of them is in gemtune.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemtune.data.downloads import download
from gemtune.errors import GemtuneError, RowError
from gemtune.files import READING, os_errors, write_bytes

REGISTRY = "https://registry.npmjs.org/"


@dataclass(frozen=True)
class Package:
    """A package of npm, and which of its files become which of the page."""

    address: str
    sha512: str  # as npm writes it, in base64
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    def check(self, data: bytes) -> None:
        found = base64.b64encode(hashlib.sha512(data).digest()).decode()
        if found != self.sha512:
            raise GemtuneError(
                f"{self.name}: has SHA-512 {found[:16]}..., wanted {self.sha512[:16]}...; fetch it again"
            )


PACKAGES = (
    Package(
        "@wllama/wllama/-/wllama-3.13.0.tgz",
        "ZvoRdQAn+E+18EvQ9qS036gudiI9rbZRBJgG/qNICPPwrA0Y6SMMdbziz/j7K/0WxcbJlhaRraVIYsnEy732NA==",
        {"esm/index.min.js": "index.js", "esm/wasm/wllama.wasm": "wllama.wasm", "LICENCE": "LICENCE"},
    ),
    Package(  # for Safari, which lacks two features of WebAssembly
        "@wllama/wllama-compat/-/wllama-compat-3.13.0.tgz",
        "MSWwyzVXpwkstvIGzOsQ9jlRm8kY5S5J0Gdw4E6M9mXqhgO/5tj+YNfxSoqN1GvsAOwui95JPtwX3hO6VZkbzg==",
        {"wasm/wllama.js": "compat.js", "wasm/wllama.wasm": "compat.wasm"},
    ),
)


def write_engine(folder: Path, given: Path | None, packages: Sequence[Package] = PACKAGES) -> None:
    """Writes the files of packages into a folder; `given` holds the packages where no network is to be used."""
    for package in packages:
        data = _package(package, given)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:  # its hash is known: it is what it was
            for member, name in package.files.items():
                file = archive.extractfile(f"package/{member}")
                if file is None:
                    raise GemtuneError(f"{package.name}: has no file {member}; report this, please")
                write_bytes(folder / name, file.read())


def _package(package: Package, given: Path | None) -> bytes:
    if given is not None:
        path = given / package.name
        with os_errors(path, READING):
            data = path.read_bytes()
        package.check(data)
        return data
    try:
        return download(REGISTRY + package.address, check=package.check)
    except RowError as error:
        names = " and ".join(REGISTRY + each.address for each in PACKAGES)
        raise GemtuneError(f"{error}; fetch {names} elsewhere, and give their folder with --assets") from error
