"""Base against tuned, in words: the scores and what they prove, the replies side by side, the terminal's summary."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from gemtune.errors import RunError
from gemtune.metrics.statistics import Difference, Direction, Interval
from gemtune.reporting import charts
from gemtune.reporting.text import count, interval, visible
from gemtune.run_files import Comparison, Evaluation, Regression, Summary
from gemtune.runs import Run

PRINTED = 9  # scores on the terminal
SURE = 0.05  # p value below which a difference is called one

Outcome = Literal["wins", "ties", "losses"]


@dataclass(frozen=True)
class Score:
    """One metric of the base and the tuned model on the same test rows."""

    name: str
    rows: int
    base: Interval
    tuned: Interval
    difference: Difference
    direction: Direction = "higher"
    is_partial: bool = False  # some test rows are not scored so

    @property
    def title(self) -> str:
        """The name, with its direction where it is not the usual one, and its rows where others have no such score."""
        notes = ["lower is better"] if self.direction == "lower" else []
        notes += [f"{count(self.rows)} rows"] if self.is_partial else []
        return f"{self.name} ({', '.join(notes)})" if notes else self.name

    @property
    def p(self) -> str:
        """The p value in words."""
        value = self.difference.p_value
        return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """Which model is ahead, when both the interval and the p value say that it is no accident."""
        if self.difference.p_value < SURE:
            if self.difference.low > 0:
                return "better" if self.direction == "higher" else "worse"
            if self.difference.high < 0:
                return "worse" if self.direction == "higher" else "better"
        return "undecided"

    @property
    def claim(self) -> str:
        if self.outcome == "undecided":
            shows = "shows" if self.rows == 1 else "show"
            return f"{self._test_rows} {shows} no sure difference in {self.title} between tuned and base."
        return f"The tuned model is {self.outcome} than the base model in {self.title}."

    @property
    def sentence(self) -> str:
        return f"Tuned {interval(self.tuned)} against base {interval(self.base)} on {self._test_rows}; {self.p}."

    @property
    def _test_rows(self) -> str:
        return f"{count(self.rows)} test row{'' if self.rows == 1 else 's'}"

    def bars(self, labels: bool = False) -> Markup:
        """Both models with their intervals as a chart."""
        sides = [("tuned", self.tuned), ("base", self.base)]
        bars = [(kind, side.mean, side.low, side.high) for kind, side in sides]
        return charts.intervals(bars, f"{self.name}: {self.sentence}", labels)

    @property
    def outcomes(self) -> Markup:
        """On how many rows tuned is better, the same and worse, as a bar."""
        counts = [("wins", self.difference.wins), ("ties", self.difference.ties), ("losses", self.difference.losses)]
        return charts.shares(counts, ", ".join(f"{rows} {name}" for name, rows in counts))


def scores_of(summary: Summary) -> list[Score]:
    """The deciding metric first, the others by name."""
    names = sorted(summary.metrics, key=lambda name: (name != summary.metric, name))
    compared = [(name, summary.metrics[name]) for name in names]
    return [_score(summary, name, comparison) for name, comparison in compared]


def beside_of(summary: Summary) -> dict[str, list[Score]]:
    """The scores of tuned against those who have answered rows besides the models, who take the place of base."""
    return {
        who: [_score(summary, name, compared[name]) for name in summary.metrics if name in compared]
        for who, compared in summary.beside.items()
    }


def _score(summary: Summary, name: str, comparison: Comparison) -> Score:
    rows = summary.scored.get(name, summary.rows)
    sides = comparison.base, comparison.tuned, comparison.difference
    return Score(name, rows, *sides, comparison.direction, is_partial=rows < summary.rows)


def summary_lines(summary: Summary) -> Iterator[str]:
    """What every verb prints of a summary: its first scores as a table, and what the deciding one says."""
    scores = scores_of(summary)
    table = [("metric", "base", "tuned", "difference", "")]
    table += [
        (s.title, interval(s.base), interval(s.tuned), interval(s.difference, sign=True), s.p) for s in scores[:PRINTED]
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield visible("  ".join(cells).rstrip())
    if len(scores) > PRINTED:
        yield f"and {len(scores) - PRINTED} more scores, which the report has"
    yield ""
    yield visible(f"{scores[0].claim} {scores[0].sentence}")
    for who, compared in beside_of(summary).items():
        first = compared[0]
        yield visible(
            f"Against {who} in {first.title}: tuned {interval(first.tuned)}, {who} {interval(first.base)}; {first.p}."
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One test row with the replies of both models; the scores are of the deciding metric."""

    where: str
    prompt: str
    gold: str
    base: str
    tuned: str
    difference: float
    base_score: float | None = None
    tuned_score: float | None = None
    base_cut: bool = False
    tuned_cut: bool = False
    images: tuple[str, ...] = ()  # paths in the data directory
    direction: Direction = "higher"

    @property
    def gain(self) -> float:
        """How much better tuned is than base."""
        return self.difference if self.direction == "higher" else -self.difference

    @property
    def outcome(self) -> Outcome:
        return "wins" if self.gain > 0 else "losses" if self.gain < 0 else "ties"


