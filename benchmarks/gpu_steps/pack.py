"""The packages that a fresh GPU machine lacks: downloaded as wheels here, installed beside its own there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

# What gemtune, its tests and the arms need beyond a machine with PyTorch, accelerate, tokenizers and huggingface_hub.
CARRIED = (
    *("transformers", "peft", "bitsandbytes", "emoji", "sqlglot", "RapidFuzz", "rich", "typer", "annotated-doc"),
    *("pydantic", "pydantic_core", "annotated-types", "typing-inspection", "typing_extensions"),
    *("pytest", "iniconfig", "pluggy", "trl", "datasets", "dill", "multiprocess", "xxhash"),
)
PLATFORMS = ("2_28", "2_27", "2_24", "2_17")  # pip takes exact names only
KEPT_BINARIES = ("cpu", "cuda130")  # of bitsandbytes: 43 MB with the others


def pack(folder: Path, python: str, constraints: Path) -> None:
    """Downloads the wheels of CARRIED in the tested versions, for Linux on x86-64, and says how large they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in folder.glob("*.whl"):
        wheel.unlink()
    versions = dict(line.split("==") for line in constraints.read_text().split() if "==" in line)
    platforms = [f"--platform=manylinux_{number}_x86_64" for number in PLATFORMS] + ["--platform=manylinux2014_x86_64"]
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]
    wanted = [f"{name}=={versions[name]}" for name in CARRIED]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", *options]
    subprocess.run([*command, f"--dest={folder}", *wanted], check=True)  # noqa: S603
    without_other_binaries(next(folder.glob("bitsandbytes-*.whl")))
    size = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    print(f"{len(wanted)} wheels, {size / 2**20:.1f} MiB, in {folder}")


def without_other_binaries(wheel: Path) -> None:
    """The same wheel with the libraries of KEPT_BINARIES alone."""
    smaller = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as new:
        dropped = {name for name in old.namelist() if _is_other_binary(name)}
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(".dist-info/RECORD"):
                data = b"".join(row for row in data.splitlines(True) if row.split(b",")[0].decode() not in dropped)
            if name not in dropped:
                new.writestr(name, data)
    smaller.rename(wheel)


def _is_other_binary(name: str) -> bool:
    """
    >>> [_is_other_binary(f"bitsandbytes/{name}") for name in ("libbitsandbytes_cuda128.so", "libbitsandbytes_cpu.so")]
    [True, False]
    """
    library = re.search(r"/libbitsandbytes_(\w+)\.so$", name)
    return library is not None and library[1] not in KEPT_BINARIES


def install(wheels: Path, site: Path, root: Path) -> Path | None:
    """The folder into which the wheels were installed, with gemtune's own metadata; None where none were packed."""
    packed = sorted(wheels.glob("*.whl"))
    if not packed:
        return None
    options = ["--no-index", "--no-deps", "--no-compile", "--upgrade", f"--target={site}"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *options]
    subprocess.run([*command, *map(str, packed)], check=True)  # noqa: S603
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = site / f"gemtune-{project['version']}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: gemtune\nVersion: {project['version']}\n", encoding="utf-8")
    return site
