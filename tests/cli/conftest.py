"""Fixtures: a user's folder, and a run directory made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.place import Place, trained_in
from gemtune.pipeline import stages


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path) -> Place:
    return Place(tmp_path, tiny_model)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run directory with an adapter and two checkpoints, made once."""
    return trained_in(tmp_path_factory.mktemp("trained"), tiny_model, stages.train)
