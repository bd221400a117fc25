"""The task as plain data and as bash takes it; benchmarks/studies/launch_files.py asks SkyPilot's own loader."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from launch_files.orders import ODD, shape, text_of


@pytest.mark.parametrize("file", ODD)
def test_a_name_is_text_whatever_it_says(file: str, here: Path) -> None:
    task, plain = (yaml.safe_load(text_of(here, "sky", name)) for name in (file, "r.yaml"))
    assert shape(task) == shape(plain)
    script = task["run"].replace("timeout 86400 gemtune", r"printf '%s\0'")
    seen = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=here).stdout
    given = f"./{file}" if file.startswith("-") else file
    assert seen.split("\0") == ["run", given, "runs_dir=/runs", ""] and not (here / "pwned").exists()


def test_replies_that_are_paid_for_are_in_the_bucket(here: Path) -> None:
    overrides = ("pages.source=a.pdf", "teacher.provider=files", "teacher.replies=replies")
    assert "pages.folder=/runs/distilled" in text_of(here, "sky", "r.yaml", None, *overrides)
