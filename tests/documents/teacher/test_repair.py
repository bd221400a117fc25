"""What is mended in a teacher's words, and what is not."""

from __future__ import annotations

import json

import pytest

from documents.teacher.conftest import SCHEMA
from gemtune.documents.teacher.repair import faults_of, read_reply, validator
from gemtune.errors import RecipeError
from gemtune.files import JsonObject

TEXT: JsonObject = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "n": {"type": ["integer", "string"]}},
    "required": ["text"],
}


@pytest.mark.parametrize(
    ("words", "text", "repairs"),
    [
        ('{"text": "نعم"}', '{"text": "نعم"}', ()),
        ('{"text": "\\u0646\\u0639\\u0645"}', '{"text": "نعم"}', ()),
        ('```json\n{"text": "نعم"}\n```', '{"text": "نعم"}', ("fence",)),
        ('<think>{"text": "x"}?</think>{"text": "نعم"}', '{"text": "نعم"}', ("thought",)),
        ('{"text": "a\nb"}', '{"text": "a\\nb"}', ("line ends in strings",)),
        ('{"text": "نعم",}', '{"text": "نعم"}', ("broken JSON",)),
        ("{'text': 'نعم'}", '{"text": "نعم"}', ("broken JSON",)),
        ('Here it is: {"text": "نعم"} I hope it helps.', '{"text": "نعم"}', ("broken JSON",)),
        ('{"text": "قال "نعم" ثم مضى"}', '{"text": "قال \\"نعم\\" ثم مضى"}', ("broken JSON",)),
        ('{"n": 1, "text": "x"}', '{"text": "x", "n": 1}', ()),
        ('{"text": "x", "n": null}', '{"text": "x"}', ("null left out",)),
    ],
)
def test_small_faults_are_mended_and_named(words: str, text: str, repairs: tuple[str, ...]) -> None:
    reading = read_reply(words, TEXT)
    assert (reading.text, reading.repairs, reading.faults) == (text, repairs, ())
    assert reading.value == json.loads(text)


@pytest.mark.parametrize(
    "words",
    [
        '{"text": "the page begins and',  # cut
        '{"text": "the page", "n": {"a": 1}',
        '{"text": "a", "n": ١٢٣}',  # json_repair makes an empty string of it
        '{"text": "a", "n": 00123}',  # ... 123
        '{"text": "a"}{"text": "b"}',  # ... a list
        "I cannot read this page.",  # ... an empty string
        '{"text": "a", "text": "b"}',
        '{"text": "half \\ud83d"}',
        '{"text": "nul \\u0000"}',
        "[1, 2]",
        "",
        "[" * 100_000,
    ],
)
def test_what_could_lose_text_is_not_mended(words: str) -> None:
    reading = read_reply(words, TEXT)
    assert reading.value is None and reading.text == "" and reading.faults


def test_nan_is_no_number() -> None:
    assert "NaN is no number of JSON" in read_reply('{"title": "a", "number": NaN}', SCHEMA).faults[0]


def test_what_is_wrong_is_said_by_its_place() -> None:
    reading = read_reply('{"title": 1, "number": "x", "more": 1}', SCHEMA)
    assert len(reading.faults) == 3
    assert '/title: 1 is not of type "string"' in reading.faults
    many: JsonObject = {"type": "array", "items": {"type": "string"}}
    assert len(list(faults_of([1] * 50, many))) == 11


def test_plain_text_is_taken_out_of_its_fence() -> None:
    assert read_reply("```markdown\n# نعم\n```", None).text == "# نعم"
    assert read_reply("# a\n```\ncode\n```\nb", None).text == "# a\n```\ncode\n```\nb"
    assert read_reply("<think>hm</think>\n\n# نعم", None).text == "# نعم"
    assert read_reply("  \n", None).faults == ("it is empty",)


def test_a_schema_that_is_none_is_said() -> None:
    with pytest.raises(RecipeError, match="no valid JSON Schema"):
        validator('{"type": "objekt"}')
    with pytest.raises(RecipeError, match="no address is opened"):
        validator('{"$ref": "http://elsewhere/schema.json"}')
