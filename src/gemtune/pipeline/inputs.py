"""What a user asks a model about: the rows of a file, or a prompt with images, as conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gemtune.data.columns import check_columns
from gemtune.data.conversation import Conversation, Part
from gemtune.data.image_sources import ImageSources
from gemtune.data.images import ImageStore
from gemtune.data.sources import read_rows, source_for
from gemtune.errors import DataError, RowError
from gemtune.pipeline.job import Job
from gemtune.preparation.prepare import image_store
from gemtune.tasks import task_of


def conversations_of(job: Job, data: str, answered: bool = True) -> list[Conversation]:
    """The rows of a file as conversations, with answers or without; DataError at the first that cannot be one."""
    source = source_for(job.recipe, data)
    _ = job.task  # refuses a program that came with the run
    task = task_of(job.recipe, source.layout)
    make = task.conversation if answered else task.question
    store = image_store(job.run, source)
    conversations: list[Conversation] = []
    for where, row in read_rows(source):
        if answered and not conversations:
            check_columns(row, task.columns, where)
        try:
            conversations.append(store.resolve(make(row, where)))
        except RowError as error:
            raise DataError(f"{where}: {error}") from error
    return conversations


def with_images(job: Job, conversation: Conversation, images: Sequence[str]) -> Conversation:
    """A question with image files in front of its last user message; DataError when one cannot be used."""
    if not images:
        return conversation
    parts = tuple(Part(image=str(Path(image).absolute())) for image in images)
    asked, answer = conversation.messages[-2:]
    messages = (*conversation.messages[:-2], replace(asked, parts=(*parts, *asked.parts)), answer)
    folders = [str(Path(image).absolute().parent) for image in images]
    store = ImageStore(job.run.data, ImageSources(Path(), folders).read)
    try:
        return store.resolve(replace(conversation, messages=messages))
    except RowError as error:
        raise DataError(f"{', '.join(images)}: {error}") from error
