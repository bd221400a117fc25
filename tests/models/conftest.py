"""Fixtures: a tiny model of every vision-language family, and a job whose rows have images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemtune.models.families import gemma3
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from models.vision import VISION, WriteRecipe, write_rows


@pytest.fixture(scope="session", params=VISION)
def vision_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return VISION[request.param].write_tiny(tmp_path_factory.mktemp("models") / "vision")


@pytest.fixture
def job(write_recipe: WriteRecipe, tmp_path: Path, vision_model: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    data = {"source": str(write_rows(tmp_path / "rows", 40)), "limit": None}
    job = Job(write_recipe(task="messages", model=str(vision_model), data=data, train={"max_length": 512}))
    stages.prepare(job)
    return job


@pytest.fixture(scope="session")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gemma3.write_tiny_vision(tmp_path_factory.mktemp("models") / "gemma")


@pytest.fixture
def vision_job(
    write_recipe: WriteRecipe, tmp_path: Path, gemma: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Job]:
    """Makes jobs of two steps over 24 rows with images, which share a cache."""
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    data = {"source": str(write_rows(tmp_path / "rows", 24)), "limit": None}

    def make(name: str = "t", **keys: Any) -> Job:
        train = {"max_length": 512, "max_steps": 2, "learning_rate": 0.01}
        return Job(write_recipe(name, task="messages", model=str(gemma), data=data, train=train, **keys))

    return make