def answers_of(run: Run, summary: Summary) -> list[Answer] | None:
    """Every test row with both replies; None where they are not at hand."""
    folder = run.evaluation()
    if not all(folder.replies(name).is_file() for name in ("base", "tuned")):
        return None
    base, tuned = folder.evaluations("base"), folder.evaluations("tuned")
    if [row.where for row in base] != [row.where for row in tuned]:
        raise RunError(
            f"{folder.root}: base.jsonl and tuned.jsonl hold different rows; `gemtune evaluate {run.root}` again"
        )
    pairs = zip(base, tuned, strict=True)
    return [_answer(before, after, summary) for before, after in pairs if summary.metric in before.scores]


def _answer(base: Evaluation, tuned: Evaluation, summary: Summary) -> Answer:
    for side in (base, tuned):
        if summary.metric not in side.scores:
            raise RunError(
                f"{side.where}: its reply has no score {summary.metric!r}; remove the replies of both, then "
                "`gemtune evaluate`"
            )
    before, after = base.scores[summary.metric], tuned.scores[summary.metric]
    return Answer(
        where=base.where,
        prompt=base.prompt,
        gold=base.gold,
        base=base.reply,
        tuned=tuned.reply,
        difference=after - before,
        base_score=before,
        tuned_score=after,
        base_cut=base.cut,
        tuned_cut=tuned.cut,
        images=tuple(base.images),
        direction=summary.deciding.direction,
    )


def sample(answers: Sequence[Answer], size: int, seed: int = 0) -> list[Answer]:
    """A seeded draw: half wins, a quarter ties, a quarter losses where there are as many; the clearest wins first."""
    draw = random.Random(seed)  # noqa: S311 (a sample to look at)
    groups: dict[Outcome, list[Answer]] = {"wins": [], "losses": [], "ties": []}
    for answer in answers:
        groups[answer.outcome].append(answer)
    for group in groups.values():
        draw.shuffle(group)
    shares: dict[Outcome, int] = {"wins": math.ceil(size / 2), "losses": max(size // 4, 1), "ties": size // 4}
    chosen = [answer for name, group in groups.items() for answer in group[: shares[name]]]
    rest = [answer for name, group in groups.items() for answer in group[shares[name] :]]
    return sorted((chosen + rest)[:size], key=lambda answer: -answer.gain)


def regressions_of(summary: Summary, answers: Sequence[Answer]) -> list[Answer]:
    """The answers that became worse, the worst first, with their scores where the replies are at hand."""
    answer_to = {(answer.where, answer.prompt): answer for answer in answers}
    worse = [_regression(row, summary.deciding.direction) for row in summary.regressions]
    return [answer_to.get((answer.where, answer.prompt), answer) for answer in sorted(worse, key=lambda row: row.gain)]


def _regression(row: Regression, direction: Direction) -> Answer:
    return Answer(**vars(row), direction=direction)
