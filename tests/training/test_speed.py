"""The speed that a plan is made with, and what it says when other programs had the cores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from gemtune.training.speed import LEAST_TAKEN, Speed, sustained_speed


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Three programs for each processor, none of which ever rests."""
    programs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (psutil.cpu_count() or 1))
    ]
    yield
    for program in programs:
        program.kill()
        program.wait()


def test_other_work_is_noticed_and_said(busy_machine: None) -> None:
    speed = sustained_speed("fp32", "cpu")
    assert speed.taken > LEAST_TAKEN
    assert f"other work took {100 * speed.taken:.0f} % of the cores" in speed.caution


def test_a_quiet_machine_needs_no_caution() -> None:
    assert Speed(tflops=0.1, taken=LEAST_TAKEN / 2).caution == ""
