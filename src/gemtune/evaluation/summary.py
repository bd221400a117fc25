"""The scores of replies as those of a corpus: each with its interval, paired differences, the worst regressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from gemtune.data.conversation import Conversation
from gemtune.errors import RunError
from gemtune.files import write_json
from gemtune.metrics.statistics import (
    F1,
    Floats,
    Metric,
    Ratio,
    Sums,
    bootstrap_sums,
    combined_difference,
    combined_interval,
    mean_interval,
    paired_difference,
)
from gemtune.recipe.schema import Recipe
from gemtune.run_files import Comparison, CutReplies, Decoding, Evaluation, Regression, Summary
from gemtune.runs import VERSIONS, EvaluationFolder
from gemtune.tasks.base import Task, counted_scores, metric_of

REGRESSIONS = 10  # rows that a summary lists
_ROWS = "rows"  # each 1, where a mean is taken as a ratio of sums


def corpus_scores(task: Task, conversations: Sequence[Conversation], texts: Sequence[str]) -> dict[str, float]:
    """Every reported score of the replies together, over the rows that have it: their mean, or what it combines.

    A score that every row has is before those that only some have.
    """
    pairs = zip(conversations, texts, strict=True)
    rows = [counted_scores(task, conversation, text) for conversation, text in pairs]
    values = {name: _columns(rows, name) for name in reported(task, _names(rows))}
    return {name: _corpus_score(name, metric_of(task, name), columns) for name, columns in values.items()}


def _columns(rows: Sequence[dict[str, float]], name: str) -> dict[str, Floats]:
    """The scores that all rows with the score `name` have."""
    having = [row for row in rows if name in row]
    return {other: np.array([row[other] for row in having]) for other in having[0] if all(other in r for r in having)}


def _corpus_score(name: str, metric: Metric, columns: Mapping[str, Floats]) -> float:
    if metric.combine is None:
        return float(np.mean(columns[name]))
    with _parts_of(name):
        return float(metric.combine(columns))


def deciding_metric(recipe: Recipe, task: Task, names: Sequence[str], common: Sequence[str] | None = None) -> str:
    """The score that decides, of `names` those that all rows have being `common`; RunError when there is none.

    The recipe may choose any; else it is the task's, or the first, that every row has.
    """
    scores = reported(task, names)
    if recipe.evaluate.metric in scores:
        return str(recipe.evaluate.metric)
    if recipe.evaluate.metric or not scores:
        fault = f"evaluate.metric: task {recipe.task} has no score '{recipe.evaluate.metric or task.metric}'"
        raise RunError(f"{fault}; it has {', '.join(scores) or 'none that its own answers get full marks in'}")
    shared = scores if common is None else reported(task, common)
    return task.metric if task.metric in shared else next(iter(shared or scores))


def deciding_of(recipe: Recipe, task: Task, conversations: Sequence[Conversation]) -> str:
    """The score that decides for these rows, whatever the replies."""
    rows = [counted_scores(task, conversation, conversation.answer) for conversation in conversations]
    names = _names(rows)
    return deciding_metric(recipe, task, names, [name for name in names if all(name in row for row in rows)])


def reported(task: Task, names: Sequence[str]) -> list[str]:
    """The scores that are shown: all but the counts which only go into others."""
    return [name for name in names if metric_of(task, name).reported]


def summarise(folder: EvaluationFolder, recipe: Recipe, task: Task, other: str = "tuned") -> Summary:
    """Pairs the replies of base and tuned (or `other`) by row; writes and returns the summary."""
    base, tuned = folder.evaluations("base"), folder.evaluations(other)
    if [row.where for row in base] != [row.where for row in tuned]:
        raise RunError(f"{folder.root}: base and {other} were not asked the same rows; evaluate both again")
    _require_same_scores(folder, base, tuned, other)
    scores = [row.scores for row in base + tuned]
    names = _names(scores)
    metric = deciding_metric(recipe, task, names, [name for name in names if all(name in row for row in scores)])
    base_scores, tuned_scores = ([row.scores for row in rows] for rows in (base, tuned))
    groups = [row.group for row in tuned]
    first = [metric, *task.headline]
    order = sorted(reported(task, names), key=lambda name: first.index(name) if name in first else len(first))
    settings = recipe.evaluate
    summary = Summary(
        version=VERSIONS["summary"],
        metric=metric,
        rows=len(base),
        metrics=_compared(task, order, base_scores, tuned_scores, groups, settings.seed),
        scored={name: sum(name in row for row in base_scores) for name in order},
        groups=len(set(groups)) if _are_shared(groups) else 0,
        beside=dict(_beside(folder, task, tuned, order, settings.seed)),
        regressions=_regressions(base, tuned, metric, metric_of(task, metric)),
        decoding=Decoding(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed,
        ),
        cut=CutReplies(base=sum(row.cut for row in base), tuned=sum(row.cut for row in tuned)),
    )
    write_json(folder.summary_file(other), summary.to_json())
    return summary


def _beside(
    folder: EvaluationFolder, task: Task, tuned: Sequence[Evaluation], order: Sequence[str], seed: int
) -> Iterator[tuple[str, dict[str, Comparison]]]:
    """Tuned against others than base, on the rows that they have answered, in the scores that they have."""
    row_of = {row.where: row for row in tuned}
    for who in task.beside:
        others = folder.evaluations(who) if folder.replies(who).exists() else []
        pairs = [(other, row_of[other.where]) for other in others if other.where in row_of]
        sides = [other.scores for other, _ in pairs], [row.scores for _, row in pairs]
        groups = [row.group for _, row in pairs]
        names = [name for name in order if any(name in one and name in two for one, two in zip(*sides, strict=True))]
        if names:
            yield who, _compared(task, names, *sides, groups, seed)


def _are_shared(groups: Sequence[str]) -> bool:
    """Whether rows share groups, of which there are several; a file from before there were any names none."""
    return all(groups) and 1 < len(set(groups)) < len(groups)


def compared_scores(
    recipe: Recipe,
    task: Task,
    base: Sequence[dict[str, float]],
    tuned: Sequence[dict[str, float]],
    groups: Sequence[str] | None = None,
) -> tuple[str, Comparison] | None:
    """The score that decides and both sides' values of it, over the rows that have it; None where none has a score."""
    names = _names([*base, *tuned])
    if not reported(task, names):
        return None
    name = deciding_metric(recipe, task, names, [name for name in names if all(name in row for row in [*base, *tuned])])
    return name, _compared(task, [name], base, tuned, groups or [""] * len(base), recipe.evaluate.seed)[name]


