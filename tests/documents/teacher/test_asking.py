"""The loop against a real server over loopback that misbehaves by a script."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher, always, listed
from documents.teacher.conftest import Pages
from gemtune.documents.teacher import Ledger, TeacherError
from gemtune.recipe.document_sections import Teacher

Serve = Callable[..., ScriptedTeacher]


def teacher_at(server: ScriptedTeacher, **keys: object) -> Teacher:
    return Teacher(url=server.url, model="m", **keys)  # type: ignore[arg-type]


def test_every_page_gets_its_reply_and_none_is_asked_for_twice(pages: Pages, serve: Serve) -> None:
    server = serve()
    replies = pages.ask(teacher_at(server))
    assert [reply.text for reply in replies] == [f'{{"title": "صفحة {n}", "number": {n}}}' for n in (1, 2, 3)]
    assert pages.ask(teacher_at(server)) == replies
    assert len(server.served) == 3
    pages.assert_the_ledger_is_right()


@pytest.mark.parametrize(
    "fault",
    [
        "429",
        "429 in the body",
        "500",
        "dropped",
        "half",
        "html",
        "error in a 200",
        "wrong",
        "escaped",
        "fenced",
        "thinking",
        "broken",
    ],
)
def test_a_fault_is_got_over(fault: str, pages: Pages, serve: Serve) -> None:
    """The same reply, byte for byte, and every charge in the ledger."""
    server = serve(listed(fault))
    replies = pages.ask(teacher_at(server))
    assert [reply.text for reply in replies] == [f'{{"title": "صفحة {n}", "number": {n}}}' for n in (1, 2, 3)]
    is_taken = fault in ("escaped", "fenced", "thinking", "broken")
    assert len(server.served) == 3 + (not is_taken)
    pages.assert_the_ledger_is_right()


@pytest.mark.parametrize("fault", ["slow", "trickle"])
def test_a_slow_reply_is_not_bought_three_times(fault: str, pages: Pages, serve: Serve) -> None:
    server = serve(always(fault), slow=5.0)
    requests = pages.requests()[:1]
    [reply] = pages.ask(teacher_at(server, timeout=0.3, concurrency=1), requests)
    assert reply.problem and reply.problem.startswith("timeout (")
    assert len(server.served) == 2
    pages.ask(teacher_at(server, timeout=0.3), requests)
    assert len(server.served) == 2, "nor by another start"
    assert len(Ledger(pages.folder.ledger_file).maybe_charged()) == 2
    pages.assert_the_ledger_is_right()


def test_a_cut_reply_never_becomes_a_row(pages: Pages, serve: Serve) -> None:
    server = serve(always("cut"))
    replies = pages.ask(teacher_at(server, max_tokens=500))
    assert {reply.problem for reply in replies} == {"cut at 500 tokens; raise teacher.max_tokens"}
    assert len(server.served) == 3, "it would be cut again"
    pages.assert_the_ledger_is_right()
    longer = serve()
    assert all(reply.value for reply in pages.ask(teacher_at(longer, max_tokens=600)))


def test_a_reply_of_another_schema_is_asked_for_once_more_with_what_is_wrong(pages: Pages, serve: Serve) -> None:
    server = serve(always("wrong"))
    replies = pages.ask(teacher_at(server), pages.requests()[:1])
    assert "another thing" not in replies[0].text
    assert replies[0].problem and '"title" is a required property' in replies[0].problem
    first, second = (body["messages"][0]["content"][1]["text"] for body in server.bodies)
    assert first == "Read it." and '"title" is a required property' in second
    pages.assert_the_ledger_is_right()


def test_a_refusal_is_final_after_two_tries(pages: Pages, serve: Serve) -> None:
    server = serve(always("refused"))
    replies = pages.ask(teacher_at(server), pages.requests()[:1])
    assert replies[0].problem == "refused (I cannot help with this page.)"
    assert len(server.served) == 2


def test_a_page_is_given_up_for_good_over_all_starts(pages: Pages, serve: Serve) -> None:
    server = serve(always("500"))
    for _ in range(3):
        [reply] = pages.ask(teacher_at(server, attempts=3), pages.requests()[:1])
        assert reply.problem and "given up after 3 tries: server error (The server had an error)" in reply.problem
    assert len(server.served) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("401", r"does not let this key in .*; no key was sent: name its variable in teacher.key"),
        (
            "404",
            r"has no model 'm' \(The model `m` does not exist or you do not have access to it.\); check teacher.model",
        ),
        ("quota", r"the quota of m is used up .* what is paid for is kept"),
        ("quota of the day", r"the quota of m is used up"),
        ("429 for long", r"wants to be left alone for 120 min \(Rate limit reached\); run it again later"),
    ],
)
def test_what_the_user_has_to_mend_stops_the_run_in_one_line(
    fault: str, words: str, pages: Pages, serve: Serve
) -> None:
    server = serve(always(fault))
    with pytest.raises(TeacherError, match=words):
        pages.ask(teacher_at(server))
    assert len(server.served) == 1
    pages.assert_the_ledger_is_right()
    assert all(reply.value for reply in pages.ask(teacher_at(serve()))), "and no page has a strike"


def test_a_server_that_is_not_there_is_said(pages: Pages) -> None:
    with pytest.raises(TeacherError, match=r"127.0.0.1:9/v1: unreachable .*check teacher.url"):
        pages.ask(Teacher(url="http://127.0.0.1:9/v1", model="m", attempts=2))


def test_a_page_that_is_not_an_endpoint_is_said(pages: Pages, serve: Serve) -> None:
    with pytest.raises(TeacherError, match=r"no answer \(no chat completion \(Please sign in\)\); check teacher.url"):
        pages.ask(teacher_at(serve(always("html")), attempts=2))


def test_an_endpoint_that_fails_for_every_page_ends_the_run(pages: Pages, serve: Serve) -> None:
    many = Pages(pages.folder.root, 14)
    pages.truth_of.update(many.truth_of)
    with pytest.raises(TeacherError, match=r"the last \d+ requests all failed \(server error"):
        many.ask(teacher_at(serve(always("500")), attempts=2, concurrency=2))


def test_the_endpoint_is_asked_in_the_way_that_it_takes(pages: Pages, serve: Serve) -> None:
    """OpenAI's newer models refuse max_tokens and a temperature; other servers know no schema."""
    server = serve(
        listed(
            "400: Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            "400: Unsupported value: 'temperature' does not support 0.0 with this model.",
            "400: 'response_format' of type json_schema is not supported",
            "400: response_format json_object is not supported",
        )
    )
    assert all(reply.value for reply in pages.ask(teacher_at(server)))
    body = server.bodies[-1]
    assert body["max_completion_tokens"] == 12_000
    assert not {"max_tokens", "temperature", "response_format"} & body.keys()
    assert "JSON Schema" in body["messages"][0]["content"][1]["text"]
    assert len(server.served) == 7 and sum("is asked without" in line for line in pages.said) == 4


def test_a_bad_request_is_of_its_page(pages: Pages, serve: Serve) -> None:
    server = serve(listed("", "400: image too large"))
    replies = pages.ask(teacher_at(server, concurrency=1))
    assert sorted(reply.problem or "" for reply in replies) == ["", "", "bad request (image too large)"]


def test_equal_pages_are_asked_for_once(pages: Pages, serve: Serve) -> None:
    server = serve()
    [request, *_] = pages.requests()
    twice = [request, type(request)("b.pdf", 9, *list(vars(request).values())[2:])]
    replies = pages.ask(teacher_at(server), twice)
    assert [(reply.request.document, reply.text) for reply in replies] == [
        ("a.pdf", '{"title": "صفحة 1", "number": 1}'),
        ("b.pdf", '{"title": "صفحة 1", "number": 1}'),
    ]
    assert len(server.served) == 1


def test_plain_text_needs_no_schema(pages: Pages, serve: Serve) -> None:
    server = serve(listed("fenced"))
    replies = pages.ask(teacher_at(server), pages.requests("content", None))
    assert [json.loads(reply.text)["number"] for reply in replies] == [1, 2, 3]
    assert "response_format" not in server.bodies[0]
