"""What the scores of many rows say: how a metric is read, its value for a corpus, and whether two models differ."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

_CHUNK = 1_000_000  # resampled values held at once: 16 MB of indices and values
_EXACT_PAIRS = 12  # up to here all 2**n signs are tried

Floats = npt.NDArray[np.float64]
Combine = Callable[[Mapping[str, Floats]], Floats]
Sums = Mapping[str, Floats]  # score -> its sum over each bootstrap sample of the rows, (samples, 1)
Direction = Literal["higher", "lower"]  # which end of a score is the better one


@dataclass(frozen=True)
class Ratio:
    """Combines the rows of a corpus into a sum of one score over the sum of another, such as edits over characters.

    `of_nothing` is the ratio of 0 to 0.

    >>> float(Ratio("edits", "characters")({"edits": np.array([1.0, 0.0]), "characters": np.array([2.0, 8.0])}))
    0.1
    """

    numerator: str
    denominator: str
    of_nothing: float = 0.0

    @property
    def parts(self) -> tuple[str, ...]:
        return self.numerator, self.denominator

    def __call__(self, scores: Mapping[str, Floats]) -> Floats:
        above, below = (scores[name].sum(axis=-1) for name in (self.numerator, self.denominator))
        # As for one row in `cer`: against nothing, anything is all wrong.
        against_nothing = np.where(above > 0, 1.0, self.of_nothing)
        ratio: Floats = np.where(below > 0, above / np.maximum(below, 1e-12), against_nothing)
        return ratio


@dataclass(frozen=True)
class F1:
    """Combines the rows of a corpus into F1: twice what was found over what was given and what was there to be found.

    >>> counts = {"found": np.array([1.0, 2.0]), "given": np.array([2.0, 2.0]), "true": np.array([1.0, 3.0])}
    >>> float(F1("found", "given", "true")(counts))
    0.75
    """

    found: str
    given: str
    true: str

    @property
    def parts(self) -> tuple[str, ...]:
        return self.found, self.given, self.true

    def __call__(self, scores: Mapping[str, Floats]) -> Floats:
        found, given, true = (scores[name].sum(axis=-1) for name in self.parts)
        f1: Floats = np.where(given + true > 0, 2 * found / np.maximum(given + true, 1e-12), 1.0)
        return f1


@dataclass(frozen=True)
class Metric:
    """How a score of a task is read: which end is good, and how the rows' scores become one of the corpus.

    `combine` takes every score of the rows, by name, each an array whose last axis is the rows (there is one before it
    when rows are resampled), and returns the corpus' value; None is the mean of the score's own values. A score that
    only goes into another one's `combine` (a count) is not `reported`. `of_answer`: a row's own answer gets full marks,
    or the row is not counted; not so where a row has a truth apart from its answer.
    """

    higher_is_better: bool = True
    combine: Combine | None = None
    reported: bool = True
    of_answer: bool = True

    @property
    def direction(self) -> Direction:
        return "higher" if self.higher_is_better else "lower"


@dataclass(frozen=True)
class Interval:
    """The value of a corpus, such as a mean, and its confidence interval, in the unit of the scores."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Tuned minus base on the same rows, with a two-sided p-value; wins are the rows where tuned is the better one."""

    mean: Annotated[float, "tuned minus base"]
    low: Annotated[float, "of its 95 % interval"]
    high: Annotated[float, "of its 95 % interval"]
    p_value: Annotated[float, "two-sided"]
    method: Annotated[
        str,
        "`mcnemar` (exact) where all scores are 0 or 1, else `permutation` (tuned and base change places)",
    ]
    wins: Annotated[int, "rows where tuned is better"]
    losses: Annotated[int, "rows where it is worse"]
    ties: Annotated[int, "rows where it is the same"]


