"""The split by hash: shares are kept, a group's part never depends on other rows, and fixed parts stay fixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.preparation.split import split
from gemtune.recipe.schema import Split

AUTO, TRAIN, VAL, TEST = range(4)  # pools: wherever the split says, or where the user put the rows
HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60, unique=True)


def parts_of(groups: list[int], pools: list[int] | None = None, **settings: float) -> list[int]:
    return split(Split(**settings), np.array(groups, np.uint64), np.array(pools or [AUTO] * len(groups))).tolist()


@given(HASHES, st.floats(0, 0.4), st.floats(0, 0.4))
def test_with_shares_a_group_keeps_its_part_whatever_other_rows_there_are(
    groups: list[int], val: float, test: float
) -> None:
    together = parts_of(groups, val=val, test=test)
    assert together == [parts_of([group], val=val, test=test)[0] for group in groups]


def test_shares_are_met_by_many_groups() -> None:
    groups = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64, endpoint=False).tolist()
    shares = np.bincount(parts_of(groups, val=0.1, test=0.2), minlength=3) / len(groups)
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


@given(HASHES, st.data())
def test_rows_of_a_group_share_a_part(groups: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(groups), min_size=1, max_size=80))
    parts = parts_of(rows, val=0.3, test=0.3)
    assert len({*zip(rows, parts, strict=True)}) == len({*rows})


def test_rows_with_a_part_of_their_own_stay_there_and_do_not_move_the_others() -> None:
    groups = [2**60 * place for place in range(16)]
    alone = parts_of(groups, val=4, test=4)
    assert sorted(alone) == [0] * 8 + [1] * 4 + [2] * 4
    fixed = [TRAIN, VAL, TEST]
    assert parts_of([*groups, 5, 6, 7], [AUTO] * 16 + fixed, val=4, test=4) == [*alone, 0, 1, 2]
