"""The command line as a user has it: in this process, or in one of its own; and what it leaves behind."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers.utils import logging

from gemtune.cli.app import main

logging.disable_progress_bar()  # in a process of its own gemtune.cli.progress asks for it, before the import
MAIN = "from gemtune.cli.app import main; main()"
# A process that works in the run directory it is given, until its standard input ends.
HOLD = """
import sys
from pathlib import Path
from gemtune.runs import Run

with Run(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def gemtune(capfd: pytest.CaptureFixture[str], *args: str | Path) -> Answer:
    """Runs `gemtune ARGS` in this process, with all that reaches its two streams."""
    capfd.readouterr()
    argv, sys.argv = sys.argv, ["gemtune", *map(str, args)]
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv
    return Answer(code, *capfd.readouterr())


def spawn(*args: str | Path, env: Mapping[str, str] | None = None, first: str = "", cwd: Path | None = None) -> Answer:
    """Runs `gemtune ARGS` in a process of its own, after the Python statements in `first`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\n{MAIN}", *map(str, args)],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def tree(folder: Path) -> dict[str, str]:
    """Path -> digest of every file below a folder, and "" for a folder; locks are left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


def refusal(answer: Answer) -> str:
    """The one line of a command that refused its input: exit code 2, nothing else on either stream."""
    assert answer.code == 2, answer
    assert re.fullmatch(r"gemtune: [^\n]+\n", answer.err), answer.err
    assert answer.out == "", answer.out
    return answer.err.removeprefix("gemtune: ").rstrip("\n")
