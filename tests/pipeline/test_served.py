"""Which runs one server takes together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from command import gemtune, refusal
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from serving.live import live

WriteRecipe = Callable[..., Path]
STEPS = {"max_steps": 2}


def quiet(source: Path) -> Job:
    return Job(source, say=lambda text: None)


@pytest.fixture
def trained(write_recipe: WriteRecipe) -> Callable[..., Path]:
    """The run directory of two steps."""

    def train(name: str, **keys: object) -> Path:
        job = quiet(write_recipe(name, **{"train": STEPS, **keys}))
        stages.train(job)
        return job.run.root

    return train


def test_runs_that_a_request_could_not_tell_apart_are_refused(
    trained: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = trained("one")
    other = shutil.copytree(first, tmp_path / "elsewhere" / "one")
    assert "could not tell it from" in refusal(gemtune(capfd, "serve", first, other))
    base = shutil.copytree(first, tmp_path / "base")
    assert refusal(gemtune(capfd, "serve", base)).endswith("it from the base model; rename one of the folders")


def test_runs_of_other_base_models_are_refused(
    trained: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from gemtune.models.families import gemma3

    model = gemma3.write_tiny_text(tmp_path / "other", seed=1)
    line = refusal(gemtune(capfd, "serve", trained("one"), trained("two", model=str(model))))
    assert "its base model (" in line and "is not that of" in line and line.endswith("serve them apart")


def test_a_run_of_which_every_weight_was_trained_is_served_alone(
    trained: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = trained("whole", lora="none", evaluate={"max_new_tokens": 8})
    line = refusal(gemtune(capfd, "serve", trained("one"), whole))
    assert line.endswith("every weight was trained, so it shares no base model; serve it alone")
    (tmp_path / "images").mkdir()
    with live([quiet(whole)], tmp_path / "images") as server:
        assert [model.id for model in server.client.models.list().data] == ["whole"]
        assert server.said("hello", "whole") == stages.generate(quiet(whole), "hello").strip()


def test_a_run_that_is_not_trained_is_refused(write_recipe: WriteRecipe, capfd: pytest.CaptureFixture[str]) -> None:
    job = quiet(write_recipe())
    stages.prepare(job)
    refusal(gemtune(capfd, "serve", job.run.root))


def test_a_server_writes_nothing_into_a_run(trained: Callable[..., Path], tmp_path: Path) -> None:
    from command import tree

    run = trained("one")
    before = tree(run)
    (tmp_path / "images").mkdir()
    with live([quiet(run)], tmp_path / "images") as server:
        server.said("hello", max_tokens=4)
    assert tree(run) == before
