"""`gemtune launch` on the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import command
from launch_files.orders import DISKS


@pytest.mark.parametrize("to", DISKS)
def test_it_writes_a_file_beside_the_recipe_once(to: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "r.yaml").write_text("task: emoji\ndata: e.csv\n")
    asked = ("launch", "r.yaml", "--to", to, *(("--shared", DISKS[to]) if DISKS[to] else ()))
    answer = command.gemtune(capfd, *asked, "--json")
    file = Path(json.loads(answer.out)["file"])
    assert answer.code == 0 and file.parent == Path() and file.stem.startswith("r")
    first = file.read_bytes()
    again = command.refusal(command.gemtune(capfd, *asked))
    assert again == f"{file}: is there already; remove it, or give another --output"
    assert command.gemtune(capfd, *asked, "--output", "other").code == 0
    assert Path("other").read_bytes() == first and sorted(os.listdir()) == sorted([file.name, "other", "r.yaml"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--to", "sky"), "--to sky: found no --shared; give one: a bucket, s3://NAME, where the project's folder is"),
        (
            ("--to", "k8s", "--shared", "My Claim"),
            "found --shared 'My Claim'; give one: the name of a Persist",
        ),
        (
            ("--to", "vertex", "--shared", "s3://a-bucket"),
            "found --shared 's3://a-bucket'; give one: a bucket, gs://NAME",
        ),
        (("--to", "slurm", "--shared", "here"), "found --shared 'here'; give one: a folder that all nodes share"),
        (("--to", "k8s", "--nodes", "2"), "--nodes 2: gemtune trains on the GPUs of one machine; give --gpus instead"),
        (("--to", "k8s", "--gpu", "L4"), "--gpu L4: k8s takes the GPUs of its nodes, whatever they are; leave it out"),
        (("--to", "slurm", "--image", "x"), "--image x: slurm runs the gemtune that is on its nodes; leave it out"),
        (("--to", "k8s", "train.epochs=none"), "train.epochs"),
    ],
)
def test_what_cannot_run_is_one_line(
    args: tuple[str, ...], words: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "r.yaml").write_text("task: emoji\ndata: e.csv\n")
    assert words in command.refusal(command.gemtune(capfd, "launch", "r.yaml", *args))
    assert os.listdir() == ["r.yaml"]


def test_a_run_is_not_a_recipe_file(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "runs").mkdir()
    assert "runs: a folder; give the recipe file" in command.refusal(
        command.gemtune(capfd, "launch", "runs", "--to", "k8s")
    )
