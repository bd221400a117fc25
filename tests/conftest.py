"""Fixtures: a tiny model folder, made once, and recipes over it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import settings

from gemtune.models.families import gemma3
from gemtune.runs import Run
from run_folders import accepted, recipe_in

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("untimed")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module", autouse=True)
def _what_is_there_stays() -> None:
    """The collector looks no more at what was there before a file's tests.

    Looking through all that torch and transformers make takes 0.3 s, and every training asks for it twice.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gemma3.write_tiny_text(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run directory with nothing in it but its recipe."""
    return accepted(recipe_in(tmp_path))


@pytest.fixture
def write_recipe(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """Writes a recipe over the tiny model: quick, fp32, on the CPU, with keys of the caller's on top."""

    def write(name: str = "t", **keys: object) -> Path:
        recipe: dict[str, object] = {
            "name": name,
            "task": "emoji",
            "model": str(tiny_model),
            "runs_dir": str(tmp_path / "runs"),
            "data": {"source": str(EXAMPLES / "emoji.csv"), "limit": 120},
            "train": {"epochs": 1, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu"},
            "evaluate": {"limit": 8, "max_new_tokens": 8},
        }
        for key, value in keys.items():
            section = recipe.get(key)
            recipe[key] = {**section, **value} if isinstance(section, dict) and isinstance(value, dict) else value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        return path

    return write
