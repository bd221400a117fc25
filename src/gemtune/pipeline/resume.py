"""Whether a run may resume: with the recipe and tokens it was begun with; and what `--fresh` removes."""

from __future__ import annotations

from gemtune.errors import RunError
from gemtune.files import JsonObject, os_errors, write_json
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import deciders
from gemtune.run_contents import remove_written
from gemtune.run_files import Training
from gemtune.runs import Run


def start_again(run: Run) -> None:
    """Removes what gemtune has made of a run's data, and nothing else that lies there."""
    with os_errors(run.root):
        for folder in (*map(run.checkpoint, run.steps()), run.adapter, run.full_model, run.eval, run.tensorboard):
            remove_written(folder)
        for path in (run.metrics_file, run.report_page, run.report_markdown):
            path.unlink(missing_ok=True)
    manifest = run.manifest
    for section in ("trained_on", "training"):
        manifest.pop(section, None)
    write_json(run.manifest_file, manifest)


def refuse_another_recipe(job: Job) -> None:
    """RunError when the run was begun with other values of what training depends on; nothing is touched then."""
    begun = None if job.fresh else job.run.manifest.get("trained_on")
    changed = _first_difference(begun["recipe"], _trained_on(job)) if begun else None
    if changed:
        raise RunError(
            f"{job.run.root} was begun with another recipe ({changed}); start it --fresh, or give another name="
        )


def _trained_on(job: Job) -> JsonObject:
    return deciders(job.recipe, "data", "tokens", "training")


def refuse_other_tokens(job: Job, name: str, fingerprint: str) -> None:
    """RunError when the run was begun on other `data` or `tokens` than these; nothing is touched then."""
    begun = None if job.fresh else job.run.manifest.get("trained_on")
    if begun and begun[name] != fingerprint:
        words = {"data": "its data has", "tokens": "its tokens have"}[name]
        raise RunError(f"{job.run.root}: {words} changed since it was begun; start it --fresh, or give another name=")


def begin(job: Job, data: JsonObject) -> None:
    """Notes what the run is trained on, just before its first step."""
    trained_on = {"data": data["fingerprint"], "tokens": data["lengths"]["key"], "recipe": _trained_on(job)}
    job.run.note("trained_on", trained_on)


def finished_training(job: Job) -> Training | None:
    """The training that the run's weights come from, when they are there.

    refuse_another_recipe and refuse_other_tokens say that they are this job's.
    """
    weights = job.run.adapter if job.recipe.lora else job.run.full_model
    return job.run.training if weights.is_dir() else None


def _first_difference(before: object, after: object, at: str = "") -> str | None:
    """Where two recipes differ first, in words.

    >>> _first_difference({"train": {"epochs": 3}}, {"train": {"epochs": 5}})
    'train.epochs was 3, is 5'
    >>> _first_difference({"data": [{"limit": None}]}, {"data": [{"limit": 9}]})
    'data.0.limit was None, is 9'
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            found = _first_difference(before.get(key), after.get(key), f"{at}.{key}" if at else str(key))
            if found:
                return found
        return None
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return _first_difference(dict(enumerate(before)), dict(enumerate(after)), at)
    return None if before == after else f"{at} was {before}, is {after}"
