"""The verdict on a run: each word for the curves a person would give it to, and steady under noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.recipe.schema import recipe_keys
from gemtune.reporting import fit
from gemtune.reporting.fit import verdict


def lines(val: Sequence[float | None], probe: Sequence[float | None], every: int = 40) -> list[dict[str, Any]]:
    """Evaluation lines, one for each pair of losses, half an epoch apart."""
    return [
        {"step": every * index, "epoch": index / 2, "eval_loss": v, "probe_loss": p}
        for index, (v, p) in enumerate(zip(val, probe, strict=True))
    ]


GOOD = ([5.0, 2.0, 1.2, 1.01, 1.0, 1.0, 1.0], [5.0, 1.9, 1.1, 0.92, 0.91, 0.9, 0.9])
OVERFIT = ([5.0, 2.0, 1.2, 1.0, 1.1, 1.3, 1.6], [5.0, 1.9, 1.1, 0.8, 0.5, 0.3, 0.1])
FALLING = ([5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.0], [5.0, 4.4, 3.9, 3.4, 2.9, 2.4, 1.9])
FLAT = ([5.0, 4.99, 4.98, 4.98, 4.98, 4.98, 4.98], [5.0, 4.98, 4.97, 4.97, 4.97, 4.97, 4.97])
BY_HEART = ([2.0, 1.99, 1.99, 2.0, 2.0, 2.01, 2.01], [2.0, 1.5, 1.0, 0.6, 0.4, 0.3, 0.2])
EXPLODED = ([2.0, 1.5, 1.4, 2.5, 5.0, 7.0, 9.0], [2.0, 1.5, 1.4, 2.5, 5.0, 7.0, 9.0])
NOT_A_NUMBER = ([2.0, 1.5, math.nan], [2.0, 1.4, math.nan])
CURVES = {
    "good fit": [GOOD],
    "overfit": [OVERFIT, BY_HEART],
    "underfit": [FALLING, FLAT],
    "diverged": [EXPLODED, NOT_A_NUMBER],
}
CASES = [(word, val, probe) for word, curves in CURVES.items() for val, probe in curves]


@pytest.mark.parametrize(("word", "val", "probe"), CASES)
def test_each_curve_gets_its_word(word: str, val: list[float], probe: list[float]) -> None:
    assert verdict(lines(val, probe)).word == word


@pytest.mark.parametrize(("word", "val", "probe"), CASES)
def test_advice_names_only_keys_a_recipe_has(word: str, val: list[float], probe: list[float]) -> None:
    said = verdict(lines(val, probe))
    named = [part.strip(".,;()").split("=")[0] for part in said.advice.split()]
    named = [key for key in named if key.split(".")[0] in {"train", "lora", "split", "data"} and "." in key]
    assert set(named) <= set(recipe_keys())
    assert named or said.word == "good fit"


def test_the_reason_quotes_the_numbers() -> None:
    assert "From step 120 to step 240 the val loss rose from 1 to 1.6 while" in verdict(lines(*OVERFIT)).why
    assert "the probe loss on train rows went from 0.8 to 0.1." in verdict(lines(*OVERFIT)).why
    assert "from step 160 to step 240 the val loss went from 3 to 2" in verdict(lines(*FALLING)).why
    assert "4.98" in verdict(lines(*FLAT)).why
    assert "from 2 to 0.2" in verdict(lines(*BY_HEART)).why
    assert "step 80" in verdict(lines(*NOT_A_NUMBER)).why
    assert "val loss 9 and probe loss 9 at step 240" in verdict(lines(*EXPLODED)).why


def test_overfitting_after_the_kept_checkpoint_is_harmless() -> None:
    advice = verdict(lines(*OVERFIT), kept_step=120).advice
    assert advice.startswith("Harmless here: the checkpoint kept is step 120")
    assert "train.epochs=1.5" in advice
    assert verdict(lines(*OVERFIT)).advice == advice


def test_overfitting_before_the_kept_checkpoint_is_not() -> None:
    said = verdict(lines(*OVERFIT), kept_step=240)
    assert said.word == "overfit"
    assert "step 240, was chosen by metric and has val loss 1.6" in said.why
    assert "Harmless" not in said.advice


def test_a_run_that_is_worst_from_the_first_step_on_is_not_called_harmless() -> None:
    said = verdict(lines([1.0, 1.2, 1.4, 1.6], [1.0, 0.8, 0.5, 0.2]))
    assert said.word == "overfit"
    assert "No checkpoint beats the start" in said.why
    assert "Harmless" not in said.advice


def test_a_val_loss_far_above_the_start_is_overfitting_as_long_as_the_probe_falls() -> None:
    assert verdict(lines([1.0, 0.9, 1.5, 3.0], [1.0, 0.7, 0.2, 0.01])).word == "overfit"


def test_a_probe_at_its_floor_still_shows_overfitting() -> None:
    assert verdict(lines([3.0, 0.5, 0.5, 0.8], [3.0, 0.001, 0.001, 0.002])).word == "overfit"


def test_both_rising_together_below_the_start_is_unsteady_not_overfit() -> None:
    said = verdict(lines([5.0, 1.0, 1.5, 1.6], [5.0, 0.9, 1.4, 1.5]))
    assert said.word == "good fit"
    assert "unsteady" in said.why and "train.learning_rate" in said.advice


def test_a_wide_gap_asks_for_data() -> None:
    said = verdict(lines([5.0, 1.5, 1.5, 1.5], [5.0, 0.7, 0.6, 0.6]))
    assert said.word == "good fit"
    assert "more data" in said.advice


@pytest.mark.parametrize("number", [0, 1, 2])
def test_few_evaluations_get_no_verdict(number: int) -> None:
    said = verdict(lines(GOOD[0][:number], GOOD[1][:number]))
    assert said.word == "not enough evaluations"
    assert f"{number} evaluation" in said.why
    assert ("split.val" in said.advice) is (number == 0)


def test_training_lines_and_a_missing_number_are_understood() -> None:
    train = [{"step": step, "epoch": step / 80, "loss": 99.0} for step in range(240)]
    assert verdict([*train, *lines(*GOOD)]).word == "good fit"
    assert verdict(lines([2.0, None], [2.0, 1.0])).word == "diverged"


losses = st.floats(min_value=1e-6, max_value=1e4)
pairs = st.lists(st.tuples(losses, losses), max_size=12)


@given(pairs, st.none() | st.integers(0, 480))
def test_any_finite_losses_get_a_verdict_with_a_reason(found: list[tuple[float, float]], kept_step: int | None) -> None:
    said = verdict(lines([val for val, _ in found], [probe for _, probe in found]), kept_step)
    assert said.word in {"good fit", "underfit", "overfit", "diverged", "not enough evaluations"}
    assert said.why.endswith(".") and said.advice.endswith(".")
    assert (said.word == "not enough evaluations") == (len(found) < fit.ENOUGH)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_lines_does_not_matter(found: list[tuple[float, float]], shuffle: Any) -> None:
    ordered = lines([val for val, _ in found], [probe for _, probe in found])
    mixed = list(ordered)
    shuffle.shuffle(mixed)
    assert verdict(mixed) == verdict(ordered)


@pytest.mark.parametrize(("word", "val", "probe"), [case for case in CASES if case[1] is not NOT_A_NUMBER[0]])
@given(data=st.data())
def test_noise_well_below_the_margin_flips_no_verdict(
    word: str, val: list[float], probe: list[float], data: Any
) -> None:
    wiggle = st.lists(st.floats(-0.4 * fit.NOISE, 0.4 * fit.NOISE), min_size=len(val), max_size=len(val))
    noisy = [[loss * (1 + e) for loss, e in zip(curve, data.draw(wiggle), strict=True)] for curve in (val, probe)]
    assert verdict(lines(*noisy)).word == word


@pytest.mark.parametrize(("word", "val", "probe"), [case for case in CASES if case[1] is not NOT_A_NUMBER[0]])
@given(scale=st.floats(1.0, 50.0))
def test_the_unit_of_the_loss_does_not_matter(word: str, val: list[float], probe: list[float], scale: float) -> None:
    assert verdict(lines([scale * loss for loss in val], [scale * loss for loss in probe])).word == word


@given(st.integers(1, 6))
def test_how_often_a_run_is_evaluated_does_not_matter(finer: int) -> None:
    """The same falling line, looked at more often: the last quarter falls as much."""
    steps = 6 * finer
    val = [5.0 - 3.0 * index / steps for index in range(steps + 1)]
    assert verdict(lines(val, val, every=40 // finer)).word == "underfit"
