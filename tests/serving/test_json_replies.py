"""Replies in JSON hold to their schema, whatever the model says by itself: these are random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import openai
import pytest

from gemtune.errors import RequestError
from gemtune.models.loading import load_tokenizer
from gemtune.serving.chat import ResponseFormat
from gemtune.serving.json_replies import JsonReplies
from serving.live import PROMPT, Live

PERSON = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "flags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["mood", "count", "flags"],
    "additionalProperties": False,
}


def schema(value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": value}}


@pytest.fixture(scope="module")
def words(tiny_model: Path) -> JsonReplies:
    return JsonReplies(load_tokenizer(tiny_model), [106, 1])


def test_a_reply_holds_to_its_schema(served: Live) -> None:
    for seed in range(6):
        answer = served.asked(
            PROMPT, "base", temperature=1.5, seed=seed, max_tokens=200, response_format=schema(PERSON)
        )
        assert answer.choices[0].finish_reason == "stop"
        jsonschema_rs.validate(PERSON, json.loads(answer.choices[0].message.content))


@pytest.mark.parametrize("model", ["one", "base"])
def test_a_stream_and_several_choices_hold_to_it(served: Live, model: str) -> None:
    texts = ["", "", ""]
    request = {"n": 3, "temperature": 1.0, "seed": 5, "max_tokens": 200, "response_format": schema(PERSON)}
    for chunk in served.asked(PROMPT, model, stream=True, **request):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    for text in texts:
        jsonschema_rs.validate(PERSON, json.loads(text))
    whole = served.asked(PROMPT, model, **request)
    assert [choice.message.content for choice in whole.choices] == texts


def test_any_object_is_an_object(served: Live) -> None:
    ended = 0
    for seed in range(4):
        request = {"seed": seed, "temperature": 1.0, "max_tokens": 300, "response_format": {"type": "json_object"}}
        (choice,) = served.asked(PROMPT, "base", **request).choices
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
            ended += 1
    assert ended


def test_a_reply_that_is_cut_says_so(served: Live) -> None:
    (choice,) = served.asked(PROMPT, "base", max_tokens=4, response_format=schema(PERSON)).choices
    assert choice.finish_reason == "length"


@pytest.mark.parametrize(
    "value",
    [
        {"type": "objekt"},
        {"not": {"type": "string"}},
        {"type": "array", "uniqueItems": True},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"type": "string", "format": "of-my-own"},
        {"type": "string", "pattern": "(?<=a)b"},
    ],
)
def test_a_schema_that_cannot_be_held_to_whole_is_refused(served: Live, value: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="this schema cannot be held to") as error:
        served.said(PROMPT, response_format=schema(value))
    assert error.value.param == "response_format"


def test_a_schema_that_is_too_much_work_ends_nothing(served: Live) -> None:
    value: dict[str, Any] = {"type": "string", "pattern": "(a|b|ab)*c{1,60000}" * 2_000}
    with pytest.raises(openai.BadRequestError, match="response_format: "):
        served.said(PROMPT, response_format=schema(value), max_tokens=20)
    assert served.said(PROMPT)


def test_a_reply_is_read_again_by_another_reader(words: JsonReplies) -> None:
    wanted = ResponseFormat.model_validate(schema(PERSON))
    words.check(wanted, '{"mood": "good", "count": 3, "flags": []}')
    for text in (
        '{"mood": "good"}',
        '{"mood": "good", "count": 3',
        "good",
        '{"mood": "good", "count": -1, "flags": []}',
    ):
        with pytest.raises(RequestError, match="the reply is") as error:
            words.check(wanted, text)
        assert error.value.status == 500


def test_words_that_the_head_has_beyond_the_tokenizer_never_come(words: JsonReplies) -> None:
    import torch

    grammar = words.grammar(ResponseFormat.model_validate(schema(PERSON)))
    assert grammar
    count = len(words._tokenizer)
    for width in (count, count + 7, count - 7):
        masked = grammar.mask(torch.zeros(1, width))[0]
        assert masked.shape == (width,) and not torch.isfinite(masked[count:]).any() and torch.isfinite(masked).any()


def test_plain_text_has_no_grammar(words: JsonReplies) -> None:
    assert words.grammar(ResponseFormat(type="text")) is None
