"""What gemtune writes in a run directory is replaced and swept; what is the user's is never touched."""

from __future__ import annotations

import subprocess
import sys

import pytest

import command
from gemtune.errors import RunError
from gemtune.files import write_text
from gemtune.runs import Run
from run_folders import OTHERS, others_in, place_others


def test_data_is_replaced_between_what_is_the_users(run: Run) -> None:
    place_others(run.root)
    for text in ("old", "new"):
        with run.lock(), run.staging() as staged:
            write_text(staged.part("train"), text)
            write_text(staged.images / "ab" / f"{'a' * 64}.png", text)
            if text == "old":
                write_text(staged.leaks_file, text)
            write_text(staged.data_manifest_file, text)
    assert run.part("train").read_text() == run.data_manifest_file.read_text() == "new"
    assert not run.leaks_file.exists() and others_in(run.root) == OTHERS
    assert sorted(path.name for path in run.data.iterdir()) == ["images", "manifest.json", "rows.csv", "train.jsonl"]


SCRATCH = (".prepare-a1b2c3d4/data/train.jsonl", ".manifest.json.a1b2c3d4", ".report.html.__c3d4e5", ".adapter.tmp/x")


SCRATCH += ("checkpoints/.step-3.tmp/weights.safetensors", "data/.train-00000.arrow.tmp", "eval/.base.jsonl.a1b2c3d4")


SCRATCH += (
    f"data/images/ab/.{'a' * 64}.png.a1b2c3d4",
    "eval/mine/.summary.json.a1b2c3d4",
    "data/.manifest.json.a1b2c3d4",
)


SCRATCH += ("export/.merged.tmp/onnx/x", "export/.source.tmp/config.json", "export/merged/.verify.json.a1b2c3d4")


NO_SCRATCH = (
    ".git/config",
    ".notes.a1b2c3d4",
    ".env",
    "data/.rows.csv.a1b2c3d4",
    ".prepare",
    ".model.tmp.bak",
    "export/.hidden/x",
)


def test_what_a_killed_process_left_is_swept_at_the_next_start_and_nothing_else(run: Run) -> None:
    for name in (*SCRATCH, *NO_SCRATCH):
        write_text(run.root / name, "x")
    before = command.tree(run.root)
    with run.lock(), run.lock():
        pass
    gone = {name for name in before if not (run.root / name).exists() and before[name]}
    assert gone == set(SCRATCH)


def test_scratch_of_a_process_at_work_is_left_to_it(run: Run) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", command.HOLD, str(run.root)], stdin=-1, stdout=-1, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        write_text(run.root / SCRATCH[0], "at work")
        with run.lock_if_free(), pytest.raises(RunError, match="another gemtune process"), run.lock():
            pass
        assert (run.root / SCRATCH[0]).read_text() == "at work"
        holder.kill()
    with run.lock_if_free():
        assert not (run.root / SCRATCH[0]).exists()
