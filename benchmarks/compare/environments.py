"""The virtual environments of the arms: each made once by pip, and again when what goes into it changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.machine import BENCHMARKS, ROOT

CONSTRAINTS = str(ROOT / "constraints.txt")
REPORTED = ("gemtune", "llamafactory", "torch", "transformers", "trl", "peft", "accelerate", "datasets")


@dataclass(frozen=True)
class Environment:
    """The arguments of each `pip install`, in order, and modules that must be there to import but may be empty."""

    installs: tuple[tuple[str, ...], ...]
    empty_modules: tuple[str, ...] = ()


TORCH = ("-c", CONSTRAINTS, "torch")  # by itself: the wheel chosen for this machine is then fixed for what follows

ENVIRONMENTS = {
    "gemtune": Environment((TORCH, ("-c", CONSTRAINTS, "-e", f"{ROOT}[embedded]"))),
    "peers": Environment((TORCH, ("-c", CONSTRAINTS, "trl", "transformers", "peft", "accelerate", "datasets"))),
    "transformers-serve": Environment((TORCH, ("-c", CONSTRAINTS, "transformers[serving]", "accelerate"))),
    "llamafactory": Environment(
        (
            TORCH,
            ("transformers==5.6.0", "trl==0.24.0", "peft==0.18.1", "accelerate==1.11.0", "datasets==4.0.0"),
            ("omegaconf", "fire", "einops", "av", "tiktoken", "matplotlib", "tyro", "sentencepiece"),
            ("--no-deps", "llamafactory==0.9.5"),  # its dependencies bring Gradio, vision and audio
        ),
        empty_modules=("torchaudio",),
    ),
}


def python_of(name: str) -> str:
    """The interpreter of an environment, made when it is not there."""
    folder, environment = BENCHMARKS / ".venvs" / name, ENVIRONMENTS[name]
    python, record = folder / "bin" / "python", folder / "made-from.txt"
    key = repr(environment) + (ROOT / "pyproject.toml").read_text(encoding="utf-8") * (name == "gemtune")
    if not record.exists() or record.read_text(encoding="utf-8") != key:
        print(f"Making {folder} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        call(sys.executable, "-m", "venv", str(folder))
        for arguments in environment.installs:
            call(str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *arguments)
        (site,) = folder.glob("lib/python*/site-packages")
        for module in environment.empty_modules:
            (site / f"{module}.py").touch()
        record.write_text(key, encoding="utf-8")
    return str(python)


def versions(name: str) -> dict[str, str]:
    """Python and the packages of an environment whose version matters."""
    program = (
        "import json, platform, sys; from importlib.metadata import distributions as all;"
        "packages = {d.name: d.version for d in all() if d.name in sys.argv};"
        "print(json.dumps({'python': platform.python_version(), **packages}))"
    )
    return dict(json.loads(call(python_of(name), "-c", program, *REPORTED)))


def call(*command: str) -> str:
    """What a command prints, run from the root of the repository; where it fails, the end of its complaint."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # noqa: S603 (written here)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout
