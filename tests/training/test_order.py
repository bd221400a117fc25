"""The order of a training: nobody lost, nobody twice, the weights kept, and any step of it computed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemtune.training.order import Order, permuted


def order_of(rows: int, batch_size: int = 8, epochs: float = 2, seed: int = 0, **more: int) -> Order:
    return Order(((1.0, rows),), batch_size=batch_size, epochs=epochs, seed=seed, **more)


@given(rows=st.integers(1, 50), batch=st.integers(1, 20), epochs=st.integers(1, 4), seed=st.integers(0, 5))
def test_an_epoch_visits_every_row_once(rows: int, batch: int, epochs: int, seed: int) -> None:
    batches = order_of(rows, batch, epochs, seed)
    assert len(batches) == epochs * -(-rows // batch)
    visits = np.bincount(np.concatenate(list(batches)), minlength=rows)
    assert (visits == epochs).all()
    assert all(len(b) <= batch for b in batches)


@given(weights=st.lists(st.floats(0.1, 3.0), min_size=1, max_size=3), seed=st.integers(0, 20))
@settings(deadline=None)
def test_a_weight_is_visits_an_epoch(weights: list[float], seed: int) -> None:
    epochs, rows = 40, 25
    batches = Order(tuple((weight, rows) for weight in weights), batch_size=8, epochs=epochs, seed=seed)
    visits = np.bincount(np.concatenate(list(batches)), minlength=rows * len(weights)).reshape(-1, rows)
    assert (np.abs(visits - np.array(weights)[:, None] * epochs) <= 1).all()


def test_a_source_of_a_small_weight_shows_other_rows_in_every_epoch() -> None:
    batches = Order(((1.0, 60), (0.25, 40)), batch_size=70, epochs=4, seed=3)
    epochs = [batches[step] for step in range(4)]
    assert all(len(np.unique(rows)) == 70 for rows in epochs)
    assert sorted(np.concatenate([rows[rows >= 60] for rows in epochs]).tolist()) == list(range(60, 100))


def test_the_order_depends_on_the_seed_alone() -> None:
    first, again, other = (list(order_of(40, seed=seed)) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    assert any((a != b).any() for a, b in zip(first[:5], first[5:], strict=True)), "the second epoch is another order"


def test_a_part_of_an_epoch_is_its_first_batches_and_max_steps_goes_on() -> None:
    whole = [rows.tolist() for rows in order_of(40, epochs=3)]
    assert [rows.tolist() for rows in order_of(40, epochs=1.4)] == whole[:7]
    assert [rows.tolist() for rows in order_of(40, epochs=1, max_steps=12)] == whole[:12]
    assert order_of(40, epochs=1.4).steps_per_epoch == pytest.approx(5)
    assert len(Order(((0.001, 20),), batch_size=8, epochs=1, seed=0)) == 0, "no row is visited"


def test_a_step_in_the_middle_of_a_billion_rows_is_computed_alone() -> None:
    rows = 1_000_000_000
    batches = order_of(rows, batch_size=16, seed=7)
    step = 41_234_567
    taken = batches[step]
    assert len(taken) == 16 == len(np.unique(taken)) and taken.min() >= 0 and taken.max() < rows
    assert (order_of(rows, batch_size=16, seed=7)[step] == taken).all(), "the same whatever was asked before"
    assert batches[len(batches) - 1].size == 16 and len(batches) == 2 * rows // 16
    with pytest.raises(IndexError):
        batches[len(batches)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 70_001])
def test_a_permutation_keeps_every_place(size: int) -> None:
    places = permuted(np.arange(size, dtype=np.uint64), size, (5, 1))
    assert sorted(places.tolist()) == list(range(size))


def test_neighbours_go_to_places_that_tell_nothing_of_each_other() -> None:
    size = 100_003
    places = permuted(np.arange(size, dtype=np.uint64), size, (1, 2)).astype(float)
    for distance in (1, 2, 16, 256, 316, 1024):
        assert abs(np.corrcoef(places[distance:], places[:-distance])[0, 1]) < 5 / np.sqrt(size)
    few = np.array([permuted(np.arange(10, dtype=np.uint64), 10, (seed, 1)) for seed in range(2000)]).astype(int)
    chances = np.array([np.bincount(column, minlength=10) for column in few.T]) / len(few)
    assert np.abs(chances - 0.1).max() < 0.1 * 5 * np.sqrt(0.9 / 0.1 / len(few)), "any row may come first"
