"""Runs behind one server by their GGUF artifacts, in llama.cpp."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import RunError, listed
from gemtune.exporting.formats import DEFAULTS
from gemtune.pipeline.artifact_folders import whole_artifact
from gemtune.pipeline.job import Job
from gemtune.pipeline.served import names_of, seeing_pages

if TYPE_CHECKING:
    from gemtune.serving.api import Api

GGUF = "gguf-"  # with which the names of its formats begin


def gguf_api(
    models: Sequence[tuple[Job, str | None]],
    images: Path,
    *,
    batch: int,
    queue: int,
    stack: contextlib.ExitStack,
) -> Api:
    """The endpoints of runs, their artifacts loaded in llama.cpp until the stack, or the engine, is closed.

    A model is a run, with the format of the artifact where one is named; `images` is a folder for those of requests.
    """
    import torch

    from gemtune.exporting.gguf_folder import open_gguf_folder
    from gemtune.exporting.llama_cpp import CONTEXT
    from gemtune.models.families import config_of
    from gemtune.serving.api import Api
    from gemtune.serving.engine import Engine, Served
    from gemtune.serving.gguf_replies import LACKS, generate
    from gemtune.serving.json_replies import JsonReplies

    names, formats = names_of([job for job, _ in models]), [format_ for _, format_ in models]
    loaded = stack.enter_context(contextlib.ExitStack())
    runtimes, served = {}, {}
    for (name, job), format_ in zip(names.items(), formats, strict=True):
        folder = artifact_of(job, format_)
        runtime = open_gguf_folder(folder, slots=batch, threads=torch.get_num_threads())
        runtimes[name] = loaded.enter_context(runtime)
        runtime.load()
        created = int(folder.stat().st_mtime)
        answering = Served(name, created, job.renderer, job.recipe.evaluate, job.task.asked)
        served[name] = seeing_pages(answering, job)
    first = models[0][0]
    answer = partial(generate, runtimes, images, first.say)
    engine = Engine(generate=answer, rows=1, most_waiting=queue, say=first.say, lanes=batch, stop=loaded.close)
    json_replies = JsonReplies(first.tokenizer, first.renderer.stop_ids)
    positions = [config_of(job.folder).get_text_config().max_position_embeddings for job, _ in models]
    return Api(engine, served, json_replies, min(CONTEXT, *positions), images, LACKS)


def artifact_of(job: Job, format_: str | None) -> Path:
    """The folder of a run's GGUF artifact, the only one where none is named; RunError where it is not there or whole.

    Where it is not known to answer as the tuned model does, that is said.
    """
    there = [name for name in job.run.formats() if name.startswith(GGUF)]
    if format_ is None and len(there) > 1:
        raise RunError(f"{job.run.root}: has {listed(there)}; name one, such as {job.run.artifact(there[0])}")
    folder, note = whole_artifact(job, format_ or next(iter(there), DEFAULTS["gguf"]))
    if note.doubt:
        job.say(f"{folder}: {note.doubt}")
    return folder
