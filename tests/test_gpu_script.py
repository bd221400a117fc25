"""benchmarks/gpu.py, dry and on the CPU: every step runs, and what it measured is in the file that is sent."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gemtune.files import JsonObject

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
# A key of what each step measures on a CPU, with more than a fact of the machine; the others need a GPU.
MEASURED = {
    "machine": "copy_gb_per_s",
    "parity": "gradient_error",
    "training": "eval_loss",
    "nf4": "planned_gb",
    "vision": "answered",
    "generation": "ms_a_token",
    "speed": "mfu",
}


@pytest.fixture
def lines(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[JsonObject]:
    """What the step that is asked for recorded, taken in this process."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of a process that the step begins; more only wait for work so small
    steps = importlib.import_module("benchmarks.gpu_steps.__main__").STEPS
    bench = importlib.import_module("benchmarks.gpu_steps.bench").Bench
    results = tmp_path / "results.jsonl"
    here = bench(request.param, results, dry=True, work=tmp_path)
    steps[request.param](here)
    assert here.failures == []
    return importlib.import_module("benchmarks.gpu_steps.results").read(results)


@pytest.mark.parametrize(("lines", "key"), MEASURED.items(), indirect=["lines"], ids=MEASURED)
def test_a_step_measures_what_it_names(lines: list[JsonObject], key: str) -> None:
    measured = [line for line in lines if "not_run" not in line]
    assert any(isinstance(line.get(key), int | float) for line in measured), lines
    assert not any("error" in line for line in measured), lines


@pytest.mark.parametrize("lines", ["t4", "waits"], indirect=True)
def test_a_step_that_needs_a_gpu_says_so(lines: list[JsonObject]) -> None:
    assert ["needs" in line["not_run"] for line in lines] == [True]


def test_the_script_ends_with_a_table_and_the_file_to_send(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--dry", "--budget", "300"]
    done = subprocess.run([*command, "--steps", "tests"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" in done.stdout and (tmp_path / "table.txt").read_text(encoding="utf-8") in done.stdout
    assert "passed" not in (tmp_path / "results.jsonl").read_text(encoding="utf-8")


def test_a_step_that_fails_or_has_no_time_loses_only_itself(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--out",
        str(tmp_path),
        "--dry",
        "--budget",
        "6",
        "--steps",
        "machine",
        "t4",
    ]
    done = subprocess.run([*command, "--steps", "machine", "t4"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "machine: stopped after" in done.stdout and "t4: no time left" in done.stdout, done.stdout


def test_the_carried_bitsandbytes_keeps_one_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    pack = importlib.import_module("benchmarks.gpu_steps.pack")
    names = [f"bitsandbytes/{name}" for name in ("nn.py", "libbitsandbytes_cuda130.so", "libbitsandbytes_rocm70.so")]
    record = "bitsandbytes-1.dist-info/RECORD"
    wheel = tmp_path / "bitsandbytes-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
        archive.writestr(record, "".join(f"{name},sha256=x,1\n" for name in [*names, record]))
    pack.without_other_binaries(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.namelist() == [*names[:2], record]
        assert [line.split(",")[0] for line in archive.read(record).decode().splitlines()] == [*names[:2], record]
