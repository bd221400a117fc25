"""Gemini through Google's own client, against a loopback server: one POST a request, whatever comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher, always, listed
from documents.teacher.conftest import Pages
from gemtune.documents.teacher import Ledger, TeacherError
from gemtune.recipe.document_sections import Teacher

pytest.importorskip("google.genai", reason="the extra gemini is not installed")

Serve = Callable[..., ScriptedTeacher]
KEY = "AIza-test-0123456789abcdef"


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Teacher]:
    monkeypatch.setenv("A_KEY", KEY)

    def at(server: ScriptedTeacher, **keys: Any) -> Teacher:
        return Teacher(provider="gemini", url=server.address, model="gemini-x", key="A_KEY", **keys)

    return at


@pytest.mark.parametrize(
    "fault", ["", "429", "429 in the body", "500", "dropped", "half", "html", "wrong", "escaped", "fenced", "thinking"]
)
def test_a_fault_is_got_over(fault: str, pages: Pages, serve: Serve, teacher: Callable[..., Teacher]) -> None:
    server = serve(listed(fault), key=KEY)
    replies = pages.ask(teacher(server))
    assert [reply.text for reply in replies] == [f'{{"title": "صفحة {n}", "number": {n}}}' for n in (1, 2, 3)]
    assert len(server.served) == 3 + (fault not in ("", "escaped", "fenced", "thinking")), "its retries are off"
    pages.assert_the_ledger_is_right()


def test_what_is_sent(pages: Pages, serve: Serve, teacher: Callable[..., Teacher]) -> None:
    server = serve()
    pages.ask(teacher(server, max_tokens=700, temperature=0.5), pages.requests()[:1])
    [body] = server.bodies
    config = body["generationConfig"]
    assert (config["maxOutputTokens"], config["temperature"]) == (700, 0.5)
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"]["required"] == ["title", "number"]
    assert config["thinkingConfig"] == {"thinking_level": "LOW"} or config["thinkingConfig"] == {"thinkingLevel": "LOW"}
    assert server.served[0].id in Ledger(pages.folder.ledger_file).intents


def test_thinking_is_counted_as_output(pages: Pages, serve: Serve, teacher: Callable[..., Teacher]) -> None:
    [reply] = pages.ask(teacher(serve(always("thinking"))), pages.requests()[:1])
    assert reply.usage.thinking == 50 and reply.usage.output > 50 and "Let me see" not in reply.text
    pages.assert_the_ledger_is_right()


@pytest.mark.parametrize(
    ("fault", "problem", "requests"),
    [
        ("cut", "cut at 900 tokens; raise teacher.max_tokens", 1),
        ("refused", "refused (PROHIBITED_CONTENT)", 2),
        ("filtered", "refused (RECITATION)", 2),
    ],
)
def test_its_ends_are_known(
    fault: str, problem: str, requests: int, pages: Pages, serve: Serve, teacher: Callable[..., Teacher]
) -> None:
    server = serve(always(fault))
    [reply] = pages.ask(teacher(server, max_tokens=900), pages.requests()[:1])
    assert reply.problem == problem and len(server.served) == requests
    pages.assert_the_ledger_is_right()


def test_a_slow_reply_is_not_bought_three_times(pages: Pages, serve: Serve, teacher: Callable[..., Teacher]) -> None:
    server = serve(always("slow"), slow=5.0)
    [reply] = pages.ask(teacher(server, timeout=0.3), pages.requests()[:1])
    assert reply.problem and reply.problem.startswith("timeout") and len(server.served) == 2
    pages.assert_the_ledger_is_right()


def test_a_model_that_takes_no_thinking_level_or_schema_is_asked_without(
    pages: Pages, serve: Serve, teacher: Callable[..., Teacher]
) -> None:
    server = serve(
        listed("400: Thinking level is not supported for this model.", "400: response_json_schema is too complex")
    )
    assert all(reply.value for reply in pages.ask(teacher(server)))
    config = server.bodies[-1]["generationConfig"]
    assert "thinkingConfig" not in config and "responseJsonSchema" not in config
    assert config["responseMimeType"] == "application/json"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("quota of the day", "the quota of gemini-x is used up"),
        ("400: API key not valid. API_KEY_INVALID", r"does not let this key in .* check \$A_KEY"),
        ("404", "has no model 'gemini-x'"),
        ("401", r"check \$A_KEY"),
    ],
)
def test_what_the_user_has_to_mend_is_one_line(
    fault: str, words: str, pages: Pages, serve: Serve, teacher: Callable[..., Teacher]
) -> None:
    server = serve(always(fault))
    with pytest.raises(TeacherError, match=words) as caught:
        pages.ask(teacher(server))
    assert len(server.served) == 1 and KEY not in str(caught.value)
    kept = b"".join(path.read_bytes() for path in pages.folder.root.rglob("*") if path.is_file())
    assert KEY.encode() not in kept


def test_a_server_that_is_not_there_is_said(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TeacherError, match=r"127.0.0.1:9: unreachable"):
        pages.ask(Teacher(provider="gemini", url="http://127.0.0.1:9", model="g", attempts=2))
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    with pytest.raises(TeacherError, match=r"\$GEMINI_API_KEY is not set"):
        pages.ask(Teacher(provider="gemini", model="g"))
