"""A vision model on this machine as a teacher: loaded once, asked for one page after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from gemtune.documents.folder import DistilledFolder
from gemtune.errors import ModelError
from gemtune.pipeline.job import Job
from gemtune.recipe.document_sections import Teacher
from gemtune.recipe.schema import Recipe

if TYPE_CHECKING:
    from gemtune.documents.teacher import Answer, Local, Request


def local_teacher(job: Job) -> Callable[[Teacher], Local]:
    """Makes a teacher of a model in a folder or of the Hub; ModelError for one that sees no images.

    It is loaded with its first page, on the recipe's device: where all replies are there already, never.
    """

    def teacher_of(teacher: Teacher) -> Local:
        @cache
        def ask() -> Local:
            return _loaded(job, teacher)

        return lambda request: ask()(request)

    return teacher_of


def _loaded(job: Job, teacher: Teacher) -> Local:
    from gemtune.data.conversation import Conversation, Message, Part
    from gemtune.documents.teacher import Answer, Usage
    from gemtune.evaluation.generate import replies

    train = job.recipe.train
    settings = {
        "max_new_tokens": teacher.max_tokens,
        "temperature": teacher.temperature,
        "batch_size": 1,
    }
    recipe = Recipe.model_validate(
        {
            "name": job.recipe.name,
            "task": "messages",
            "data": "none",
            "model": teacher.model,
            "runs_dir": job.recipe.runs_dir,
            "evaluate": settings,
            "train": {"precision": train.precision, "device": train.device},
        }
    )
    folder = DistilledFolder.of(job.recipe)
    seeing = Job(recipe, say=job.say)
    if seeing.image_tokenizer is None:
        raise ModelError(f"teacher.model {teacher.model}: reads text only; a teacher of pages sees images")
    model, renderer = seeing.base_model(), seeing.renderer

    def ask(request: Request) -> Answer:
        image = request.image.relative_to(folder.root).as_posix()
        question = Message("user", (Part(image=image, size=_size(request)), Part(text=request.prompt)))
        conversation = Conversation(
            (question, Message.of("assistant", "")), "messages", request.prompt, request.document, str(request)
        )
        decoding = recipe.evaluate.model_copy(update={"seed": request.sample})
        [reply] = replies(
            model,
            renderer,
            [conversation],
            decoding,
            features_for=lambda model: seeing.image_features(model, folder.root),
        )
        usage = Usage(len(renderer.prompt_ids(conversation)), len(renderer.tokenizer.encode(reply.text)))
        return Answer(reply.text, usage, "cut" if reply.cut else "stop")

    return ask


def _size(request: Request) -> tuple[int, int]:
    from PIL import Image

    with Image.open(request.image) as image:
        return image.size
