"""The artifacts of a run as others take them: whole, and where it matters known to answer as the tuned model does."""

from __future__ import annotations

from pathlib import Path

from gemtune.artifact_files import Artifact
from gemtune.errors import RunError
from gemtune.pipeline.job import Job


def whole_artifact(job: Job, name: str) -> tuple[Path, Artifact]:
    """The folder of a format's artifact, and what is known of it; RunError where it is not there, or not whole."""
    from gemtune.training.checkpoint import damage

    folder, note = job.run.artifact(name), job.run.artifact_note(name)
    export = f"`gemtune export {job.run.root} {name}`"
    if note is None:
        raise RunError(f"{job.run.root}: no {name} artifact; {export} writes it")
    if fault := damage(folder):
        raise RunError(f"{folder}: {fault}; {export} makes it again, and verifies it")
    return folder, note


def proven_artifact(job: Job, name: str) -> Path:
    """The folder of a format's artifact; RunError where it is not known to answer as the tuned model does."""
    folder, note = whole_artifact(job, name)
    if not note.doubt:
        return folder
    export, known = f"`gemtune export {job.run.root} {name}", note.verification  # to which options may be added
    if note.weights != "tuned":
        move = f"{export}` makes it of that, and verifies it"
    elif known is None:
        move = f"{export}` does that"
    else:
        move = "export another format" if known.passed is False else f"{export} --limit N` asks it more rows"
    raise RunError(f"{folder}: {note.doubt}; {move}")
