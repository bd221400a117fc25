"""Which of a run's GGUF artifacts is served, and what is said of it; tests/serving asks it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gemtune.errors import RunError
from gemtune.files import write_json
from gemtune.pipeline import stages
from gemtune.pipeline.served_gguf import artifact_of
from training_jobs import trained

WriteRecipe = Callable[..., Path]


def test_what_is_known_of_an_artifact_is_said(write_recipe: WriteRecipe) -> None:
    """Of the only one, where none is named; folders that are whole stand for GGUF files here."""
    said: list[str] = []
    run = trained(write_recipe("one", train={"max_steps": 2})).run.root
    job = stages.Job(run, say=said.append)
    stages.export(job, ["merged"], limit=2)
    shutil.copytree(run / "export" / "merged", run / "export" / "gguf-f32")
    said.clear()
    assert artifact_of(job, None) == run / "export" / "gguf-f32" and said == []
    note = job.run.artifact_note("gguf-f32")
    assert note and note.verification
    doubtful = replace(note, verification=replace(note.verification, passed=None, why="too few rows"))
    write_json(run / "export" / "gguf-f32" / "verify.json", doubtful.to_json())
    artifact_of(job, "gguf-f32")
    assert said == [f"{run / 'export' / 'gguf-f32'}: not shown to answer as the tuned model does: too few rows"]
    shutil.copytree(run / "export" / "merged", run / "export" / "gguf-bf16")
    with pytest.raises(RunError, match=r"has gguf-bf16, gguf-f32; name one, such as "):
        artifact_of(job, None)
