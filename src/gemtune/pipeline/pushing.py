"""A run's adapter, model or artifact on the Hub, with a card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import RunError
from gemtune.files import read_object
from gemtune.pipeline.artifact_folders import proven_artifact
from gemtune.pipeline.job import Job

if TYPE_CHECKING:
    from gemtune.exporting.hub import HubFile

CONFIG = "adapter_config.json"


def push(
    job: Job, repo: str, what: str | None = None, *, public: bool = False, dry_run: bool = False
) -> tuple[list[HubFile], str | None]:
    """Sends `adapter` (or `model`, where every weight was trained) or an artifact of a run to the Hub.

    Returns every file with its size, digest and whether it goes through LFS, and the address; a dry run sends nothing.
    """
    from gemtune.exporting import hub

    hub.require_name(repo)
    what = what or ("adapter" if job.recipe.lora else "model")
    folder = _folder(job, what)
    with hub.staged(folder, _texts(job, repo, what, folder)) as stage:
        files = hub.hub_files(stage)
        if dry_run:
            return files, None
        job.say(f"sending {len(files)} files, {sum(file.size for file in files) / 1e6:,.1f} MB, to {repo}")
        return files, hub.push(stage, repo, public=public, message=f"The {what}, tuned with gemtune")


def _folder(job: Job, what: str) -> Path:
    """Where the files of what is pushed lie; RunError where they are not there, not whole, or not known to be right."""
    from gemtune.pipeline.tuned_models import weights_folder
    from gemtune.training.checkpoint import require_whole

    own = "adapter" if job.recipe.lora else "model"
    if what == own:
        return require_whole(weights_folder(job, "tuned"))
    if what not in job.run.formats():
        raise RunError(f"{job.run.root}: no {what!r} to push; there is {', '.join([own, *job.run.formats()])}")
    return proven_artifact(job, what)


def _texts(job: Job, repo: str, what: str, folder: Path) -> dict[str, str]:
    """The files that are written for the Hub: the card, Gemma's notice, and an adapter's config with its base's id."""
    from gemtune.exporting.hub import card
    from gemtune.models.families import config_of
    from gemtune.models.hub import hub_id
    from gemtune.reporting import model_card

    note = job.run.manifest.get("model", {})
    name = str(note.get("name") or job.recipe.model)
    model = model_card.Model(
        repo=repo,
        what=what,
        base=hub_id(name),
        revision=note.get("revision"),
        architecture=(config_of(job.folder).architectures or ["unknown"])[0],
        is_gemma=job.family.name.startswith("gemma"),
        sees=job.family.vision is not None,
        messages=_question(job),
    )
    texts = {
        "README.md": card(
            model_card.metadata(job.run, model), model_card.results(job.run), model_card.text(job.run, model)
        )
    }
    if model.is_gemma:
        texts["NOTICE"] = model_card.NOTICE
    if (folder / CONFIG).is_file():  # PEFT has written where the base model lies here
        base = {"base_model_name_or_path": model.base, "revision": model.revision}
        texts[CONFIG] = json.dumps({**read_object(folder / CONFIG), **base}, indent=2) + "\n"
    return texts


def _question(job: Job) -> Sequence[dict[str, str]]:
    """A text as the run's task asks about it, as messages."""
    return [{"role": m.role, "content": m.text} for m in job.task.asked("YOUR TEXT").messages[:-1]]
