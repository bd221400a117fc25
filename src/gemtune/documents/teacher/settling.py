"""What an answer, or a failure, becomes: a stored reply and its charge."""

from __future__ import annotations

import math

from gemtune.documents.teacher.budget import cost_of
from gemtune.documents.teacher.exchange import Answer, Request, Usage
from gemtune.documents.teacher.failures import ANSWERED, KINDS, Failure, TeacherError
from gemtune.documents.teacher.ledger import Charge, Intent
from gemtune.documents.teacher.repair import Reading, read_reply
from gemtune.documents.teacher.reply_store import FORMAT, StoredReply
from gemtune.recipe.document_sections import Teacher

_BYTES_A_TOKEN = 2  # of a reply whose tokens the endpoint does not count


def stored_reply(request: Request, answer: Answer, intent: Intent, teacher: Teacher, share: float = 1.0) -> StoredReply:
    """A reply as it is kept, with its charge; only one that has ended by itself is read."""
    reading = read_reply(answer.text, request.schema) if answer.finish == "stop" else Reading(None, "")
    outcome = answer.finish if answer.finish != "stop" else "wrong reply" if reading.faults else ANSWERED
    length = len(answer.text.encode("utf-8", "replace"))
    usage = answer.usage or Usage(intent.input, math.ceil(length / _BYTES_A_TOKEN))
    charge = Charge(
        charge=intent.intent,
        outcome=outcome,
        input=usage.input,
        output=usage.output,
        thinking=usage.thinking,
        cost=cost_of(usage, teacher, share),
        counted=answer.usage is not None,
        said=answer.said or "; ".join(reading.faults)[:300],
    )
    return StoredReply(
        format=FORMAT,
        model=teacher.model,
        document=request.document,
        page=request.page,
        task=request.task,
        sample=request.sample,
        outcome=outcome,
        raw=answer.text,
        value=reading.value,
        text=reading.text,
        repairs=list(reading.repairs),
        faults=list(reading.faults),
        charge=charge.to_json(),
        structured=answer.structured,
        changes=list(answer.changes),
    )


def charge_of(failure: Failure | TeacherError, intent: Intent, teacher: Teacher, share: float = 1.0) -> Charge:
    """The charge of a request without an answer: `maybe` where one may have been made that did not arrive."""
    if isinstance(failure, TeacherError):
        return Charge(charge=intent.intent, outcome="stopped", said=str(failure))
    usage = failure.usage or Usage()
    return Charge(
        charge=intent.intent,
        outcome=failure.kind,
        input=usage.input,
        output=usage.output,
        thinking=usage.thinking,
        cost=cost_of(usage, teacher, share),
        maybe=KINDS[failure.kind].charged and failure.usage is None,
        said=failure.said,
    )
