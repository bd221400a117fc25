"""What a parent orders of its workers, how a worker does it, and what the parent hears meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gemtune.errors import GemtuneError, RunError
from gemtune.files import JsonObject
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Recipe

RESTARTS = 3  # of one training, after workers that were killed

Progress = Callable[[JsonObject], None]
Work = Callable[..., Any]  # of a job, its progress and the order's arguments; the answer is JSON
Send = Callable[[str, Any], None]  # (kind of message, value)


def order_of(job: Job, work: Work, arguments: JsonObject) -> str:
    """The order that a worker makes a job of its own from, as JSON."""
    recipe = job.recipe.model_dump_json()
    return json.dumps({"work": work.__name__, "recipe": recipe, "device": job.device, "arguments": arguments})


def obey(order: str, work: Work, send: Send) -> Any:
    """Does the work of an order as one of the ranks that are together now, and sends what the parent is to hear.

    GemtuneErrors are sent before they are raised; the first rank sends the answer.
    """
    from gemtune.training import ranks

    is_first, values = ranks.rank() == 0, json.loads(order)
    job = Job(
        Recipe.model_validate_json(values["recipe"]),
        trust_task=True,  # the parent has asked
        say=lambda text: send("say", text),
        tick=lambda *tick: send("tick", tick) if is_first else None,
    )
    job.recipe_text = None  # the run has the user's own

    def progress(line: JsonObject) -> None:
        if is_first:
            send("progress", line)

    try:
        if is_first:
            job.accept()
        answer = work(job, progress, **values["arguments"])
    except GemtuneError as error:
        send("refusal", str(error))
        raise
    if is_first:
        send("answer", answer)


@dataclass
class Outcome:
    """What the workers of one attempt have said."""

    answer: Any = None
    refusal: str | None = None  # the line of the first GemtuneError
    bug: str | None = None  # the traceback of the first other exception
    said: set[str] = field(default_factory=set)  # each line is said once, however many workers say it

    def hear(self, message: JsonObject, job: Job, progress: Progress) -> None:
        """Takes a message, and passes on what is for the user."""
        kind, value = message["kind"], message["value"]
        if kind == "say" and value not in self.said:
            self.said.add(value)
            job.say(value)
        elif kind == "tick":
            job.tick(*value)
        elif kind == "progress":
            progress(value)
        elif kind == "answer":
            self.answer = value
        elif kind == "refusal":
            self.refusal = self.refusal or value
        elif kind == "bug":
            self.bug = self.bug or value

    def require_accepted(self) -> None:
        """RunError where a worker has refused to go on."""
        if self.refusal:
            raise RunError(self.refusal)
