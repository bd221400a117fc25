"""The doctor: what this machine has, what is missing, and no word of a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import command
from gemtune.hardware import INSTRUCTION_SETS
from gemtune.kernels import native

SECRET = "hf_secretsecretsecretsecret"


def test_doctor_says_what_is_here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    findings = {entry["what"]: entry for entry in json.loads(command.gemtune(capfd, "doctor", "--json").out)}
    assert {"torch", "device", "precision", "memory", "Hub login", "disk at the cache"} <= findings.keys()
    assert findings["Hub login"]["found"] == "yes"
    answer = command.gemtune(capfd, "doctor")
    assert answer.code == 0 and f"torch: {findings['torch']['found']}" in answer.out
    assert SECRET not in json.dumps(findings) + answer.out + answer.err


def kernels_in_doctor(folder: Path, command: str | None) -> dict[str, str]:
    """What doctor says of the kernels in a process of its own, where no compiler is installed or CXX is this one."""
    environment = {name: value for name, value in os.environ.items() if name != "CXX"}
    environment |= {"PATH": str(folder), "GEMTUNE_CACHE": str(folder), **({"CXX": command} if command else {})}
    process = subprocess.run(
        [sys.executable, "-m", "gemtune", "doctor", "--json"], env=environment, capture_output=True, text=True
    )
    return next(entry for entry in json.loads(process.stdout) if entry["what"] == "C++ kernels")


def test_doctor_says_for_what_the_kernels_are_compiled(capfd: pytest.CaptureFixture[str]) -> None:
    findings = {entry["what"]: entry for entry in json.loads(command.gemtune(capfd, "doctor", "--json").out)}
    sets = findings["instruction sets"]["found"].split(", ")
    assert set(sets) <= INSTRUCTION_SETS.keys() or "none" in sets[0]
    name = native.instruction_set()
    if name is None:
        assert findings["C++ kernels"]["found"].startswith("not compiled: ")
    else:
        assert f"are compiled for {native.INSTRUCTION_SETS[name]} (" in findings["C++ kernels"]["found"]
    precision = findings["precision"]["found"].split()[0]
    used = findings[f"C++ kernels in {precision}"]["found"]
    assert used.startswith("norms, gates, " if name else "none; PyTorch: everything")


@pytest.mark.parametrize(
    "compiler, reason, move",
    [
        (None, "not compiled: no C++ compiler is here: PyTorch does", "install g++ or clang++, or name one in CXX"),
        ("/bin/false", "not compiled: /bin/false cannot compile kernels.cpp here", ""),
    ],
)
def test_doctor_says_why_the_kernels_are_not_compiled(
    tmp_path: Path, compiler: str | None, reason: str, move: str
) -> None:
    finding = kernels_in_doctor(tmp_path, compiler)
    assert finding["found"].startswith(reason)
    assert finding["move"] == move
