"""Short trainings of every tiny model against the losses and replies on record: a refactor changes none of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from golden.record import CASES, GOLDEN, record

RECORDED = json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_case_is_on_record() -> None:
    assert RECORDED.keys() == CASES.keys()


@pytest.mark.parametrize("case", CASES)
def test_losses_and_replies_are_those_on_record(case: str, tmp_path: Path) -> None:
    """Within a hundred-thousandth: processors differ in the order in which they sum."""
    now, then = record(case, tmp_path), RECORDED[case]
    assert now["replies"] == then["replies"]
    assert [line.keys() for line in now["steps"]] == [line.keys() for line in then["steps"]]
    for line, golden in zip(now["steps"], then["steps"], strict=True):
        assert line == pytest.approx(golden, rel=2e-5)
