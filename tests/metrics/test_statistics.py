import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemtune.metrics.statistics import (
    F1,
    Interval,
    Metric,
    Ratio,
    bootstrap_sums,
    combined_difference,
    combined_interval,
    mean_interval,
    paired_difference,
)

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@settings(max_examples=50)
@given(values, st.floats(0.01, 0.99))
def test_the_interval_contains_the_mean_and_stays_in_the_range(scores, confidence):
    interval = mean_interval(scores, confidence=confidence, resamples=200)
    assert interval.low <= interval.mean <= interval.high
    assert interval.mean == pytest.approx(math.fsum(scores) / len(scores), abs=1e-6)
    assert min(scores) - 1e-6 <= interval.low and interval.high <= max(scores) + 1e-6


def test_the_interval_agrees_with_the_plain_bootstrap():
    scores = np.random.default_rng(1).random(40)
    interval = mean_interval(scores, seed=3)
    generator = np.random.default_rng(4)
    means = [generator.choice(scores, size=40).mean() for _ in range(10_000)]
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.005)


def test_a_95_percent_interval_covers_the_true_mean_about_95_times_in_100():
    draws = np.random.default_rng(0).normal(0.5, 0.2, size=(300, 40))
    covered = [(i := mean_interval(draw, resamples=400)).low <= 0.5 <= i.high for draw in draws]
    assert 0.90 <= np.mean(covered) <= 0.98


def test_intervals_are_seeded():
    scores = list(np.random.default_rng(0).random(50))
    assert mean_interval(scores, seed=5) == mean_interval(scores, seed=5) != mean_interval(scores, seed=6)


def test_drawing_in_chunks_gives_the_numbers_of_one_draw():
    scores = np.random.default_rng(0).random(50)
    interval = mean_interval(scores, resamples=50_000, seed=9)  # 20,000 resamples of 50 fit one chunk
    means = scores[np.random.default_rng(9).integers(50, size=(50_000, 50))].mean(axis=1)
    assert (interval.low, interval.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)


def test_more_confidence_is_wider_and_one_value_has_no_width():
    scores = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    narrow, wide = mean_interval(scores, confidence=0.5), mean_interval(scores, confidence=0.99)
    assert wide.low < narrow.low <= narrow.high < wide.high
    assert mean_interval([0.3]) == Interval(0.3, 0.3, 0.3)


pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


@settings(max_examples=50)
@given(pairs)
def test_mcnemar_is_the_direct_binomial_sum(rows):
    base, tuned = zip(*rows, strict=True)
    test = paired_difference(base, tuned, resamples=100)
    wins, losses = rows.count((0, 1)), rows.count((1, 0))
    n = wins + losses
    centre = abs(wins - n / 2)
    direct = sum(math.comb(n, k) * 0.5**n for k in range(n + 1) if abs(k - n / 2) >= centre)
    assert test.method == "mcnemar"
    assert (test.wins, test.losses, test.ties) == (wins, losses, len(rows) - n)
    assert test.p_value == pytest.approx(direct)
    assert test.mean == pytest.approx((wins - losses) / len(rows))


def test_mcnemar_with_known_values():
    assert paired_difference([0] * 10, [1] * 10).p_value == 2 / 2**10
    assert paired_difference([1, 0], [1, 0]).p_value == 1.0
    assert paired_difference([0] * 5000, [1] * 5000).p_value == 0.0  # 2 ** -4999 is below the smallest float


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9))
def test_the_exact_permutation_test_is_brute_force(rows):
    base, tuned = [a / 10 for a, _ in rows], [b / 10 for _, b in rows]
    test = paired_difference([*base, 0.5], [*tuned, 0.5], resamples=50)  # 0.5: not all are 0 or 1
    differences = [b - a for a, b in rows]
    signs = itertools.product((1, -1), repeat=len(rows))
    sums = [sum(s * d for s, d in zip(row, differences, strict=True)) for row in signs]
    assert test.method == "permutation"
    assert test.p_value == pytest.approx(np.mean([abs(s) >= abs(sum(differences)) for s in sums]))


