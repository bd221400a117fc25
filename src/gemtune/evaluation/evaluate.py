"""Base and tuned on the same prompts: replies a row, a summary with intervals, the worst regressions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.errors import RunError
from gemtune.evaluation.generate import ViewOf, blind, replies
from gemtune.files import read_jsonl, sha256_of_text, write_json, write_jsonl
from gemtune.metrics.text import mean_interval, paired_difference
from gemtune.recipe.schema import Recipe, deciders
from gemtune.rendering.renderer import Renderer
from gemtune.rendering.token_table import fitted
from gemtune.runs import VERSIONS
from gemtune.tasks.base import Task

REGRESSIONS = 10  # rows listed


def evaluated(path: Path, renderer: Renderer, task: Task, recipe: Recipe, limit: int | None) -> list[Conversation]:
    """The conversations of a part that fit, a seeded sample of `limit` of them in the file's order."""
    every = [fitted(conversation, renderer, task, recipe) for conversation in read_conversations(path)]
    fitting = [conversation for conversation in every if conversation is not None]
    if limit is None or limit >= len(fitting):
        return fitting
    chosen = np.random.default_rng(recipe.evaluate.seed).permutation(len(fitting))[:limit]
    return [fitting[index] for index in sorted(chosen)]


def answer(
    path: Path,
    conversations: Sequence[Conversation],
    *,
    key: str,
    model: Callable[[], Any],
    renderer: Renderer,
    task: Task,
    recipe: Recipe,
    progress: Callable[[int], None] = lambda done: None,
    view_of: ViewOf = blind,
) -> None:
    """Writes one line a conversation to `path`: prompt, gold, reply and scores.

    `key` identifies the weights. The model is only made when the same weights have not answered the same rows before.
    """
    rows = (json.dumps(conversation.to_json()) for conversation in conversations)
    settings = json.dumps(deciders(recipe, "evaluation"), sort_keys=True)
    key = sha256_of_text(str(VERSIONS["replies"]), key, settings, *rows)
    if path.exists() and next(iter(read_jsonl(path)), {}).get("evaluation") == key:
        return
    answered = replies(model(), renderer, conversations, recipe.evaluate, progress, view_of)
    write_jsonl(
        path,
        (
            {
                "where": conversation.where,
                "key": conversation.key,
                "prompt": prompt_text(conversation),
                "images": conversation.image_paths,
                "gold": conversation.answer,
                "reply": reply.text,
                "scores": task.score(conversation, reply.text),
                "cut": reply.cut,
                "evaluation": key,
            }
            for conversation, reply in zip(conversations, answered, strict=True)
        ),
    )


def prompt_text(conversation: Conversation) -> str:
    """What the model was asked, for people: the messages before the answer."""
    asked = [m for m in conversation.messages[:-1] if m.role != "system"]
    return asked[0].text if len(asked) == 1 else "\n".join(f"{m.role}: {m.text}" for m in asked)


def mean_scores(task: Task, conversations: Sequence[Conversation], texts: Sequence[str]) -> dict[str, float]:
    """The mean of every score that all rows have."""
    rows = [task.score(conversation, text) for conversation, text in zip(conversations, texts, strict=True)]
    return {name: float(np.mean([row[name] for row in rows])) for name in _shared(rows)}


def deciding_metric(recipe: Recipe, task: Task, names: Sequence[str]) -> str:
    """The score that decides; RunError when the recipe names one the task does not have."""
    wanted = recipe.evaluate.metric or task.metric
    if wanted in names:
        return wanted
    if recipe.evaluate.metric:
        raise RunError(f"evaluate.metric: task {recipe.task} has no score '{wanted}'; it has {', '.join(names)}")
    return names[0]


def summarise(folder: Path, recipe: Recipe, task: Task, other: str = "tuned") -> dict[str, Any]:
    """Pairs the replies of base and tuned (or `other`) by row and writes summary.json (or summary-`other`.json)."""
    base, tuned = (list(read_jsonl(folder / f"{name}.jsonl")) for name in ("base", other))
    if [row["where"] for row in base] != [row["where"] for row in tuned]:
        raise RunError(f"{folder}: base and tuned were not asked the same rows; evaluate both again")
    names = _shared([row["scores"] for row in base + tuned])
    metric = deciding_metric(recipe, task, names)
    seed = recipe.evaluate.seed
    metrics: dict[str, Any] = {}
    for name in sorted(names, key=lambda name: (name != metric, names.index(name))):
        before, after = ([row["scores"][name] for row in rows] for rows in (base, tuned))
        paired = paired_difference(before, after, seed=seed)
        metrics[name] = {
            "base": _interval(mean_interval(before, seed=seed)),
            "tuned": _interval(mean_interval(after, seed=seed)),
            "difference": {
                "mean": paired.difference,
                "low": paired.low,
                "high": paired.high,
                "p_value": paired.p_value,
                "method": paired.method,
                "wins": paired.wins,
                "losses": paired.losses,
                "ties": paired.ties,
            },
        }
    summary = {
        "version": VERSIONS["summary"],
        "metric": metric,
        "rows": len(base),
        "metrics": metrics,
        "regressions": _regressions(base, tuned, metric),
        "decoding": recipe.evaluate.model_dump(include={"temperature", "top_p", "max_new_tokens", "seed"}),
        "cut": {"base": sum(row["cut"] for row in base), "tuned": sum(row["cut"] for row in tuned)},
    }
    write_json(folder / ("summary.json" if other == "tuned" else f"summary-{other}.json"), summary)
    return summary


def _shared(rows: Sequence[dict[str, float]]) -> list[str]:
    """The score names that every row has, in the task's order."""
    return [name for name in rows[0] if all(name in row for row in rows)]


def _interval(interval: Any) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _regressions(base: list[dict[str, Any]], tuned: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """The rows where tuned is furthest below base."""
    both = zip(base, tuned, strict=True)
    pairs = [(after["scores"][metric] - before["scores"][metric], before, after) for before, after in both]
    worst = sorted((pair for pair in pairs if pair[0] < 0), key=lambda pair: pair[0])[:REGRESSIONS]
    return [
        {
            "where": before["where"],
            "prompt": before["prompt"],
            "gold": before["gold"],
            "base": before["reply"],
            "tuned": after["reply"],
            "difference": difference,
        }
        for difference, before, after in worst
    ]
