"""A long answer about a page is trained to its last token, with the stock model's loss, or left out with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package benchmarks

from benchmarks.studies.long_answer import long_answer
from gemtune.models.families import write_tiny


def test_a_long_answer_is_trained_whole(tmp_path: Path) -> None:
    found = long_answer(write_tiny("gemma3-vision", tmp_path / "tiny"), tmp_path, 600)
    assert found.answer >= 600 and found.trained == found.answer + 1, "with the end of the turn"
    assert found.loss == pytest.approx(found.stock, rel=1e-5)
    assert f"1 are longer than train.max_length = {found.tokens - 1}" in found.dropped
