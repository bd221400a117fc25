"""Gemini's batches through Google's own client, against a loopback server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher, listed
from documents.teacher.conftest import Pages
from gemtune.documents.teacher import Ledger, TeacherError
from gemtune.recipe.document_sections import Teacher

pytest.importorskip("google.genai", reason="the extra gemini is not installed")

Serve = Callable[..., ScriptedTeacher]


@pytest.fixture
def many(pages: Pages) -> Pages:
    many = Pages(pages.folder.root, 9)
    pages.truth_of.update(many.truth_of)
    return many


def teacher_at(server: ScriptedTeacher, **keys: Any) -> Teacher:
    prices = {"input_price": 1.0, "output_price": 10.0}
    return Teacher(provider="gemini", url=server.address, model="gemini-x", batch=True, **prices, **keys)  # type: ignore[arg-type]


def test_replies_come_by_batch_at_half_the_price(many: Pages, serve: Serve) -> None:
    server = serve()
    replies = many.ask(teacher_at(server))
    assert [reply.value and reply.value["number"] for reply in replies] == list(range(1, 10))
    assert len(server.batches.jobs) == 1 and len(server.served) == 9
    config = server.bodies[-1]["generationConfig"]
    assert config["maxOutputTokens"] == 12_000 and config["responseJsonSchema"]["required"] == ["title", "number"]
    first, *others = server.served
    cost = first.input + 10 * first.output + sum(line.input + 10 * line.output for line in others) / 2
    assert Ledger(many.folder.ledger_file).total("gemini-x").cost == pytest.approx(cost / 1e6)
    many.assert_the_ledger_is_right()


@pytest.mark.parametrize("fault", ["500", "wrong", "thinking", "filtered"])
def test_what_a_batch_does_not_answer_is_in_the_next(fault: str, many: Pages, serve: Serve) -> None:
    server = serve(listed("", fault))
    assert all(reply.value for reply in many.ask(teacher_at(server)))
    assert len(server.batches.jobs) == 1 + (fault != "thinking")
    many.assert_the_ledger_is_right()


def test_a_job_whose_creation_got_no_answer_is_found(many: Pages, serve: Serve) -> None:
    server = serve()
    server.batches.script = ["lost"]
    assert all(reply.value for reply in many.ask(teacher_at(server)))
    assert len(server.batches.jobs) == 1 and len(server.served) == 9
    many.assert_the_ledger_is_right()


def test_a_job_that_fails_or_expires(many: Pages, serve: Serve) -> None:
    server = serve()
    server.batches.script = ["failed", "expired"]
    with pytest.raises(TeacherError, match=r"a batch ended without a reply \(the batch failed\)"):
        many.ask(teacher_at(server))
    assert all(reply.value for reply in many.ask(teacher_at(server)))
    assert len(server.batches.jobs) == 3 and len(server.served) == 9
    many.assert_the_ledger_is_right()