def bootstrap_sums(
    sides: Sequence[Mapping[str, npt.ArrayLike]],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Sums]:
    """The sums of every score of each side over the same bootstrap samples of the rows, or of whole groups.

    Drawn once, they serve all means, ratios and F1 of those rows: drawing takes longer than adding up.
    """
    if not any(sides):
        return [{} for _ in sides]
    columns = {
        (place, name): _scores(name, values) for place, side in enumerate(sides) for name, values in side.items()
    }
    table = np.stack(list(columns.values()), axis=1)  # (rows, columns)
    if groups is not None:
        number = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        of_row, grouped = np.array([number[group] for group in groups]), np.zeros((len(number), table.shape[1]))
        np.add.at(grouped, of_row, table)
        table = grouped
    rows = len(table)

    def sums(drawn: npt.NDArray[np.int64]) -> Floats:
        cells = drawn + rows * np.arange(len(drawn))[:, None]
        counts = np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)
        return counts.astype(np.float64) @ table

    drawn = _in_chunks(sums, rows, rows, resamples, seed)  # (samples, columns)
    of_sides: list[dict[str, Floats]] = [{} for _ in sides]
    for column, (place, name) in enumerate(columns):
        of_sides[place][name] = drawn[:, [column]]
    return list(of_sides)


def mean_interval(
    values: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    sums: Floats | None = None,
) -> Interval:
    """The mean of some scores with its percentile bootstrap interval; ValueError without values.

    `sums`, here and below, are those of `bootstrap_sums`.

    >>> mean_interval([1, 0, 1, 1, 0, 1, 1, 1])
    Interval(mean=0.75, low=0.375, high=1.0)
    """
    scores = _scores("values", values)
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"confidence {confidence} must be between 0 and 1, resamples {resamples} at least 1")
    if sums is None:
        draws = _resampled(lambda rows: scores[rows].mean(axis=-1), len(scores), resamples, seed)
    else:
        draws = sums[:, 0] / len(scores)
    return _interval(float(scores.mean()), draws, confidence)


def _interval(value: float, draws: Floats, confidence: float) -> Interval:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    # The sum of equal values depends on their order in the last digit; the value stays inside its interval.
    return Interval(value, min(float(low), value), max(float(high), value))


def combined_interval(
    combine: Combine,
    scores: Mapping[str, npt.ArrayLike],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    sums: Sums | None = None,
) -> Interval:
    """Like `mean_interval`, for what `combine` makes of a corpus; rows are resampled with all their scores.

    With `groups`, the name of each row's, whole groups are resampled, as `by_group` says.

    >>> scores = {"edits": [1, 0, 2, 0], "characters": [4, 4, 8, 4]}
    >>> combined_interval(Ratio("edits", "characters"), scores)
    Interval(mean=0.15, low=0.0, high=0.25)
    """
    columns = _columns("scores", scores)
    if groups is not None:
        columns = by_group(combine, columns, groups)
    return _interval(float(combine(columns)), _draws(combine, columns, sums, resamples, seed), 0.95)


def paired_difference(
    base: npt.ArrayLike,
    tuned: npt.ArrayLike,
    *,
    higher_is_better: bool = True,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    sums: tuple[Floats, Floats] | None = None,
) -> Difference:
    """Whether tuned and base differ on the same rows; ValueError without rows or with unequal lengths.

    The p-value is McNemar's exact test where all scores are 0 or 1 ("mcnemar"), else a sign-flip test of the mean
    difference ("permutation"): every combination of signs up to 12 rows that differ, a seeded sample of `resamples`
    above. The interval is the percentile bootstrap over rows.

    >>> paired_difference([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0]).p_value
    0.375
    """
    before, after = _scores("base", base), _scores("tuned", tuned)
    _same_rows(len(before), len(after))
    differences = after - before
    gains = sums[1] - sums[0] if sums else None
    interval = mean_interval(differences, confidence=confidence, resamples=resamples, seed=seed, sums=gains)
    up, down = int((differences > 0).sum()), int((differences < 0).sum())
    binary = bool(np.isin(np.concatenate([before, after]), (0, 1)).all())
    p_value = _mcnemar(up, down) if binary else _sign_flip(differences[differences != 0], resamples, seed)
    method = "mcnemar" if binary else "permutation"
    return _paired(interval, p_value, method, differences, higher_is_better)