def _require_same_scores(
    folder: EvaluationFolder, base: Sequence[Evaluation], tuned: Sequence[Evaluation], other: str
) -> None:
    """RunError where a row's two replies have other scores: by a task that does so, or a damaged file."""
    for number, (before, after) in enumerate(zip(base, tuned, strict=True), 1):
        if before.scores.keys() != after.scores.keys():
            names = ["/".join(row.scores)[:60] or "nothing" for row in (after, before)]
            raise RunError(
                f"{folder.replies(other)}:{number}: scored by {names[0]}, in base.jsonl by {names[1]}; a task gives "
                "a row the same scores whatever the reply; if it does, a file is damaged: remove both, then evaluate"
            )


def _names(rows: Sequence[dict[str, float]]) -> list[str]:
    """The names of all scores, in the task's order; those that every row has come first."""
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=lambda name: not all(name in row for row in rows))


def _compared(
    task: Task,
    names: Sequence[str],
    before: Sequence[dict[str, float]],
    after: Sequence[dict[str, float]],
    groups: Sequence[str],
    seed: int,
) -> dict[str, Comparison]:
    """Each metric over the rows that have it on both sides; metrics of the same rows share their bootstrap samples."""
    sides = list(zip(before, after, groups, strict=True))
    names_of: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        rows = tuple(number for number, (one, other, _) in enumerate(sides) if name in one and name in other)
        names_of.setdefault(rows, []).append(name)
    compared: dict[str, Comparison] = {}
    for rows, own in names_of.items():
        first, second, kept = zip(*(sides[row] for row in rows), strict=True)
        compared |= _compared_alike({name: metric_of(task, name) for name in own}, first, second, kept, seed)
    return {name: compared[name] for name in names}