def test_ties_leave_the_permutation_test_as_it_is():
    base, tuned = [0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.2, 0.9]
    tied = paired_difference(base + [0.7] * 50, tuned + [0.7] * 50)
    assert tied.p_value == paired_difference(base, tuned).p_value
    assert (tied.wins, tied.losses, tied.ties) == (3, 1, 50)
    assert paired_difference([0.5], [0.5]).p_value == 1.0


def test_the_sampled_permutation_test_comes_near_all_signs():
    generator = np.random.default_rng(0)
    base = generator.random(14)
    tuned = base + generator.normal(0.1, 0.2, size=14)
    signs = np.array(list(itertools.product((1, -1), repeat=14)))
    precise = np.mean(np.abs(signs @ (tuned - base)) >= abs((tuned - base).sum()) - 1e-12)
    sampled = paired_difference(base, tuned)
    assert sampled.p_value == pytest.approx(precise, abs=0.02)
    assert sampled == paired_difference(base, tuned)


def test_a_sampled_p_value_is_never_zero():
    assert paired_difference([0.5] * 40, [0.9] * 40, resamples=999).p_value == 1 / 1000


def test_swapping_base_and_tuned_turns_the_sign():
    base, tuned = np.random.default_rng(2).random((2, 10))
    there, back = paired_difference(base, tuned), paired_difference(tuned, base)
    assert there.mean == -back.mean and there.p_value == back.p_value
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_false_positives_stay_near_five_percent():
    generator = np.random.default_rng(7)
    p_values = [paired_difference(*generator.random((2, 10)), resamples=1).p_value for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08


@pytest.mark.parametrize("bad", [[], [float("nan")], [1.0, float("inf")], [[1.0], [2.0]], 3.0])
def test_scores_that_cannot_be_averaged(bad):
    with pytest.raises(ValueError, match="values must be a list of finite scores"):
        mean_interval(bad)


def test_rows_that_do_not_pair_up():
    with pytest.raises(ValueError, match="base has 2 scores and tuned 3"):
        paired_difference([1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="base must be"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([1.0], confidence=95)


# ---- scores of a corpus


@pytest.mark.parametrize("rows", [1, 8, 60])
def test_a_ratio_over_rows_of_equal_size_is_their_mean(rows: int) -> None:
    """The corpus statistics against those of a mean: same draws, same interval, same p value."""
    draw = np.random.default_rng(7)
    base, tuned = draw.random(rows), draw.random(rows)
    sides = [{"rate": values, "size": np.ones(rows)} for values in (base, tuned)]
    rate = Metric(combine=Ratio("rate", "size"))
    assert rate.combine is not None
    interval, mean = combined_interval(rate.combine, sides[0], seed=3), mean_interval(base, seed=3)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((mean.mean, mean.low, mean.high))
    paired, reference = combined_difference("rate", rate, *sides, seed=3), paired_difference(base, tuned, seed=3)
    assert (paired.mean, paired.low, paired.high) == pytest.approx((reference.mean, reference.low, reference.high))
    assert paired.p_value == pytest.approx(reference.p_value)
    assert (paired.wins, paired.losses, paired.method) == (reference.wins, reference.losses, "permutation")


def test_an_error_rate_against_nothing_is_all_wrong_or_all_right() -> None:
    rate = Ratio("edits", "characters")
    assert rate({"edits": np.array([3.0]), "characters": np.array([0.0])}) == 1.0
    assert rate({"edits": np.array([0.0]), "characters": np.array([0.0])}) == 0.0


def test_corpora_of_different_rows_are_refused() -> None:
    one, two = {"a": [1.0], "b": [1.0]}, {"a": [1.0, 2.0], "b": [1.0, 1.0]}
    with pytest.raises(ValueError, match="the same rows are wanted in both"):
        combined_difference("a", Metric(combine=Ratio("a", "b")), one, two)


# ---- groups of rows


def test_one_row_a_group_changes_nothing() -> None:
    scores = {"edits": [1.0, 0.0, 2.0, 3.0], "characters": [4.0, 4.0, 8.0, 4.0]}
    rate = Ratio("edits", "characters")
    assert combined_interval(rate, scores, groups=list("abcd")) == combined_interval(rate, scores)


def test_pages_of_a_document_are_no_independent_witnesses() -> None:
    """Ten documents of 20 pages that are all alike within: the interval is as wide as that of ten rows."""
    draw = np.random.default_rng(5)
    of_document = draw.random(10)
    pages = {"found": np.repeat(of_document, 20), "rows": np.ones(200)}
    groups = [f"{number}.pdf" for number in range(10) for _ in range(20)]
    rate = Ratio("found", "rows")
    alone, kept = combined_interval(rate, pages), combined_interval(rate, pages, groups=groups)
    ten = mean_interval(of_document)
    assert (kept.mean, kept.low, kept.high) == pytest.approx((ten.mean, ten.low, ten.high))
    assert kept.high - kept.low > 3 * (alone.high - alone.low)


def test_base_and_tuned_change_places_in_whole_groups() -> None:
    metric = Metric(combine=Ratio("found", "rows"))
    base = {"found": [0.0] * 12, "rows": [1.0] * 12}
    tuned = {"found": [1.0] * 12, "rows": [1.0] * 12}
    paired = combined_difference("found", metric, base, tuned, groups=["a"] * 4 + ["b"] * 4 + ["c"] * 4)
    assert paired.p_value == 2 / 2**3, "three documents, not twelve pages"
    assert (paired.wins, paired.mean) == (12, 1.0)


def test_intervals_of_groups_cover_what_they_should() -> None:
    """Of corpora whose documents differ: at least nine in ten intervals hold the true rate."""
    draw, covered = np.random.default_rng(11), 0
    for _ in range(100):
        rates = np.repeat(draw.normal(0.5, 0.2, 30), 10)
        found = (draw.random(300) < rates).astype(float)
        groups = [str(number) for number in range(30) for _ in range(10)]
        interval = combined_interval(
            Ratio("found", "rows"), {"found": found, "rows": np.ones(300)}, groups=groups, resamples=400
        )
        covered += interval.low <= 0.5 <= interval.high
    assert covered >= 85


def test_f1_of_nothing_is_right() -> None:
    nothing = {"found": np.zeros(2), "given": np.zeros(2), "true": np.zeros(2)}
    assert F1("found", "given", "true")(nothing) == 1.0
    assert Ratio("found", "given", of_nothing=1.0)(nothing) == 1.0


@pytest.mark.parametrize("groups", [None, [f"document {row % 7}" for row in range(40)]])
def test_samples_that_scores_share_are_those_that_each_draws(groups: list[str] | None) -> None:
    draw = np.random.default_rng(5)
    sides = [
        {
            name: draw.integers(1, 30, 40).astype(float)
            for name in ("cer", "edits", "characters", "found", "given", "true")
        }
        for _ in range(2)
    ]
    sums = bootstrap_sums(sides, groups=groups)
    for combine in (Ratio("edits", "characters"), F1("found", "given", "true")):
        alone = [combined_interval(combine, side, groups=groups) for side in sides]
        shared = [
            combined_interval(combine, side, groups=groups, sums=one) for side, one in zip(sides, sums, strict=True)
        ]
        assert shared == alone
        metric = Metric(combine=combine)
        difference = combined_difference("cer", metric, *sides, groups=groups)
        assert combined_difference("cer", metric, *sides, groups=groups, sums=(sums[0], sums[1])) == difference
    if groups is None:
        means = [mean_interval(side["cer"]) for side in sides]
        for own, side, one in zip(means, sides, sums, strict=True):
            shared_mean = mean_interval(side["cer"], sums=one["cer"])
            assert (shared_mean.low, shared_mean.high) == pytest.approx((own.low, own.high), rel=1e-12)
