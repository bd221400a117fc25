"""What is claimed of base against tuned, and which answers are shown."""

from __future__ import annotations

import pytest

from gemtune.metrics.statistics import Difference, Interval
from gemtune.reporting.comparison import Answer, Score, sample, summary_lines
from gemtune.run_files import Comparison, CutReplies, Decoding, Summary

SIDE = Interval(0.5, 0.4, 0.6)
TEXTS = {"prompt": "p", "gold": "g", "base": "b", "tuned": "t"}


def gap(low: float, high: float, p_value: float = 0.001) -> Difference:
    return Difference((low + high) / 2, low, high, p_value, "mcnemar", 1, 1, 1)


@pytest.mark.parametrize(
    ("low", "high", "p_value", "outcome"),
    [
        (0.1, 0.3, 0.001, "better"),
        (-0.3, -0.1, 0.001, "worse"),
        (-0.1, 0.3, 0.3, "undecided"),
        (0.01, 0.3, 0.06, "undecided"),
    ],
)
def test_a_difference_is_claimed_only_when_it_is_sure(low: float, high: float, p_value: float, outcome: str) -> None:
    score = Score("f1", 40, SIDE, SIDE, gap(low, high, p_value))
    assert score.outcome == outcome
    assert ("no sure difference" in score.claim) == (outcome == "undecided")


@pytest.mark.parametrize(("rows", "words"), [(1, "1 test row shows no sure"), (1200, "1,200 test rows show no sure")])
def test_a_claim_counts_its_rows(rows: int, words: str) -> None:
    assert Score("f1", rows, SIDE, SIDE, gap(-0.1, 0.1, 0.6)).claim.startswith(words)


def test_the_sample_is_a_seeded_spread_wins_first() -> None:
    answers = [Answer(where=str(i), difference=d, **TEXTS) for i, d in enumerate([0.5] * 90 + [0.0] * 6 + [-0.5] * 4)]
    shown = sample(answers, 12)
    assert [answer.outcome for answer in shown] == ["wins"] * 6 + ["ties"] * 3 + ["losses"] * 3
    assert shown == sample(answers, 12) != sample(answers, 12, seed=1)
    assert [answer.where for answer in shown[:6]] != [answer.where for answer in answers[:6]]
    assert len(sample(answers[:3], 12)) == 3
    assert [a.outcome for a in sample(answers[:91], 12)] == ["wins"] * 11 + ["ties"]


@pytest.mark.parametrize(("low", "high", "outcome"), [(0.1, 0.3, "worse"), (-0.3, -0.1, "better")])
def test_a_report_claims_by_the_direction(low: float, high: float, outcome: str) -> None:
    score = Score("cer", 40, SIDE, SIDE, gap(low, high), "lower")
    assert score.claim == f"The tuned model is {outcome} than the base model in cer (lower is better)."


def test_an_answer_wins_by_the_direction() -> None:
    gaps = (0.5, -0.5, 0.0, 0.25, -0.25)
    answers = [Answer(where=str(gap), difference=gap, direction="lower", **TEXTS) for gap in gaps]
    assert [answer.outcome for answer in answers] == ["losses", "wins", "ties", "losses", "wins"]
    assert [answer.where for answer in sample(answers, 5)] == ["-0.5", "-0.25", "0.0", "0.25", "0.5"]


def test_a_summary_is_a_table_with_the_deciding_score_first_and_what_it_says() -> None:
    metrics = {
        "cer": Comparison(direction="lower", base=SIDE, tuned=SIDE, difference=gap(-0.1, 0.3, 0.3)),
        "f1": Comparison(base=SIDE, tuned=Interval(0.75, 0.7, 0.8), difference=gap(0.1, 0.3, 0.00001)),
    }
    decoding = Decoding(temperature=0.0, top_p=1.0, max_new_tokens=8, seed=0)
    cut = CutReplies(base=0, tuned=0)
    summary = Summary(version=1, metric="f1", rows=40, metrics=metrics, regressions=[], decoding=decoding, cut=cut)
    assert list(summary_lines(summary)) == [
        "metric                 base                  tuned                 difference",
        "f1                     0.500 [0.400, 0.600]  0.750 [0.700, 0.800]  +0.200 [+0.100, +0.300]  p < 0.0001",
        "cer (lower is better)  0.500 [0.400, 0.600]  0.500 [0.400, 0.600]  +0.100 [−0.100, +0.300]  p = 0.3",
        "",
        "The tuned model is better than the base model in f1. Tuned 0.750 [0.700, 0.800] against base "
        "0.500 [0.400, 0.600] on 40 test rows; p < 0.0001.",
    ]
