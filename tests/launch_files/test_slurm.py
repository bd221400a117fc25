"""The batch script: shellcheck reads it, bash runs it. benchmarks/studies/launch_files.py runs it on a real Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from gemtune.launch_files.order import Size
from launch_files.orders import ODD, text_of

SHELLCHECK = Path(sys.executable).with_name("shellcheck")


@pytest.mark.parametrize("file", ["r.yaml", ODD[4]])
def test_shellcheck_has_nothing_to_say(file: str, here: Path) -> None:
    done = subprocess.run([SHELLCHECK, "-"], input=text_of(here, "slurm", file), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def directives(text: str) -> list[str]:
    """What sbatch reads: options up to the first command, and no further."""
    head = takewhile(lambda line: line.startswith("#") or not line.strip(), text.splitlines())
    return [line for line in head if line.startswith("#SBATCH")]


@pytest.mark.parametrize("file", ODD)
def test_a_name_is_one_word_whatever_it_says(file: str, here: Path) -> None:
    """`srun` is handed the command as the recipe has it, and Slurm no more options."""
    override = f"data.0.source={json.dumps(file)}"
    text = text_of(here, "slurm", file, Size(), override)
    assert directives(text) == directives(text_of(here, "slurm"))
    bin_ = here / "bin"
    bin_.mkdir()
    for name, body in {"gemtune": "", "srun": 'shift 2; printf "%s\\0" "$@" > seen'}.items():
        (bin_ / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin_ / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", text], env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"}, cwd="/", capture_output=True
    )
    assert done.returncode == 0, done.stderr
    given = f"./{file}" if file.startswith("-") else file
    assert (here / "seen").read_text().split("\0") == ["gemtune", "run", given, override, ""]
    assert not (here / "pwned").exists() and not Path("/pwned").exists()


def test_the_size_is_in_it(here: Path) -> None:
    text = text_of(here, "slurm", "r.yaml", Size(gpus=4, cpus=12, memory=90, hours=1.5))
    for words in ("--gres=gpu:4", "--cpus-per-task=12", "--mem=90G", "--time=1:30:00", "scale.workers=auto"):
        assert words in text
    assert "gres" not in text_of(here, "slurm", "r.yaml", Size(gpus=0))
