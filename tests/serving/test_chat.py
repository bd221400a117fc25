"""What a request may say, and the conversation that it asks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gemtune.data.conversation import Conversation, Message, Part
from gemtune.errors import RequestError
from gemtune.serving.chat import Turn, conversation_of, parsed

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def test_what_clients_always_send_is_taken() -> None:
    request = parsed(body(presence_penalty=0, frequency_penalty=0.0, stop=None, user=None, temperature=1))
    assert (request.stop, request.temperature, request.limit) == ([], 1.0, None)
    assert parsed(body(stop="a")).stop == ["a"]
    assert parsed(body(max_tokens=3, max_completion_tokens=3)).limit == 3


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'system', 'developer', 'user'"),
        ({"messages": [{"role": "user", "content": "x", "name": "bob"}]}, "messages.0.name", "unknown or unsupported"),
        (
            {"messages": [{"role": "user", "content": [IMAGE, {"type": "text"}]}]},
            "messages.0.content.1.text",
            "missing",
        ),
        ({"model": None}, "model", "missing; this server needs it"),
        ({"stop": list("abcde")}, "stop", "at most 4 items"),
        ({"stop": ""}, "stop.0", "at least 1 character"),
        ({"stream": "yes"}, "stream", "wanted a valid boolean, found 'yes'"),
        ({"presence_penalty": 0.5}, "presence_penalty", "wanted less than or equal to 0"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "wanted json_schema with type json_schema"),
        ({"response_format": {"type": "json_object"}, "stop": "}"}, None, "could end inside its JSON"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, None, "differ; give one of them"),
        ({"top_logprobs": 2}, None, "top_logprobs needs logprobs: true"),
        ({"seed": 2**70}, "seed", "wanted less than"),
        ({"temperature": float("nan")}, "temperature", "nan"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str | None, words: str) -> None:
    with pytest.raises(RequestError) as error:
        parsed(body(**fields))
    assert words in str(error.value) and error.value.field == field and error.value.status == 400


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"a":' * 100_000, b"\xff", body()[:-1] + b', "seed": 1e999}'])
def test_a_body_that_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(RequestError):
        parsed(text)


def emoji(prompt: str) -> Conversation:
    """As a task asks that puts words of its own around a prompt."""
    messages = (
        Message.of("system", "Translate."),
        Message.of("user", f"Say {prompt.strip()}"),
        Message.of("assistant", "?"),
    )
    return Conversation(messages, "emoji", key=prompt, group=prompt, where="prompt")


def plain(prompt: str) -> Conversation:
    return Conversation(
        (Message.of("user", prompt), Message.of("assistant", "")), "m", key="", group="", where="prompt"
    )


def turns(*messages: dict[str, Any]) -> list[Turn]:
    return [Turn.model_validate(message) for message in messages]


def test_one_user_message_is_asked_in_the_words_of_the_task() -> None:
    (system, question, _) = conversation_of(turns({"role": "user", "content": "hi"}), emoji).messages
    assert (system.text, question.text) == ("Translate.", "Say hi")


def test_any_other_conversation_is_asked_as_it_stands() -> None:
    messages = [{"role": "developer", "content": "In emoji."}, {"role": "user", "content": "hi"}]
    asked = conversation_of(turns(*messages), emoji).messages
    assert [(message.role, message.text) for message in asked[:-1]] == [("system", "In emoji."), ("user", "hi")]


def test_pictures_stay_between_words_unless_the_task_has_words_of_its_own() -> None:
    content = [{"type": "text", "text": "this "}, IMAGE, {"type": "text", "text": "is what?"}]
    asked = turns({"role": "user", "content": content})
    picture = Part(image="data:image/png;base64,AAAA")
    assert conversation_of(asked, plain).messages[0].parts == (Part("this "), picture, Part("is what?"))
    assert conversation_of(asked, emoji).messages[1].parts == (picture, Part("Say this is what?"))
