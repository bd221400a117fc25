"""Base and tuned on the same prompts: a scored reply per row, and those of others than models."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.errors import RunError
from gemtune.evaluation.generate import FeaturesFor, no_features, replies
from gemtune.files import read_jsonl, sha256_of_text, write_jsonl
from gemtune.recipe.schema import Recipe, deciders
from gemtune.rendering.renderer import Renderer
from gemtune.rendering.tokenising import fit
from gemtune.run_files import Evaluation
from gemtune.runs import REVISIONS, EvaluationFolder
from gemtune.tasks.base import Task, counted_scores
from gemtune.training import ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def evaluation_rows(
    path: Path, renderer: Renderer, task: Task, recipe: Recipe, limit: int | None
) -> list[Conversation]:
    """The conversations of a part that fit, a seeded sample of `limit` of them in the file's order."""
    conversations = (fit(conversation, renderer, task, recipe) for conversation in read_conversations(path))
    fitting = [conversation for conversation in conversations if conversation is not None]
    if limit is None or limit >= len(fitting):
        return fitting
    chosen = np.random.default_rng(recipe.evaluate.seed).permutation(len(fitting))[:limit]
    return [fitting[index] for index in sorted(chosen)]


def write_replies(
    path: Path,
    conversations: Sequence[Conversation],
    *,
    key: str,
    model: Callable[[], PreTrainedModel],
    renderer: Renderer,
    task: Task,
    recipe: Recipe,
    progress: Callable[[int], None] = lambda done: None,
    features_for: FeaturesFor = no_features,
    answered: bool = True,
) -> None:
    """Writes one line per conversation to `path`: prompt, gold, reply and scores; no gold and no scores of questions.

    `key` identifies the weights. The model is only made when the same weights have not answered the same rows before.
    """
    key = _evaluation_key(key if answered else f"{key} asked", recipe, conversations)
    if ranks.once(lambda: path.exists() and _has_answered(path, key, len(conversations))):
        return
    answers = replies(model(), renderer, conversations, recipe.evaluate, progress, features_for)
    lines = (
        _line(
            conversation,
            reply.text,
            counted_scores(task, conversation, reply.text) if answered else {},
            key,
            gold=None if answered else "",
            cut=reply.cut,
        )
        for conversation, reply in zip(conversations, answers, strict=True)
    )
    ranks.once(lambda: write_jsonl(path, (line.to_json() for line in lines)))


def write_replies_beside(folder: EvaluationFolder, conversations: Sequence[Conversation], task: Task) -> None:
    """Writes what others than models have answered to these rows, a file each as `write_replies` does."""
    answers = [(conversation, task.replies_beside(conversation)) for conversation in conversations]
    for who in task.beside:
        lines = [
            _line(conversation, *replies[who], sha256_of_text(who, replies[who][0]))
            for conversation, replies in answers
            if who in replies
        ]
        if lines:
            write_jsonl(folder.replies(who), (line.to_json() for line in lines))
        else:
            folder.replies(who).unlink(missing_ok=True)


def _line(
    conversation: Conversation,
    reply: str,
    scores: dict[str, float],
    key: str,
    *,
    gold: str | None = None,
    cut: bool = False,
) -> Evaluation:
    return Evaluation(
        where=conversation.where,
        key=conversation.key,
        group=conversation.group,
        prompt=prompt_text(conversation),
        images=conversation.image_paths,
        gold=conversation.answer if gold is None else gold,
        reply=reply,
        scores=scores,
        cut=cut,
        evaluation=key,
    )


def _has_answered(path: Path, key: str, rows: int) -> bool:
    """Whether a file holds all the replies of a key; one that is damaged is written again."""
    try:
        lines = [Evaluation.from_json(line, path) for line in read_jsonl(path)]
    except RunError:
        return False
    return len(lines) == rows and all(line.evaluation == key for line in lines)


def _evaluation_key(weights: str, recipe: Recipe, conversations: Sequence[Conversation]) -> str:
    """Equal where the same weights answer the same rows in the same way."""
    rows = (json.dumps(conversation.to_json()) for conversation in conversations)
    settings = json.dumps(deciders(recipe, "evaluation"), sort_keys=True)
    return sha256_of_text(str(REVISIONS["replies"]), weights, settings, *rows)


def prompt_text(conversation: Conversation) -> str:
    """What the model was asked, for people: the messages before the answer."""
    turns = [m for m in conversation.messages[:-1] if m.role != "system"]
    return turns[0].text if len(turns) == 1 else "\n".join(f"{m.role}: {m.text}" for m in turns)


def require_rows(folder: EvaluationFolder, name: str, conversations: Sequence[Conversation]) -> None:
    """RunError when `name` has answered other rows than these, so that the replies could not be paired."""
    if not folder.replies(name).exists():
        return
    if [row.where for row in folder.evaluations(name)] != [conversation.where for conversation in conversations]:
        raise RunError(
            f"{folder.replies(name)}: {name} was asked other rows; evaluate both together, or set evaluate.limit back"
        )
