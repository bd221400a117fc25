"""The artifact `litert`: a model in LiteRT-LM's file for phones, by Google's converter, and run in LiteRT-LM itself.

Both want other packages than gemtune, 2.3 GB of them, so they have an environment of their own, which a user makes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

from gemtune.errors import GemtuneError, ModelError
from gemtune.exporting import litert_child
from gemtune.exporting.runtime import Choice
from gemtune.files import cache_folder, os_errors, read_object
from gemtune.models.families import config_of

ENGINE = "litert-lm-api==0.18.1"
PACKAGES = (
    ENGINE,
    "litert-torch==0.10.0",
    "ai-edge-litert==2.3.0",
    "litert-lm-builder==0.18.1",
    "transformers==5.23.0",
    "torch>=2.9,<2.15",
)
FILE, GENERATION = "model.litertlm", "generation_config.json"
CONTEXT = 1280  # positions of the cache, which a phone allocates whole


def python() -> Path:
    """The Python of LiteRT's environment; GemtuneError says how to make it."""
    folder = cache_folder() / "litert"
    program = folder / "bin" / "python"
    if not program.exists():
        packages = " ".join(f"'{package}'" for package in PACKAGES)
        raise GemtuneError(
            "export litert needs an environment of its own, of 2.3 GB: "
            f"python3 -m venv {folder} && {folder}/bin/pip install {packages}"
        )
    return program


def write_litert(merged: Path, folder: Path) -> None:
    """Writes a merged Gemma 3 text model with 8 bits a weight into an empty folder."""
    config = config_of(merged)
    if config.model_type != "gemma3_text":
        raise ModelError(
            f"{merged}: of type {config.model_type}; LiteRT is written for gemma3_text alone: export gguf, or merged"
        )
    path = folder / FILE
    with tempfile.TemporaryFile() as log:
        command = [str(python()), "-I", litert_child.__file__, "export", str(merged), str(path), str(CONTEXT)]
        done = subprocess.run(command, stdout=log, stderr=log, check=False)  # noqa: S603  # a program of gemtune's own
        if done.returncode or not path.is_file():
            raise GemtuneError(f"{merged}: Google's converter gave up: {_last_line(log)}; export gguf, or merged")
    with os_errors(folder):
        shutil.copyfile(merged / GENERATION, folder / GENERATION)


class LiteRt:
    """A .litertlm file in LiteRT-LM, on the CPU, in a child process of its own environment."""

    def __init__(self, folder: Path) -> None:
        self.name = f"LiteRT-LM {ENGINE.rpartition('=')[2]}"
        self._path = folder / FILE
        stops = read_object(folder / GENERATION)["eos_token_id"]
        self._stops = stops if isinstance(stops, list) else [stops]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._child = subprocess.Popen(  # noqa: S603  # a program of gemtune's own
            [str(python()), "-I", litert_child.__file__, "answer", str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._child.kill()
        self._child.communicate()
        self._log.close()

    def tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._ask({"text": text})
        return ids

    def decode(self, prompt: Sequence[int], limit: int, images: Sequence[Path] = ()) -> list[Choice]:
        if images:
            raise GemtuneError("a LiteRT export is a text model; it takes no images")
        return [Choice(*choice) for choice in self._ask({"prompt": [*prompt], "limit": limit, "stops": self._stops})]

    def _ask(self, request: dict[str, object]) -> Any:
        if self._child.stdin and self._child.stdout and self._child.poll() is None:
            self._child.stdin.write(f"{json.dumps(request)}\n")
            self._child.stdin.flush()
            if line := self._child.stdout.readline():
                return json.loads(line)
        raise GemtuneError(f"{self._path}: {self.name} cannot run it: {_last_line(self._log)}; export it again")


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
