"""Scratch files: what comes back is what was kept, and DuckDB brings together the rows that numpy does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemtune.preparation import scratch
from gemtune.preparation.scratch import NumberFile, TextFile, repeats, together


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_come_back_by_number(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    file = TextFile(tmp_path_factory.getbasetemp())
    for text in texts:
        file.append(text)
    assert [file[number] for number in range(len(file))] == texts
    with pytest.raises(IndexError):
        file[len(texts)]
    file.close()


def test_numbers_come_back_as_an_array_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_WRITTEN", 3)
    file = NumberFile(tmp_path, "Q")
    assert file.values.tolist() == []
    for number in range(7):
        file.append(2**64 - 1 - number)
        assert len(file) == number + 1
    file.values[4] = 5
    file.append(8)
    assert file.values.tolist() == [*(2**64 - 1 - n for n in range(4)), 5, *(2**64 - 1 - n for n in (5, 6)), 8]
    file.close()


@pytest.mark.parametrize("most", [None, 0], ids=["numpy", "duckdb"])
@settings(max_examples=20, deadline=None)
@given(numbers=st.lists(st.integers(0, 12), max_size=90), piece=st.integers(1, 40), seed=st.integers(0, 9))
def test_rows_that_share_a_number_come_together(most: int | None, numbers: list[int], piece: int, seed: int) -> None:
    values = np.array(numbers, np.uint64) * np.uint64(2**60 + 1)
    rows = np.random.default_rng(seed).random(len(values)) < 0.8
    kept = np.flatnonzero(rows).tolist()
    places = {value: [row for row in kept if values[row] == value] for value in sorted({*values.tolist()})}
    shared = {value: found for value, found in places.items() if len(found) > 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "PIECE", piece)
        if most is not None:
            patch.setattr(scratch, "IN_MEMORY", most)
        found = [(part.tolist(), where.tolist()) for part, where in together(lambda part: values[part], rows)]
        later, first = repeats(lambda part: values[part], rows)
    assert [row for _, where in found for row in where] == [row for where in shared.values() for row in where]
    assert [n for part, _ in found for n in part] == [value for value, where in shared.items() for _ in where]
    parts = [part for part, _ in found if part]
    assert all(part[-1] < after[0] for part, after in pairwise(parts)), "rows of one number are in one piece"
    first_of = {row: where[0] for where in shared.values() for row in where[1:]}
    assert dict(zip(later.tolist(), first.tolist(), strict=True)) == first_of
    assert later.tolist() == sorted(first_of)
