"""Models side by side on the same rows: runs, checkpoints and artifacts, each against the first that is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.errors import RunError
from gemtune.exporting.formats import formats_of
from gemtune.pipeline.inputs import conversations_of
from gemtune.pipeline.job import Job, Say, Tick
from gemtune.pipeline.tuned_models import model_named, weights_called, weights_key
from gemtune.run_contents import EXPORT
from gemtune.run_files import Comparison, Stored
from gemtune.tasks import Task

if TYPE_CHECKING:
    from gemtune.evaluation.generate import Reply
    from gemtune.recipe.schema import Evaluate


@dataclass(frozen=True, kw_only=True)
class Standing(Stored):
    """One model against the first."""

    model: str  # as it was named
    cut: int  # replies that reached evaluate.max_new_tokens
    score: Comparison  # `base` is the first model, `tuned` this one


@dataclass(frozen=True, kw_only=True)
class Standings(Stored):
    """All models on the same rows."""

    metric: str
    rows: int
    left_out: int  # rows that one of the runs was trained or chosen on
    models: list[Standing]


@dataclass(frozen=True)
class _Contestant:
    """A model, as the user named it."""

    name: str
    job: Job
    weights: str
    format: str | None = None


def compare(
    names: Sequence[str],
    data: str | None = None,
    *,
    trust_task: bool = False,
    say: Say = print,
    tick: Tick = lambda what, done, total: None,
) -> Standings:
    """Asks models the first run's test rows, or the rows of a file, and pairs their scores with those of the first.

    A name is a run (its tuned model), `RUN@base`, `RUN@last`, `RUN@50` (a checkpoint), or an artifact's folder. Rows
    that any of the runs was trained on, or chosen by, are left out.
    """
    from gemtune.evaluation.summary import compared_scores

    if len(names) < 2:
        raise RunError(f"found {len(names)} model; give two or more to compare, such as runs/a runs/a@base")
    contestants = [_contestant(name, trust_task, say, tick) for name in names]
    first = contestants[0].job
    for other in contestants[1:]:
        if other.job.recipe.task != first.recipe.task:
            raise RunError(
                f"{other.name} is of task {other.job.recipe.task}, {names[0]} of task {first.recipe.task}; compare "
                "models of one task"
            )
    conversations, left_out = _rows(contestants, data)
    replies = [_replies(contestant, conversations, first) for contestant in contestants]
    scores = [_scores(first.task, conversations, texts) for texts in replies]
    standings = []
    metric = ""
    for contestant, own_replies, own in zip(contestants, replies, scores, strict=True):
        compared = compared_scores(first.recipe, first.task, scores[0], own, [row.group for row in conversations])
        if compared is None:
            raise RunError(f"none of the {len(conversations)} rows has a score; give others, --data FILE")
        metric, comparison = compared
        cut = sum(reply.cut for reply in own_replies)
        standings.append(Standing(model=contestant.name, cut=cut, score=comparison))
    return Standings(metric=metric, rows=len(conversations), left_out=left_out, models=standings)


def _contestant(name: str, trust_task: bool, say: Say, tick: Tick) -> _Contestant:
    """What a name stands for; an error when it is not there."""
    path = Path(name)
    run, at, checkpoint = name.rpartition("@")
    if path.parent.name == EXPORT:
        (format_name,) = formats_of([path.name])
        job = Job(path.parents[1], trust_task=trust_task, say=say, tick=tick)
        note = job.run.artifact_note(format_name)
        if note is None:
            raise RunError(f"{path}: no artifact; `gemtune export {job.run.root} {format_name}` writes it")
        return _Contestant(name, job, note.weights, format_name)
    if not path.is_dir() and at:
        job = Job(run, trust_task=trust_task, say=say, tick=tick)
        weights = weights_called(job, checkpoint)
    else:
        job, weights = Job(path, trust_task=trust_task, say=say, tick=tick), "tuned"
    weights_key(job, weights)  # before any model is asked
    return _Contestant(name, job, weights)


def _rows(contestants: Sequence[_Contestant], data: str | None) -> tuple[list[Conversation], int]:
    """The rows that all are asked, and how many are left out because a model knows them."""
    from gemtune.evaluation.evaluate import evaluation_rows

    job = contestants[0].job
    if data:
        rows = conversations_of(job, data)
    elif job.run.part("test").is_file():
        rows = evaluation_rows(job.run.part("test"), job.renderer, job.task, job.recipe, job.recipe.evaluate.limit)
    else:
        raise RunError(f"{job.run.data}: no prepared rows; give rows of a file, --data FILE")
    runs = {contestant.job.run.root: contestant.job.run for contestant in contestants}.values()
    parts = [run.part(part) for run in runs for part in ("train", "val")]
    known = {_question(row) for path in parts if path.is_file() for row in read_conversations(path)}
    kept = [row for row in rows if _question(row) not in known]
    if not kept:
        raise RunError(f"{len(rows)} rows to compare on, and a run knows every one; give rows of a file, --data FILE")
    return kept, len(rows) - len(kept)


def _question(row: Conversation) -> tuple[str, ...]:
    """The same words about another image, which is named by what is in it, are another question."""
    return row.key, *row.image_paths


def _replies(contestant: _Contestant, conversations: Sequence[Conversation], first: Job) -> list[Reply]:
    """What a model answers, decoded as the first run's evaluation says."""
    from gemtune.evaluation.generate import replies

    job, decoding, data = contestant.job, first.recipe.evaluate, first.run.data
    progress = partial(_tick, job, f"{contestant.name} replies", len(conversations))
    if contestant.format:
        return _replies_of_artifact(contestant, conversations, decoding, data)
    features = partial(job.image_features, data=data)
    return replies(model_named(job, contestant.weights), job.renderer, conversations, decoding, progress, features)


def _replies_of_artifact(
    contestant: _Contestant, conversations: Sequence[Conversation], decoding: Evaluate, data: Path
) -> list[Reply]:
    from gemtune.evaluation.generate import Reply
    from gemtune.exporting.formats import FORMATS
    from gemtune.exporting.verify import answers_of, prompts_of

    job = contestant.job
    if decoding.temperature:
        raise RunError(f"{contestant.name}: an artifact answers greedily; compare with evaluate.temperature 0")
    prompts = prompts_of(conversations, job.renderer, data)
    tick = partial(_tick, job, f"{contestant.name} replies", len(prompts))
    with FORMATS[contestant.format or ""].runtime(job.run.artifact(contestant.format or "")) as runtime:
        answers = answers_of(runtime, prompts, decoding.max_new_tokens, tick)
    return [Reply(*job.renderer.reply([choice.token for choice in reply])) for reply in answers.replies]


def _scores(task: Task, conversations: Sequence[Conversation], replies: Sequence[Reply]) -> list[dict[str, float]]:
    from gemtune.tasks.base import counted_scores

    pairs = zip(conversations, replies, strict=True)
    return [counted_scores(task, conversation, reply.text) for conversation, reply in pairs]


def _tick(job: Job, what: str, total: int, done: int) -> None:
    job.tick(what, done, total)