def combined_difference(
    name: str,
    metric: Metric,
    base: Mapping[str, npt.ArrayLike],
    tuned: Mapping[str, npt.ArrayLike],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    sums: tuple[Sums, Sums] | None = None,
) -> Difference:
    """Like `paired_difference`, for a metric that combines a corpus; `name` is the score that rows are compared by.

    The p-value is of a permutation test: base and tuned change places in every row, or not, with equal chance; with
    `groups` in all rows of a group at once.

    >>> error_rate = Metric(higher_is_better=False, combine=Ratio("edits", "characters"))
    >>> base = {"cer": [0.5, 0.5, 0.25], "edits": [2, 4, 1], "characters": [4, 8, 4]}
    >>> tuned = {"cer": [0.0, 0.25, 0.25], "edits": [0, 2, 1], "characters": [4, 8, 4]}
    >>> paired = combined_difference("cer", error_rate, base, tuned)
    >>> paired.mean, paired.p_value, paired.wins, paired.losses, paired.ties
    (-0.25, 0.5, 2, 0, 1)
    """
    before, after = _columns("base", base), _columns("tuned", tuned)
    _same_rows(_count(before), _count(after))
    differences = after[name] - before[name]
    combine = metric.combine or (lambda scores: scores[name].mean(axis=-1))
    if groups is not None:
        before, after = (by_group(combine, columns, groups) for columns in (before, after))
    first, second = (
        _draws(combine, columns, sums and sums[side], resamples, seed) for side, columns in enumerate((before, after))
    )
    interval = _interval(float(combine(after) - combine(before)), second - first, 0.95)
    p_value = _swap_test(combine, before, after, resamples, seed)
    return _paired(interval, p_value, "permutation", differences, metric.higher_is_better)


def by_group(combine: Combine, columns: Mapping[str, Floats], groups: Sequence[str]) -> dict[str, Floats]:
    """One row a group, for what only adds up rows (Ratio, F1): rows of a document or a schema are not independent.

    For any other `combine` the rows stay as they are.

    >>> by_group(Ratio("edits", "characters"), {"edits": np.array([1.0, 2.0, 4.0])}, ["a.pdf", "b.pdf", "a.pdf"])
    {'edits': array([5., 2.])}
    """
    if not isinstance(combine, Ratio | F1):
        return dict(columns)
    number = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    of_row = np.array([number[group] for group in groups])
    return {name: np.bincount(of_row, values, len(number)).astype(np.float64) for name, values in columns.items()}


def _paired(interval: Interval, p_value: float, method: str, differences: Floats, higher_is_better: bool) -> Difference:
    gains = differences if higher_is_better else -differences
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    return Difference(
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        method=method,
        wins=wins,
        losses=losses,
        ties=len(gains) - wins - losses,
    )


def _same_rows(base: int, tuned: int) -> None:
    if base != tuned:
        raise ValueError(f"base has {base} scores and tuned {tuned}; the same rows are wanted in both")


def _columns(name: str, scores: Mapping[str, npt.ArrayLike]) -> dict[str, Floats]:
    return {score: _scores(f"{name}[{score}]", values) for score, values in scores.items()}


def _count(columns: Mapping[str, Floats]) -> int:
    return len(next(iter(columns.values())))


class _Made(Mapping[str, Floats]):
    """Columns that are made when they are asked for: most scores of a row do not go into the one that is combined."""

    def __init__(self, names: Mapping[str, Floats], make: Callable[[str], Floats]):
        self._names, self._make = names, make

    def __getitem__(self, name: str) -> Floats:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _rows_of(columns: Mapping[str, Floats], rows: npt.NDArray[np.int64]) -> Mapping[str, Floats]:
    return _Made(columns, lambda name: columns[name][rows])


