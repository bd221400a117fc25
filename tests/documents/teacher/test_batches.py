"""Batches: into the same cache, half the price, and no job lost or sent twice whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher, always, listed
from documents.teacher.conftest import Pages
from gemtune.documents.teacher import Ledger, TeacherError
from gemtune.recipe.document_sections import Teacher

Serve = Callable[..., ScriptedTeacher]
PRICED = {"model": "m", "batch": True, "input_price": 1.0, "output_price": 10.0}


@pytest.fixture
def many(pages: Pages) -> Pages:
    many = Pages(pages.folder.root, 12)
    pages.truth_of.update(many.truth_of)
    return many


def priced(server: ScriptedTeacher, **keys: object) -> Teacher:
    return Teacher(url=server.url, **PRICED, **keys)  # type: ignore[arg-type]


def test_replies_come_by_batch_at_half_the_price(many: Pages, serve: Serve) -> None:
    server = serve()
    replies = many.ask(priced(server))
    assert [reply.value and reply.value["number"] for reply in replies] == list(range(1, 13))
    assert len(server.batches.jobs) == 1 and len(server.served) == 12
    first, *others = server.served
    cost = first.input + 10 * first.output + sum(line.input + 10 * line.output for line in others) / 2
    assert Ledger(many.folder.ledger_file).total("m").cost == pytest.approx(cost / 1e6)
    many.assert_the_ledger_is_right()
    assert many.ask(priced(server)) == replies and len(server.served) == 12
    assert many.ask(priced(server).model_copy(update={"batch": False})) == replies, "the cache is one"


@pytest.mark.parametrize("fault", ["500", "429", "wrong", "cut", "400: response_format of type json_schema is unknown"])
def test_what_a_batch_does_not_answer_is_in_the_next(fault: str, many: Pages, serve: Serve) -> None:
    server = serve(listed("", fault))
    replies = many.ask(priced(server, max_tokens=900))
    problems = [reply.problem for reply in replies if reply.problem]
    assert problems == (["cut at 900 tokens; raise teacher.max_tokens"] if fault == "cut" else [])
    assert len(server.batches.jobs) == 1 + (fault != "cut") and len(server.served) == 12 + (fault != "cut")
    many.assert_the_ledger_is_right()


def test_a_batch_is_split_by_size(many: Pages, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from gemtune.documents.teacher.chat_batches import ChatBatches

    monkeypatch.setattr(ChatBatches, "most_bytes", 3_000)
    server = serve()
    assert all(reply.value for reply in many.ask(priced(server)))
    assert len(server.batches.jobs) > 2
    assert all(len(data) <= 3_000 for name, data in server.batches.files.items() if b'"method"' in data)
    many.assert_the_ledger_is_right()


def test_a_budget_is_reserved_for_a_whole_batch(many: Pages, serve: Serve) -> None:
    """12 replies may cost 0.005 each and cost 0.0001: they go out a few at a time, as the money comes back."""
    server = serve()
    assert all(reply.value for reply in many.ask(priced(server, max_tokens=1000, budget=0.0115)))
    assert len(server.batches.jobs) > 1
    with pytest.raises(TeacherError, match=r"teacher.budget of 0.0001 is reached"):
        many.ask(priced(server, temperature=0.5, max_tokens=1000, budget=0.0001))
    many.assert_the_ledger_is_right()


def test_a_job_whose_creation_got_no_answer_is_found(many: Pages, serve: Serve) -> None:
    server = serve()
    server.batches.script = ["lost"]
    assert all(reply.value for reply in many.ask(priced(server)))
    assert len(server.batches.jobs) == 1 and len(server.served) == 12
    many.assert_the_ledger_is_right()


def test_an_expired_job_gives_what_it_has_done(many: Pages, serve: Serve) -> None:
    server = serve()
    server.batches.script = ["expired"]
    assert all(reply.value for reply in many.ask(priced(server)))
    assert len(server.batches.jobs) == 2 and len(server.served) == 12
    many.assert_the_ledger_is_right()


def test_a_job_that_fails_is_said(many: Pages, serve: Serve) -> None:
    server = serve()
    server.batches.script = ["failed"]
    with pytest.raises(TeacherError, match=r"a batch ended without a reply \(Enqueued token limit reached\)"):
        many.ask(priced(server))
    many.assert_the_ledger_is_right()
    assert not Ledger(many.folder.ledger_file).open_intents()
    assert all(reply.value for reply in many.ask(priced(server)))


ASKS = """
import sys
from pathlib import Path
from documents.teacher.conftest import Pages
from gemtune.recipe.document_sections import Teacher
pages = Pages(Path(sys.argv[1]), 12)
replies = pages.ask(Teacher(url=sys.argv[2], model="m", batch=True))
Path(sys.argv[3]).write_text(str([reply.text for reply in replies]))
"""


def test_a_job_outlives_the_process_that_sent_it(many: Pages, serve: Serve) -> None:
    server = serve()
    server.batches.polls = 10_000
    out = many.folder.root / "replies.txt"
    command = [sys.executable, "-c", ASKS, many.folder.root, server.url, out]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, env=environment)
    ledger, ends = Ledger(many.folder.ledger_file), time.monotonic() + 60
    while not any(batch.job for batch in ledger.batches.values()) and time.monotonic() < ends:
        time.sleep(0.05)
        ledger = Ledger(many.folder.ledger_file)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    server.batches.polls = 0
    subprocess.run(command, env=environment, check=True)
    assert len(server.batches.jobs) == 1 and len(server.served) == 12, "nothing is sent twice"
    assert out.read_text(encoding="utf-8").count("صفحة") == 12
    assert not Ledger(many.folder.ledger_file).maybe_charged()
    many.assert_the_ledger_is_right()


def test_a_batch_of_another_prompt_is_not_lost_from_the_ledger(many: Pages, serve: Serve) -> None:
    """The recipe has changed while a job ran: its replies are of no use now, and what they may have cost is listed."""
    server = serve()
    many.ask(priced(server))
    lines = many.folder.ledger_file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines[2:] if '"charge"' not in line and '"ended": true' not in line]
    many.folder.ledger_file.write_text("".join(lines[:2] + kept), encoding="utf-8")
    for path in many.folder.replies.glob("*/*.json"):
        path.unlink()
    requests = [
        type(one)(one.document, one.page, one.task, 0, one.image, "Another.", one.schema) for one in many.requests()
    ]
    assert all(reply.value for reply in many.ask(priced(server), requests))
    book = Ledger(many.folder.ledger_file)
    assert len(book.maybe_charged()) == 11 and not book.open_intents()
    many.assert_the_ledger_is_right()


def test_a_batch_needs_a_provider_that_has_one() -> None:
    with pytest.raises(ValueError, match="wanted openai or gemini as provider for batch, found local"):
        Teacher(provider="local", model="m", batch=True)


def test_a_server_without_batches_is_said(many: Pages, serve: Serve) -> None:
    server = serve(always(""))
    server.batches.answer = lambda *_: (404, {"error": {"message": "Not Found"}})  # type: ignore[method-assign]
    server.batches.takes = lambda path: "files" in path  # type: ignore[method-assign]
    with pytest.raises(TeacherError, match=r"teacher.batch: .* \(Not Found\).*; false asks without batches"):
        many.ask(priced(server))
    assert not Ledger(many.folder.ledger_file).maybe_charged()
