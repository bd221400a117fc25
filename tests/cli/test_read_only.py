"""Disks, homes and caches that cannot be written: what only reads goes on, what must write is one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import command

ROWS = "text,emoji\n" + "".join(f'"good morning number {i}, coffee time",☕🌅\n' for i in range(20))
# Root writes everywhere: as a user without its rights, who owns nothing else.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
# Every disk read-only, as in a container that is started so, but for the folder that is named first.
READ_ONLY = [
    "unshare",
    "-m",
    "bash",
    "-c",
    'mount --bind "$1" "$1" && mount -o remount,ro,bind / && shift && "$@"',
    "x",
]


def can_mount() -> bool:
    there = os.geteuid() == 0 and shutil.which("unshare") is not None
    return there and subprocess.run([*READ_ONLY, "/dev", "true"], capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="only root may mount, and not in every container")
needs_rights = pytest.mark.skipif(
    bool(WITHOUT_RIGHTS) and shutil.which("setpriv") is None, reason="root writes everywhere, and setpriv is not here"
)


class Machine:
    """A user's folders: rows, a recipe, a home that cannot be written, and `out`, which can."""

    def __init__(self, folder: Path, write_recipe: Callable[..., Path]):
        self.out, self.home, self.rows = folder / "out", folder / "home", folder / "rows"
        for path in (self.out, self.home, self.rows):
            path.mkdir()
        (self.rows / "e.csv").write_text(ROWS, encoding="utf-8")
        data, train = {"source": str(self.rows / "e.csv")}, {"max_steps": 1}
        self.recipe = write_recipe(data=data, train=train, runs_dir=str(self.out / "runs"), evaluate={"limit": 1})
        self.home.chmod(0o555)
        self.rows.chmod(0o555)

    def gemtune(self, user: list[str], *args: str | Path, temporary: str | None = None) -> command.Answer:
        caches = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME"), str(self.home))
        env = {name: value for name, value in os.environ.items() if name != "GEMTUNE_CACHE"}
        done = subprocess.run(
            [*user, sys.executable, "-c", command.MAIN, *map(str, args)],
            env={**env, **caches, "TMPDIR": temporary or str(self.out)},
            cwd=self.rows,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return command.Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def machine(tmp_path: Path, write_recipe: Callable[..., Path]) -> Machine:
    return Machine(tmp_path, write_recipe)


@needs_mounts
def test_a_run_needs_no_more_than_its_folder(machine: Machine) -> None:
    """Rows, home and caches are read-only; then the run is, too."""
    answer = machine.gemtune([*READ_ONLY, str(machine.out)], "run", machine.recipe)
    assert answer.code == 0, answer.err
    assert answer.err.count("Without compiled kernels") <= 1 and "Traceback" not in answer.err
    run, elsewhere = machine.out / "runs" / "t", [*READ_ONLY, "/dev/shm"]
    for args, words in (
        (("report", run), "t: Read-only file system; choose another folder"),
        (("generate", run, "--input", machine.rows / "e.csv"), "rows: Read-only file system; give another --output"),
    ):
        line = command.refusal(machine.gemtune(elsewhere, *args, temporary="/dev/shm"))
        assert re.search(words, line), line


@needs_mounts
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("run", "RECIPE"), "No usable temporary directory .* set TMPDIR to a folder to write in"),
        (("doctor",), "set TMPDIR"),
    ],
)
def test_no_folder_for_temporary_files_is_one_line(machine: Machine, args: tuple[str, ...], words: str) -> None:
    given = [str(machine.recipe) if arg == "RECIPE" else arg for arg in args]
    line = command.refusal(machine.gemtune([*READ_ONLY, "/proc"], *given, temporary="/nowhere"))
    assert re.search(words, line), line


@needs_rights
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("prepare", "RECIPE", "runs_dir=."), r"t: Permission denied; check its permissions, .*runs_dir"),
        (("prepare", "RECIPE", "runs_dir=HOME/a/b"), r"Permission denied; .*runs_dir"),
        (("new", "emoji"), r"emoji\.yaml: Permission denied; .*choose another folder"),
        (("tiny", "gemma3", "HOME/tiny"), r"tiny: Permission denied; .*choose another folder"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_line(machine: Machine, args: tuple[str, ...], words: str) -> None:
    names = {"RECIPE": str(machine.recipe), "HOME": str(machine.home)}
    given = [re.sub("|".join(names), lambda match: names[match[0]], arg) for arg in args]
    line = command.refusal(machine.gemtune(WITHOUT_RIGHTS, *given))
    assert re.search(words, line), line