def _scores(name: str, values: npt.ArrayLike) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"{name} must be a list of finite scores, at least one; found shape {scores.shape}")
    return scores


def _in_chunks(
    value: Callable[[npt.NDArray[np.int64]], Floats], below: int, rows: int, resamples: int, seed: int
) -> Floats:
    """`value` of `resamples` draws of whole numbers under `below`, (draws, rows), as many at a time as fit a chunk."""
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // rows)
    starts = range(0, resamples, step)
    return np.concatenate([value(generator.integers(below, size=(min(step, resamples - s), rows))) for s in starts])


def _draws(combine: Combine, columns: Mapping[str, Floats], sums: Sums | None, resamples: int, seed: int) -> Floats:
    """What `combine` makes of bootstrap samples: of their sums, where it only adds them up and they are there."""
    if sums is not None and isinstance(combine, Ratio | F1):
        return combine(sums)
    return _resampled(lambda rows: combine(_rows_of(columns, rows)), _count(columns), resamples, seed)


def _resampled(value: Callable[[npt.NDArray[np.int64]], Floats], rows: int, resamples: int, seed: int) -> Floats:
    """`value` of bootstrap samples of the rows, each a line of row numbers."""
    return _in_chunks(value, rows, rows, resamples, seed)


def _mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact binomial test that wins and losses are equally likely."""
    n, fewer = wins + losses, min(wins, losses)
    tail = term = 1  # of n choose k, exact integers
    for k in range(fewer):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def _sign_flip(differences: Floats, resamples: int, seed: int) -> float:
    """Two-sided p-value of the sum of `differences`, none of them 0, when each sign is a coin toss."""
    n = len(differences)
    least = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()  # the order of a sum changes its last digits
    if n <= _EXACT_PAIRS:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)  # (2**n, n)
        return float((np.abs(signs @ differences) >= least).mean())
    sums = _in_chunks(lambda coins: (2.0 * coins - 1.0) @ differences, 2, n, resamples, seed)
    extreme = int((np.abs(sums) >= least).sum())
    return (extreme + 1) / (resamples + 1)


def _swap_test(
    combine: Combine, base: Mapping[str, Floats], tuned: Mapping[str, Floats], resamples: int, seed: int
) -> float:
    """Two-sided p-value of the corpus' difference when base and tuned change places by a coin toss in every row."""
    parts = combine.parts if isinstance(combine, Ratio | F1) else ()
    differs = np.flatnonzero(np.any([base[name] != tuned[name] for name in base], axis=0))

    def difference_of_sums(coins: npt.NDArray[np.int64]) -> Floats:
        gains = coins.astype(np.float64) @ np.stack([(tuned[name] - base[name])[differs] for name in parts], axis=1)
        first = {name: base[name].sum() + gains[:, [place]] for place, name in enumerate(parts)}
        second = {name: tuned[name].sum() - gains[:, [place]] for place, name in enumerate(parts)}
        return combine(second) - combine(first)

    def difference_of_rows(coins: npt.NDArray[np.int64]) -> Floats:
        swapped = np.zeros((len(coins), _count(base)), bool)
        swapped[:, differs] = coins == 1
        first = _Made(base, lambda name: np.where(swapped, tuned[name], base[name]))
        second = _Made(base, lambda name: np.where(swapped, base[name], tuned[name]))
        return combine(second) - combine(first)

    difference = difference_of_sums if parts else difference_of_rows
    n = len(differs)
    least = abs(float(combine(tuned) - combine(base))) * (1 - 1e-9)
    if n <= _EXACT_PAIRS:
        return float((np.abs(difference(np.arange(2**n)[:, None] >> np.arange(n) & 1)) >= least).mean())
    extreme = int((np.abs(_in_chunks(difference, 2, n, resamples, seed)) >= least).sum())
    return (extreme + 1) / (resamples + 1)
