"""The image of a cluster."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_every_extra_of_users() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (named,) = re.findall(r'"\.\[([\w,]+)\]"', DOCKERFILE)
    assert set(named.split(",")) == project["optional-dependencies"].keys() - {"dev"}


def test_what_it_copies_is_let_through() -> None:
    """.dockerignore names what is sent to the builder, and nothing else is."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for words in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in words.split()}
    assert copied == let_through and all((ROOT / name).exists() for name in copied)
