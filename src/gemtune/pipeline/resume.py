"""Whether a run may resume: with the recipe and tokens it was begun with; and what `--fresh` removes."""

from __future__ import annotations

from collections.abc import Iterator

from gemtune.data.paths import at_home
from gemtune.data.sources import is_hub, source_files
from gemtune.errors import DataError, RunError
from gemtune.files import JsonObject, os_errors
from gemtune.pipeline.job import Job
from gemtune.pipeline.lock_file import write_lock
from gemtune.preparation.prepare import rows_are_whole
from gemtune.recipe.places import without_places
from gemtune.recipe.schema import deciders
from gemtune.run_contents import remove_written
from gemtune.run_files import Training
from gemtune.runs import Run


def start_again(run: Run) -> None:
    """Removes what gemtune has made of a run's data, and nothing else that lies there."""
    with os_errors(run.root):
        artifacts = map(run.artifact, run.formats())
        weights = (*map(run.checkpoint, run.steps()), run.adapter, run.full_model, *artifacts)
        for folder in (*weights, run.eval, run.tensorboard):
            remove_written(folder)
        for path in (run.metrics_file, run.lock_file, run.report_page, run.report_markdown):
            path.unlink(missing_ok=True)
    run.forget("trained_on", "training", "digests")


def refuse_another_recipe(job: Job) -> None:
    """RunError when the run was begun with other values of what training depends on; nothing is touched then.

    A run that has no weights yet has nothing to lose: it begins again.
    """
    begun = _begun(job)
    if begun is None:
        return
    before, after = without_places(begun["recipe"]), without_places(_trained_on(job))
    if before["model"] != after["model"] and _is_same_model(job):
        after["model"] = before["model"]
    if changed := next(differences(before, after), None):
        _begin_again_or_refuse(job, f"{job.run.root} was begun with another recipe ({changed})")


def refuse_other_tokens(job: Job, name: str, fingerprint: str) -> None:
    """Like refuse_another_recipe, for a run that was begun on other `data` or `tokens` than these."""
    begun = _begun(job)
    if begun and begun[name] != fingerprint:
        words = {"data": "its data has", "tokens": "its tokens have"}[name]
        _begin_again_or_refuse(job, f"{job.run.root}: {words} changed since it was begun")


def _begun(job: Job) -> JsonObject | None:
    """What the run is trained on, where it goes on."""
    return None if job.fresh else job.run.manifest.get("trained_on")


def _begin_again_or_refuse(job: Job, change: str) -> None:
    """Never advises what would cost weights: another name keeps them."""
    run, training = job.run, job.run.training
    is_trained = run.adapter.is_dir() or run.full_model.is_dir()
    is_lost = training is not None and training.best_step is None  # it diverged, and nothing of it was good
    if is_trained or (run.steps() and not is_lost):
        what = "its trained weights" if is_trained else "its checkpoints"
        raise RunError(f"{change}; give another name= (--fresh would remove {what})")
    job.fresh = True


def _trained_on(job: Job) -> JsonObject:
    return deciders(job.recipe, "data", "tokens", "training")


def _is_same_model(job: Job) -> bool:
    """Whether a model folder under another name holds the model that the run was trained from."""
    from gemtune.models.hub import fingerprint

    folder = at_home(job.recipe.model)
    before = job.run.manifest.get("model", {}).get("fingerprint")
    return before is not None and (folder / "config.json").is_file() and fingerprint(folder) == before


def begin(job: Job, data: JsonObject) -> None:
    """Notes what the run is trained on, just before its first step, and writes its lock."""
    trained_on = {"data": data["fingerprint"], "tokens": data["lengths"]["key"], "recipe": _trained_on(job)}
    job.run.note("trained_on", {**trained_on, "root": str(job.run.root.absolute())})
    write_lock(job)


def has_its_rows(job: Job) -> bool:
    """Whether the run was begun on the rows that it holds now, so that their sources need not be read again."""
    from gemtune.rendering.token_table import tables_are_whole

    run, begun = job.run, _begun(job)
    try:
        data = run.data_manifest() if begun else None
    except RunError:  # damaged: prepare writes it again
        return False
    if begun is None or data is None or data.lengths is None:
        return False
    if (data.fingerprint, data.lengths.key) != (begun["data"], begun["tokens"]):
        return False
    return rows_are_whole(run, data) and tables_are_whole(run, data.lengths)


def sources_gone(job: Job) -> str | None:
    """Why rows cannot be compared with their sources (the Hub's would be fetched anew), or None where they can."""
    for source in job.recipe.data:
        if is_hub(source):
            return f"{source.source} is a Hub data set"
        try:
            source_files(source)
        except DataError as error:
            return str(error).split(";")[0]
    return None


def finished_training(job: Job) -> Training | None:
    """The training that the run's weights come from, when they are there.

    refuse_another_recipe and refuse_other_tokens say that they are this job's.
    """
    from gemtune.training.checkpoint import damage, restore_metrics

    weights = job.run.adapter if job.recipe.lora else job.run.full_model
    if not weights.is_dir():
        return None
    if fault := damage(weights):
        job.say(f"{weights} is damaged ({fault}); it is made again from the checkpoints")
        return None
    if not job.run.has_whole_metrics():
        job.say(restore_metrics(job.run))
    return job.run.training


_NOTHING: tuple[object, ...] = (None, {}, [])


def differences(before: object, after: object, at: str = "") -> Iterator[str]:
    """Where two pieces of plain data differ, in words.

    >>> list(differences({"train": {"epochs": 3}}, {"train": {"epochs": 5}}))
    ['train.epochs was 3, is 5']
    >>> list(differences({"data": [{"limit": None}]}, {"data": [{"limit": 9}]}))
    ['data.0.limit was None, is 9']
    >>> list(differences({}, {"teacher": [], "privacy": {}}))  # a run from before there were these sections
    []
    """
    if before in _NOTHING and after in _NOTHING:
        return
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from differences(before.get(key), after.get(key), f"{at}.{key}" if at else str(key))
    elif before != after:
        yield f"{at} was {before}, is {after}"
