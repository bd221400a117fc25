"""The client of OpenAI-compatible endpoints: what it sends, and where the key is not."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher, always
from documents.teacher.conftest import Pages
from gemtune.documents.teacher import TeacherError
from gemtune.documents.teacher.chat_completions import chat_completions, usage_of
from gemtune.errors import RecipeError
from gemtune.recipe.document_sections import Teacher

Serve = Callable[..., ScriptedTeacher]
KEY = "live_abcdef0123456789"


def test_a_request_is_one_post_with_the_image_and_the_schema(pages: Pages, serve: Serve) -> None:
    server = serve()
    pages.ask(Teacher(url=server.url + "/", model="m", temperature=0.5, max_tokens=700), pages.requests()[:1])
    [body] = server.bodies
    image, text = body["messages"][0]["content"]
    assert base64.b64decode(image["image_url"]["url"].partition(",")[2]) == pages.images[0].read_bytes()
    assert text == {"type": "text", "text": "Read it."}
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.5, 700)
    there = body["response_format"]["json_schema"]
    assert there["name"] == "fields" and there["strict"] and there["schema"]["required"] == ["title", "number", "note"]


def test_the_key_is_in_the_headers_and_nowhere_else(
    pages: Pages, serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    server = serve(key=KEY)
    teacher = Teacher(url=server.url, model="m", key="A_KEY")
    assert all(reply.value for reply in pages.ask(teacher))
    with chat_completions(teacher) as client:
        shown = "".join(map(repr, (client, vars(client), client.endpoint, vars(client.endpoint))))
    monkeypatch.setenv("A_KEY", KEY[:-1])
    other = Pages(pages.folder.root / "other", 1)
    with pytest.raises(TeacherError, match=r"check \$A_KEY") as caught:
        other.ask(teacher)
    kept = b"".join(path.read_bytes() for path in pages.folder.root.rglob("*") if path.is_file())
    for text in (shown, str(caught.value), repr(caught.value), *capfd.readouterr(), kept.decode("utf-8", "replace")):
        assert KEY[:-1] not in text


def test_openais_own_key_goes_to_no_other_address(pages: Pages, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve()
    pages.ask(Teacher(url=server.url, model="m"))
    assert not any(line.authorization for line in server.served)


def test_a_key_that_is_not_set_is_said_before_anything_is_sent(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(TeacherError, match=r"\$OPENAI_API_KEY is not set: export it"):
        pages.ask(Teacher(model="m"))
    monkeypatch.setenv("OPENAI_API_KEY", "two words")
    with pytest.raises(TeacherError, match=r"\$OPENAI_API_KEY holds no key") as caught:
        pages.ask(Teacher(model="m"))
    assert "two words" not in str(caught.value)
    with pytest.raises(RecipeError, match=r"teacher.model: is missing"):
        pages.ask(Teacher())


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://x/v1", "https://user:pass@x/v1", "https://x/v1?key=abc"])
def test_an_address_that_is_none_or_has_a_key_in_it_is_refused(url: str, pages: Pages) -> None:
    with pytest.raises(RecipeError, match=r"teacher.url: "):
        pages.ask(Teacher(model="m", url=url))


def test_levels_of_structured_output_that_are_named_are_kept(pages: Pages, serve: Serve) -> None:
    server = serve()
    pages.ask(Teacher(url=server.url, model="m", structured="json"), pages.requests()[:1])
    assert server.bodies[0]["response_format"] == {"type": "json_object"}
    assert '"title"' in server.bodies[0]["messages"][0]["content"][1]["text"]
    refused = serve(always("400: response_format json_object is not supported"))
    [reply] = pages.ask(Teacher(url=refused.url, model="m", structured="json"), pages.requests()[1:2])
    assert reply.problem and reply.problem.startswith("bad request (response_format") and len(refused.served) == 1


@pytest.mark.parametrize(
    ("value", "usage"),
    [(None, None), ({"prompt_tokens": 1}, None), ({"prompt_tokens": -1, "completion_tokens": 2}, None)],
)
def test_usage_that_is_not_counted_is_none(value: object, usage: object) -> None:
    assert usage_of(value) is usage
