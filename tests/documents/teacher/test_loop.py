"""One reply at a time: the order of what is written, and a model on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher
from documents.teacher.conftest import Pages
from gemtune.documents.teacher import Answer, Ledger, Request, Usage
from gemtune.recipe.document_sections import Teacher

LOCAL = Teacher(provider="local", model="some/model", max_tokens=100)


def test_the_intent_is_on_the_disk_before_a_request_is_sent(pages: Pages) -> None:
    seen: list[int] = []

    def model(request: Request) -> Answer:
        seen.append(len(Ledger(pages.folder.ledger_file).open_intents()))
        return Answer('{"title": "x", "number": 1}', Usage(5, 7))

    replies = pages.ask(LOCAL, local=model)
    assert seen == [1, 1, 1] and all(reply.usage == Usage(5, 7) for reply in replies)
    lines = [json.loads(line) for line in pages.folder.ledger_file.read_text(encoding="utf-8").splitlines()]
    assert [next(iter(line)) for line in lines] == ["intent", "charge"] * 3
    assert pages.ask(LOCAL, local=model) == replies and len(seen) == 3, "from the cache"


def test_a_local_model_gets_the_errors_once(pages: Pages) -> None:
    prompts: list[str] = []

    def model(request: Request) -> Answer:
        prompts.append(request.prompt)
        return Answer("no JSON", None)

    [reply] = pages.ask(LOCAL, pages.requests()[:1], local=model)
    assert len(prompts) == 2 and "Your previous reply was:\nno JSON" in prompts[1]
    assert reply.problem and reply.problem.startswith("wrong reply (")


def test_an_error_of_the_model_is_not_hidden_and_is_listed(pages: Pages) -> None:
    def model(request: Request) -> Answer:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        pages.ask(LOCAL, local=model)
    assert len(Ledger(pages.folder.ledger_file).open_intents()) == 1


def test_who_goes_away_leaves_nothing_under_way(pages: Pages, serve: Callable[..., ScriptedTeacher]) -> None:
    """A caller that takes one reply and stops: what was sent is stored and settled before the generator ends."""
    from gemtune.documents.teacher import ask

    server = serve(latency=0.1)
    many = Pages(pages.folder.root, 20)
    pages.truth_of.update(many.truth_of)
    replies = ask(many.requests(), Teacher(url=server.url, model="m"), many.folder, say=lambda line: None)
    next(replies), next(replies)
    replies.close()  # type: ignore[attr-defined]
    assert not Ledger(many.folder.ledger_file).open_intents()
    assert len(server.served) < 20
    many.assert_the_ledger_is_right()


ASKS = """
import signal
import sys
from pathlib import Path
from documents.teacher.conftest import Pages
from gemtune.recipe.document_sections import Teacher
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is begun in the background ignores it
Pages(Path(sys.argv[1]), 20).ask(Teacher(url=sys.argv[2], model="m", concurrency=3))
"""


def test_ctrl_c_waits_for_what_is_paid_for(pages: Pages, serve: Callable[..., ScriptedTeacher]) -> None:
    server = serve(latency=0.3)
    many = Pages(pages.folder.root, 20)
    pages.truth_of.update(many.truth_of)
    process = subprocess.Popen(
        [sys.executable, "-c", ASKS, many.folder.root, server.url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
    )
    ends = time.monotonic() + 60
    while len(server.served) < 4 and time.monotonic() < ends:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and b"KeyboardInterrupt" in errors
    assert 4 <= len(server.served) < 20
    assert not Ledger(many.folder.ledger_file).open_intents()
    many.assert_the_ledger_is_right()


def test_no_more_are_under_way_than_is_allowed(pages: Pages, serve: Callable[..., ScriptedTeacher]) -> None:
    """Not more than `concurrency`, and one at a time while it is not known what a reply takes."""
    server = serve(latency=0.05)
    many = Pages(pages.folder.root, 12)
    pages.truth_of.update(many.truth_of)
    many.ask(Teacher(url=server.url, model="m", concurrency=3))
    assert server.most_active == 3
