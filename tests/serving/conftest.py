"""Fixtures: two runs over one tiny model, one of them with token rows, a run with images, and servers of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gemtune.models.families import gemma3
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from models.vision import write_rows
from serving.live import Live, live

WORDS = [
    "beach",
    "swim",
    "pizza",
    "dog",
    "coffee",
    "birthday",
    "love",
    "rain",
    "tired",
    "happy",
    "good",
    "morning",
    "go",
    "eat",
    "work",
]
EMOJI = ["🏖️", "🏊", "🍕", "🐶", "☕", "🎂", "🌧️", "😴"]  # which the tiny tokenizer has tokens of


def write_rows_of_emoji(path: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    rows = [(" ".join(random.choice(WORDS, 5)), "".join(random.choice(EMOJI, 3))) for _ in range(120)]
    path.write_text("text,emoji\n" + "".join(f"{text},{emoji}\n" for text, emoji in rows), encoding="utf-8")
    return path


def trained(folder: Path, name: str, model: Path, **keys: Any) -> Path:
    """The run directory of a quick training."""
    recipe: dict[str, Any] = {
        "name": name,
        "task": "emoji",
        "model": str(model),
        "runs_dir": str(folder / "runs"),
        "data": {"source": str(write_rows_of_emoji(folder / f"{name}.csv", ord(name[0])))},
        "train": {"epochs": 1, "max_length": 512, "precision": "fp32", "device": "cpu", "learning_rate": 0.01},
        "evaluate": {"max_new_tokens": 12},
        **keys,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    job = Job(path, say=lambda text: None)
    stages.train(job)
    return job.run.root


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[Path]:
    """`one`, trained with token rows, and `two`, with another rank and fewer layers, and none."""
    folder = tmp_path_factory.mktemp("serving")
    two = {"r": 4, "target_modules": ["q_proj", "v_proj", "gate_proj"], "token_rows": "none"}
    return [trained(folder, "one", tiny_model), trained(folder, "two", tiny_model, lora=two)]


@pytest.fixture(scope="session")
def served(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    jobs = [Job(run, say=lambda text: None) for run in runs]
    with live(jobs, tmp_path_factory.mktemp("images")) as server:
        yield server


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows", 24)


@pytest.fixture(scope="session")
def sees(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    """A run that was trained on conversations with images."""
    folder = tmp_path_factory.mktemp("vision")
    model = gemma3.write_tiny_vision(folder / "model")
    return trained(folder, "sees", model, task="messages", data={"source": str(rows)})


@pytest.fixture(scope="session")
def seeing(sees: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live([Job(sees, say=lambda text: None)], tmp_path_factory.mktemp("images")) as server:
        yield server