def _compared_alike(
    metrics: Mapping[str, Metric],
    before: Sequence[dict[str, float]],
    after: Sequence[dict[str, float]],
    groups: Sequence[str],
    seed: int,
) -> dict[str, Comparison]:
    """Metrics that the same rows have: their intervals and paired difference.

    Where rows share groups, these are what is resampled: pages of a document are not independent.
    """
    shared = groups if _are_shared(groups) else None
    first = next(iter(metrics))
    base, tuned = ({**_columns(side, first), _ROWS: np.ones(len(side))} for side in (before, after))
    if shared:
        metrics = {
            name: metric if metric.combine else replace(metric, combine=Ratio(name, _ROWS))
            for name, metric in metrics.items()
        }
    parts = {part for name, metric in metrics.items() for part in _summed(name, metric)} & base.keys() & tuned.keys()
    names = sorted(parts)
    sums = bootstrap_sums([{name: side[name] for name in names} for side in (base, tuned)], groups=shared, seed=seed)
    return {
        name: _comparison(name, metric, (base, tuned), (sums[0], sums[1]), shared, seed)
        for name, metric in metrics.items()
    }


def _summed(name: str, metric: Metric) -> tuple[str, ...]:
    """The scores whose sums are all that a metric asks for; none of one that combines rows in a way of its own."""
    if metric.combine is None:
        return (name,)
    return metric.combine.parts if isinstance(metric.combine, Ratio | F1) else ()


def _comparison(
    name: str,
    metric: Metric,
    sides: tuple[dict[str, Floats], dict[str, Floats]],
    sums: tuple[Sums, Sums],
    groups: Sequence[str] | None,
    seed: int,
) -> Comparison:
    if metric.combine is None:
        own = sums[0][name], sums[1][name]
        intervals = [mean_interval(side[name], seed=seed, sums=drawn) for side, drawn in zip(sides, own, strict=True)]
        better = metric.higher_is_better
        difference = paired_difference(*(side[name] for side in sides), higher_is_better=better, seed=seed, sums=own)
    else:
        with _parts_of(name):
            intervals = [
                combined_interval(metric.combine, side, groups=groups, seed=seed, sums=drawn)
                for side, drawn in zip(sides, sums, strict=True)
            ]
            difference = combined_difference(name, metric, *sides, groups=groups, seed=seed, sums=sums)
    return Comparison(direction=metric.direction, base=intervals[0], tuned=intervals[1], difference=difference)


@contextmanager
def _parts_of(name: str) -> Iterator[None]:
    """RunError where what combines a metric asks for a score that not every row has."""
    try:
        yield
    except KeyError as error:
        raise RunError(
            f"score '{name}' is combined from {error}, which not every row has; return it in `score`"
        ) from error


def _regressions(
    base: Sequence[Evaluation], tuned: Sequence[Evaluation], name: str, metric: Metric
) -> list[Regression]:
    """The rows where tuned is furthest behind base, the worst first."""
    sign = 1 if metric.higher_is_better else -1
    rows = [
        Regression(
            where=before.where,
            prompt=before.prompt,
            gold=before.gold,
            base=before.reply,
            tuned=after.reply,
            difference=after.scores[name] - before.scores[name],
        )
        for before, after in zip(base, tuned, strict=True)
        if name in before.scores
    ]
    worse = [row for row in rows if sign * row.difference < 0]
    return sorted(worse, key=lambda row: sign * row.difference)[:REGRESSIONS]
