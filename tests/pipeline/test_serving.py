"""Which engine serves what, and what it refuses before anything is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from command import gemtune, refusal, spawn
from gemtune.pipeline import stages
from training_jobs import trained

WriteRecipe = Callable[..., Path]


@pytest.fixture
def run(write_recipe: WriteRecipe) -> Path:
    """Two steps, and no artifact."""
    return trained(write_recipe("one", train={"max_steps": 2})).run.root


def test_an_engine_that_is_none_is_one_line(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = refusal(gemtune(capfd, "serve", run, "--engine", "vlm"))
    assert line.endswith("no engine 'vlm' to serve with; did you mean 'vllm'? engines are gemtune, llama.cpp, vllm")


def test_an_artifact_is_served_by_llama_cpp_alone(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for folder, engine in (("merged", ()), ("gguf-q8_0", ("--engine", "gemtune")), ("gguf-q8_0", ("--engine", "vllm"))):
        line = refusal(gemtune(capfd, "serve", run / "export" / folder, *engine))
        assert line.endswith("llama.cpp alone serves an artifact, a GGUF; name the run, or export it to gguf")


def test_llama_cpp_needs_a_whole_gguf_artifact(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = refusal(gemtune(capfd, "serve", run, "--engine", "llama.cpp"))
    assert line.endswith(f"no gguf-q8_0 artifact; `gemtune export {run} gguf-q8_0` writes it")
    stages.export(stages.Job(run, say=lambda text: None), ["merged"], limit=2)
    folder = run / "export" / "gguf-f32"  # a damaged one: not what was written into it
    shutil.copytree(run / "export" / "merged", folder)
    (folder / "config.json").write_text("{}")
    line = refusal(gemtune(capfd, "serve", folder, "--port", "0"))
    assert line.endswith(f"`gemtune export {run} gguf-f32` makes it again, and verifies it")


def test_the_packages_that_are_missing_are_named(run: Path) -> None:
    first = "import sys\nfor name in ('starlette', 'uvicorn'): sys.modules[name] = None"
    line = refusal(spawn("serve", run, "--engine", "llama.cpp", first=first))
    assert line.endswith("pip install 'gemtune[serve]'")
