"""Lines of a job, and lines of its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher
from documents.teacher.conftest import Pages
from gemtune.documents.teacher import Answer
from gemtune.documents.teacher.chat_batches import ChatBatches
from gemtune.documents.teacher.chat_completions import chat_completions
from gemtune.documents.teacher.failures import Failure
from gemtune.recipe.document_sections import Teacher

REPLY = {"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}], "usage": {}}


@pytest.fixture
def server(serve: Callable[..., ScriptedTeacher]) -> ScriptedTeacher:
    server = serve()
    server.batches.polls = 0
    return server


@pytest.fixture
def batches(server: ScriptedTeacher) -> Iterator[ChatBatches]:
    with chat_completions(Teacher(url=server.url, model="m")) as chat:
        yield ChatBatches(chat)


def test_a_line_is_the_request_that_would_be_posted(batches: ChatBatches, pages: Pages) -> None:
    line = json.loads(batches.line(pages.requests()[0], "an-id"))
    assert (line["custom_id"], line["url"], line["body"]["model"]) == ("an-id", "/v1/chat/completions", "m")
    assert line["body"]["response_format"]["json_schema"]["strict"]


def test_a_job_is_found_by_our_name(batches: ChatBatches, pages: Pages, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(batches.line(pages.requests()[0], "an-id") + b"\n")
    with path.open("rb") as lines:
        job = batches.create("our-name", lines)
    assert batches.find("our-name") == job and batches.find("another") is None
    assert batches.state(job) == ""
    [(name, answer)] = batches.results(job, {"an-id": pages.requests()[0]})
    assert name == "an-id" and isinstance(answer, Answer) and json.loads(answer.text)["number"] == 1


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ({"status_code": 500, "body": {"error": {"message": "x"}}}, "server error"),
        ({"status_code": 429, "body": {"error": {"code": "insufficient_quota", "message": "x"}}}, "stopped"),
        ({"status_code": 400, "body": {"error": {"message": "image too large"}}}, "bad request"),
        ({"status_code": 400, "body": {"error": {"message": "temperature is not supported"}}}, "other dialect"),
        ({"status_code": 200, "body": {}}, "no answer"),
        (None, "server error"),
    ],
)
def test_a_line_without_an_answer_has_its_kind(
    response: Any, kind: str, batches: ChatBatches, server: ScriptedTeacher, pages: Pages
) -> None:
    line = {"custom_id": "an-id", "response": response, "error": {"code": "batch_expired"}}
    server.batches.files["out"] = (json.dumps(line) + "\n" + json.dumps({**line, "custom_id": "none of ours"})).encode()
    server.batches.jobs["job"] = {"id": "job", "status": "expired", "error_file_id": "out"}
    [(name, failure)] = batches.results("job", {"an-id": pages.requests()[0]})
    assert name == "an-id" and isinstance(failure, Failure) and failure.kind == kind


def test_a_state_that_is_not_known_is_not_waited_for_for_ever(batches: ChatBatches, server: ScriptedTeacher) -> None:
    server.batches.jobs["job"] = {"id": "job", "status": "on holiday"}
    with pytest.raises(Failure, match=r"a batch in no state that is known \(on holiday\)"):
        batches.state("job")
