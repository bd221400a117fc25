"""What is refused before anything is written: settings that this machine, this model or this task does not have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice

from gemtune.data.conversation import read_conversations
from gemtune.errors import MissingExtra, RunError
from gemtune.metrics.statistics import Metric
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run
from gemtune.tasks import metric_of

SCORED_ROWS = 64  # of train: the scores that their own answers get are those the task has


def require_settings(job: Job) -> None:
    """An error when the recipe asks for a device, layers or tokens that are not there; before anything is written."""
    from gemtune.models.adapters import require_targets
    from gemtune.models.token_rows import require_tokens

    lora = job.recipe.lora
    _ = job.device, job.precision, job.workers
    if lora and lora.target_modules != "all-linear":
        require_targets(lora.target_modules, job.folder)
    if lora and isinstance(lora.token_rows, list):
        require_tokens(lora.token_rows, job.tokenizer.get_vocab())


def require_one_process() -> None:
    """RunError under torchrun or `accelerate launch` with several processes, each of which would train the same."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise RunError(
            f"WORLD_SIZE is {processes}: gemtune starts its workers itself; set scale.workers, and start it without "
            "torchrun and `accelerate launch`"
        )


def require_trackers(recipe: Recipe) -> None:
    """MissingExtra when a tracker of the recipe is not installed; the Trainer would say so after the first writes."""
    for tracker in recipe.track:
        if find_spec(tracker) is None:
            raise MissingExtra(f"track: [{tracker}]", tracker)


def require_formats(recipe: Recipe) -> None:
    """An error when `export` names a format that is not known, or that needs what is not installed."""
    from gemtune.exporting.formats import formats_of

    formats_of(recipe.export)


def require_metric(job: Job, run: Run) -> Metric:
    """The deciding metric; RunError when evaluate.metric is not a score that a right answer gets."""
    from gemtune.evaluation.summary import deciding_metric

    names: dict[str, None] = {}
    for conversation in islice(read_conversations(run.part("train")), SCORED_ROWS):
        names |= dict.fromkeys(job.task.score(conversation, conversation.answer))
    return metric_of(job.task, deciding_metric(job.recipe, job.task, list(names)))


def require_parts(job: Job, run: Run) -> None:
    """RunError when the best checkpoint is to be chosen by replies to val rows that are not there."""
    if job.recipe.train.best_by == "metric" and not run.prepared_data().token_lengths.val.rows:
        raise RunError(
            "train.best_by: metric needs val rows, and there are none; raise split.val, or set train.best_by: loss"
        )


def foreseen(job: Job) -> Iterator[str]:
    """What will be missing at the end of a training, in words, while nothing has been spent on it."""
    lengths, recipe = job.run.prepared_data().token_lengths, job.recipe
    if not lengths.val.rows:
        stopping = ", and nothing stops early" if recipe.train.early_stopping else ""
        yield f"No val rows (split.val {recipe.split.size('val')}): the last step is the one kept{stopping}."
    if not lengths.test.rows:
        yield (
            f"No test rows (split.test {recipe.split.size('test')}): base and tuned will not be compared at the end; "
            "`gemtune evaluate RUN --data FILE` compares them on rows of a file."
        )
