"""What answers and failures become in the cache and the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from documents.teacher.conftest import SCHEMA
from gemtune.documents.teacher import Answer, Request, TeacherError, Usage
from gemtune.documents.teacher.failures import Failure
from gemtune.documents.teacher.ledger import Intent
from gemtune.documents.teacher.settling import charge_of, stored_reply
from gemtune.recipe.document_sections import Teacher

REQUEST = Request("a.pdf", 1, "fields", 0, Path("x.png"), "Read it.", SCHEMA)
TEACHER = Teacher(model="m", input_price=1.0, output_price=10.0)
INTENT = Intent(
    **{"intent": "i", "at": "2026-11-28", "model": "m", "document": "a.pdf", "page": 1, "task": "fields", "sample": 0},
    **{"reply": "k", "size": 9, "input": 100, "output": 500, "cost": 1.0},  # type: ignore[arg-type]
)
WHOLE = '{"title": "x", "number": 1}'


@pytest.mark.parametrize(
    ("answer", "outcome", "text"),
    [
        (Answer(WHOLE, Usage(10, 5)), "answered", WHOLE),
        (Answer(WHOLE, Usage(10, 5), "cut"), "cut", ""),  # whole as it looks, and still not read
        (Answer(WHOLE, Usage(10, 5), "refused", "SAFETY"), "refused", ""),
        (Answer("{}", Usage(10, 5)), "wrong reply", ""),
    ],
)
def test_only_what_ended_by_itself_is_read(answer: Answer, outcome: str, text: str) -> None:
    stored = stored_reply(REQUEST, answer, INTENT, TEACHER)
    assert (stored.outcome, stored.text, stored.raw) == (outcome, text, answer.text)
    assert stored.charge["cost"] == pytest.approx(60e-6) and stored.charge["outcome"] == outcome
    assert stored_reply(REQUEST, answer, INTENT, TEACHER, 0.5).charge["cost"] == pytest.approx(30e-6)


def test_tokens_that_are_not_counted_are_estimated_and_said_so() -> None:
    charge = stored_reply(REQUEST, Answer(WHOLE, None), INTENT, TEACHER).charge
    assert (charge["input"], charge["output"], charge["counted"]) == (100, 14, False)


def test_a_failure_is_charged_by_what_is_known_of_it() -> None:
    lost, counted = Failure("connection lost", "x"), Failure("no answer", "x", usage=Usage(7, 1))
    assert charge_of(lost, INTENT, TEACHER).maybe and charge_of(lost, INTENT, TEACHER).usage == Usage()
    assert not charge_of(counted, INTENT, TEACHER).maybe and charge_of(counted, INTENT, TEACHER).usage == Usage(7, 1)
    assert not charge_of(Failure("server error", "x"), INTENT, TEACHER).maybe
    stopped = charge_of(TeacherError("the key"), INTENT, TEACHER)
    assert (stopped.outcome, stopped.said, stopped.maybe) == ("stopped", "the key", False)
