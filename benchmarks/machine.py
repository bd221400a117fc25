"""The machine that a page was measured on: its folder under results/, and the table that heads every page."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from gemtune.files import write_text
from gemtune.hardware import INSTRUCTION_SETS, device_name, instruction_sets, memory_gb
from gemtune.reporting.text import markdown

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
RESULTS = BENCHMARKS / "results"
WORK = BENCHMARKS / "work"
CORES = psutil.cpu_count(logical=False) or os.cpu_count() or 1  # physical: a second thread on one slows matrix products
# What holds PyTorch, its libraries and our kernels to a smaller instruction set than the processor has.
HELD_TO = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
COMPILED_FOR = {"avx2": "-march=x86-64-v3 -mprefer-vector-width=256"}  # behind the flags of native.py, which they undo
NOT_IN_A_NAME = re.compile(r"\(\w+\)|\b(?:intel|amd|cpu|processor|\d+-core)\b|@\s*[\d.]+\s*GHz", re.IGNORECASE)


@dataclass(frozen=True)
class Heading:
    """When, at which commit and where a page was measured, as text for its first table."""

    commit: str
    date: str
    processor: str
    instruction_sets: str
    cores: int
    memory: str
    versions: str
    kernels: str

    @classmethod
    def of_this_machine(cls, held_to: str = "") -> Heading:
        return cls(
            commit=source_commit(),
            date=datetime.now(UTC).date().isoformat(),
            processor=processor(),
            instruction_sets=described_sets(held_to),
            cores=CORES,
            memory=f"{memory_gb():.1f} GB",
            versions=", ".join(f"{package} {version(package)}" for package in ("torch", "transformers")),
            kernels=kernels(),
        )

    def table(self) -> str:
        """The heading as a table of one row."""
        names, values = zip(*asdict(self).items(), strict=True)
        rows = ([name.replace("_", " ") for name in names], ["---"] * len(names), [markdown(value) for value in values])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def hold_to(name: str) -> None:
    """Holds this process, whatever it starts and the kernels that they compile to one of HELD_TO."""
    WORK.mkdir(exist_ok=True)
    compiler = WORK / f"c++-{name}"
    write_text(compiler, f'#!/bin/sh\nexec {os.environ.get("CXX", "c++")} "$@" {COMPILED_FOR[name]}\n')
    compiler.chmod(0o755)
    os.environ |= HELD_TO[name] | {"CXX": str(compiler)}


def used_sets(held_to: str = "") -> tuple[str, ...]:
    """The processor's instruction sets, but none wider than what it is held to."""
    sets = instruction_sets()
    return sets[sets.index(held_to.upper()) :] if held_to else sets


def described_sets(held_to: str) -> str:
    """What a page says of the instruction sets that it was measured with."""
    used = ", ".join(used_sets(held_to)) or f"none of {', '.join(INSTRUCTION_SETS)}"
    if not held_to:
        return used
    wider = ", ".join(instruction_sets()[: -len(used_sets(held_to))])
    settings = " ".join(f"{name}={value}" for name, value in HELD_TO[held_to].items())
    held = f"held to {held_to.upper()} by {settings}, kernels {COMPILED_FOR[held_to]}"
    return f"{used} (the processor has {wider}, too; {held})"


def processor() -> str:
    """The name of the CPU, and of the GPU where PyTorch has one: on such a machine most studies train there."""
    import torch

    return " with ".join(device_name(kind) for kind in ("cpu", "cuda")[: 1 + torch.cuda.is_available()])


def kernels() -> str:
    """Whether kernels.cpp was compiled here, and if not, why."""
    from gemtune.kernels.native import compiled

    functions, reason = compiled()
    return "compiled" if functions is not None else f"not compiled: {reason}"


def source_commit() -> str:
    """The last commit that changed src/; "-dirty" behind it where changes there are in no commit."""
    source = str(ROOT / "src")
    return _git("log", "-1", "--format=%h", "--", source) + "-dirty" * bool(_git("status", "--porcelain", "--", source))


def folder_name(processor: str, sets: tuple[str, ...], cores: int, held: bool = False) -> str:
    """
    >>> folder_name("Intel(R) Xeon(R) Processor", ("AMX", "AVX512-BF16", "AVX512", "AVX2"), 2)
    'xeon-amx-2-cores'
    >>> folder_name("AMD EPYC 9B14 96-Core Processor", ("AVX2",), 8)
    'epyc-9b14-avx2-8-cores'
    >>> folder_name("Intel(R) Xeon(R) Processor", ("AVX2",), 2, held=True)
    'xeon-held-to-avx2-2-cores'
    """
    words = [NOT_IN_A_NAME.sub(" ", processor), *["held to"] * held, *sets[:1], str(cores), "cores"]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).strip().lower())


def results_folder(held_to: str = "") -> Path:
    """Where this machine's pages lie."""
    return RESULTS / folder_name(processor(), used_sets(held_to), CORES, held=bool(held_to))


def write_page(script: str, title: str, body: str, held_to: str = "") -> None:
    """Writes and prints the page of a study: results/<machine>/<name of the script>.md, with its heading."""
    name = Path(script).stem
    text = page(f"python -m benchmarks.studies.{name}", title, Heading.of_this_machine(held_to), body)
    write_text(results_folder(held_to) / f"{name}.md", text)
    print(text)


def page(command: str, title: str, heading: Heading, body: str) -> str:
    """The text of a page: the command that writes it, title, heading and what was measured."""
    return f"<!-- Written by `{command}`. -->\n\n# {title}\n\n{heading.table()}\n\n{body.strip()}\n"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()
