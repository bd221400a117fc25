"""Fixtures: a run of every stage, and one whose every text is hostile."""

from __future__ import annotations

import pytest

from gemtune.runs import Run
from reporting.made_run import HOSTILE, STAGES, make_run


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("full"), *STAGES)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("hostile"), *STAGES, text=HOSTILE)
