"""Replies of the model in memory: those of a batch side by side, as `gemtune evaluate` answers rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers import LogitsProcessorList, StoppingCriteriaList

from gemtune.evaluation.generate import generate_ids
from gemtune.serving.replies import Drawing, Putting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from gemtune.serving.engine import Ticket


def generate(model: PreTrainedModel, batch: Sequence[Ticket]) -> None:
    """Tells the replies to a batch of tickets for one served model their tokens, until all are over."""
    served, rows = batch[0].served, [(ticket, reply) for ticket in batch for reply in ticket.replies]
    replies = [reply for _, reply in rows]
    longest = max(reply.sampling.limit for reply in replies)
    with served.active():
        generate_ids(
            model,
            served.renderer,
            [ticket.prompt for ticket, _ in rows],
            served.decoding.model_copy(update={"max_new_tokens": longest, "temperature": 0.0}),
            [ticket.images for ticket, _ in rows],
            served.features,
            logits_processor=LogitsProcessorList([Drawing(replies)]),
            stopping_criteria=StoppingCriteriaList([Putting(replies)]),
        )
