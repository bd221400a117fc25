"""What is refused before anything is written: settings that this machine, this model or this task does not have."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import islice

from gemtune.data.conversation import read_conversations
from gemtune.errors import MissingExtra
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
    _ = job.device, job.precision
    if lora and lora.target_modules != "all-linear":
        require_targets(lora.target_modules, job.folder)
    if lora and isinstance(lora.token_rows, list):
        require_tokens(lora.token_rows, job.tokenizer.get_vocab())


def require_trackers(recipe: Recipe) -> None:
    """MissingExtra when a tracker of the recipe is not installed; the Trainer would say so after the first writes."""
    for tracker in recipe.track:
        if find_spec(tracker) is None:
            raise MissingExtra(f"track: [{tracker}]", tracker)


def require_metric(job: Job, run: Run) -> Metric:
    """The deciding metric; RunError when evaluate.metric is not a score that a right answer gets."""
    from gemtune.evaluation.evaluate import deciding_metric

    names: dict[str, None] = {}
    for conversation in islice(read_conversations(run.part("train")), SCORED_ROWS):
        names |= dict.fromkeys(job.task.score(conversation, conversation.answer))
    return metric_of(job.task, deciding_metric(job.recipe, job.task, list(names)))
