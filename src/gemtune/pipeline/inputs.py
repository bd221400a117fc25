"""What a user asks a model about: the rows of a file, or a prompt with images, as conversations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from gemtune.data.columns import check_columns, renamed_as_there
from gemtune.data.conversation import Conversation, Part
from gemtune.data.downloads import ahead
from gemtune.data.image_sources import ImageSources
from gemtune.data.images import ImageStore
from gemtune.data.rows import Row, Rows
from gemtune.data.sources import read_rows, source_for
from gemtune.documents.asked_pages import AskedPages
from gemtune.errors import DataError, RowError
from gemtune.pipeline.job import Job
from gemtune.preparation.reading import downloads_for, image_store
from gemtune.recipe.schema import DataSource
from gemtune.tasks import Task, task_of


def conversations_of(job: Job, data: str, answered: bool = True) -> list[Conversation]:
    """The rows of a file as conversations, with answers or without; DataError at the first that cannot be one."""
    source, task = _reading(job, data)
    downloads = downloads_for(source)
    store = image_store(job.run, source, downloads)
    made = _conversations(_rows(source, task, answered), task, answered)
    conversations = []
    with closing(ahead(made, lambda conversation: conversation.image_paths, downloads)) as waiting:
        for conversation in waiting:
            try:
                conversations.append(store.resolve(conversation))
            except RowError as error:
                raise DataError(f"{conversation.where}: {error}") from error
    return conversations


def _conversations(rows: Rows, task: Task, answered: bool) -> Iterator[Conversation]:
    make = task.conversation if answered else task.question
    for number, (where, row) in enumerate(rows):
        if not number:
            check_columns(row, [name for name in task.columns if answered or name not in task.unanswered], where)
        try:
            yield make(row, where)
        except RowError as error:
            raise DataError(f"{where}: {error}") from error


def without_answers(job: Job, data: str) -> str | None:
    """Why the rows of a file can be answered but not scored, judged by the first row; None if that has an answer.

    It has the columns of the answer, or a last message that is one.
    """
    source, task = _reading(job, data)
    where, row = next(_rows(source, task, answered=False), ("", None))
    if row is None:
        return None  # which says that the file is empty
    if columns := [name for name in task.columns if name in task.unanswered]:
        if any(row.get(name) not in (None, "") for name in columns):
            return None
        return f"{where}: no {' or '.join(source.columns.get(name, name) for name in columns)} in it"
    try:
        task.conversation(row, where)
    except (RowError, DataError) as error:
        return f"{where}: {error}".removeprefix(f"{where}: {where}: ") if _is_question(task, row, where) else None
    return None


def _is_question(task: Task, row: Row, where: str) -> bool:
    try:
        task.question(row, where)
    except (RowError, DataError):
        return False
    return True


def _reading(job: Job, data: str) -> tuple[DataSource, Task]:
    """How a file is read: as which source, and by which task."""
    source = source_for(job.recipe, data)
    _ = job.task  # refuses a program that came with the run
    return source, task_of(job.recipe, source.layout)


def _rows(source: DataSource, task: Task, answered: bool) -> Rows:
    """The rows of a file, under the source's names of columns or the task's; a question needs none of the answer."""
    rows = read_rows(source.model_copy(update={"columns": {}}))
    return renamed_as_there(rows, source.columns, () if answered else task.unanswered)


def with_images(job: Job, conversation: Conversation, images: Sequence[str], page: int | None = None) -> Conversation:
    """A question with image files in front of its last user message; DataError when one cannot be used.

    A run of documents sees them as its pages, and also takes PDFs, of which `page` is wanted.
    """
    pages = job.recipe.pages
    if page is not None and not (images and pages):
        raise DataError(f"--page {page}: is of a document, by --image, for a run with `pages`; leave it out")
    if not images:
        return conversation
    parts = tuple(Part(image=str(Path(image).absolute())) for image in images)
    asked, answer = conversation.messages[-2:]
    messages = (*conversation.messages[:-2], replace(asked, parts=(*parts, *asked.parts)), answer)
    folders = [str(Path(image).absolute().parent) for image in images]
    read = ImageSources(Path(), folders).read
    store = ImageStore(job.run.data, read, AskedPages(pages, page)) if pages else ImageStore(job.run.data, read)
    try:
        return store.resolve(replace(conversation, messages=messages))
    except RowError as error:
        raise DataError(f"{', '.join(images)}: {error}") from error
