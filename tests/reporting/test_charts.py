"""Charts hold all their values, and stay small."""

from __future__ import annotations

from gemtune.reporting import charts


def test_axes_hold_all_their_values() -> None:
    for values in ([0.9, 11.0], [0.5], [0.0, 0.0], [1e-6, 1.0], [3.0, 3.0001], [-0.2, 0.4]):
        axis = charts.value_axis(values)
        assert all(0 <= axis.at(value) <= 100 for value in values)
        assert 2 <= len(axis.ticks) <= 12, (values, axis)


def test_many_points_become_few_with_the_same_mean() -> None:
    curve = charts.Curve("train", "train", [(step, 2.0) for step in range(10_001)])
    assert len(curve.drawn) <= charts.MOST_POINTS
    assert {loss for _, loss in curve.drawn} == {2.0}
