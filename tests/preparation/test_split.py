"""The split by hash: shares are kept, a group's part never depends on other rows, and fixed parts stay fixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.data.conversation import read_conversations
from gemtune.errors import DataError
from gemtune.preparation.prepare import prepare
from gemtune.preparation.split import split
from gemtune.recipe.schema import Split
from gemtune.runs import PARTS
from preparation.prepared_rows import Rows, a_run, pairs

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


DOCUMENTS = ["a.pdf", "b.pdf + c/d.pdf", "e.pdf", "f.pdf", "d.pdf"]


def documents() -> Rows:
    return [{**row, "group": DOCUMENTS[number % len(DOCUMENTS)]} for number, row in enumerate(pairs(20))]


def groups_of(folder: Path, **settings: object) -> dict[str, set[str | None]]:
    """The groups in each part."""
    recipe, run = a_run(folder, documents(), split={"by": "group", **settings})
    prepare(recipe, run)
    return {part: {row.group for row in read_conversations(run.part(part))} for part in PARTS}


def test_a_part_that_names_groups_has_these_and_no_others(tmp_path: Path) -> None:
    found = groups_of(tmp_path, val=["e.pdf", "a.pdf"], test=0)
    assert found == {"train": {"b.pdf + c/d.pdf", "f.pdf", "d.pdf"}, "val": {"e.pdf", "a.pdf"}, "test": set()}


def test_a_group_is_found_by_the_name_of_any_that_was_merged_into_it(tmp_path: Path) -> None:
    found = groups_of(tmp_path, val=["c/d.pdf"], test=["d.pdf"])
    assert found == {"train": {"a.pdf", "e.pdf", "f.pdf"}, "val": {"b.pdf + c/d.pdf"}, "test": {"d.pdf"}}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"val": ["g.pdf"], "test": 0}, "split.val: no row has the group 'g.pdf'; did you mean"),
        ({"val": 0, "test": ["zzz"]}, "no row has the group 'zzz'; there are 5 groups by group, such as a.pdf"),
        ({"val": ["b.pdf"], "test": ["c/d.pdf"]}, "both name the group 'b.pdf + c/d.pdf'; name it in one of them"),
        ({"val": DOCUMENTS, "test": 0}, "(split.val 5 groups, split.test 0, by group); lower them"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_are_one_line_with_the_next_move(
    tmp_path: Path, settings: dict[str, object], wanted: str
) -> None:
    with pytest.raises(DataError) as error:
        groups_of(tmp_path, **settings)
    assert wanted in str(error.value)
