"""Replies read: whole, fenced, in prose, cut, of odd JSON; and held against a schema."""

from __future__ import annotations

import json

import pytest

from gemtune.files import JsonObject
from gemtune.tasks.documents.replies import MOST_DEPTH, is_of_schema, page_markdown, read_reply, schema_fault
from gemtune.tasks.documents.schemas import SCHEMAS

PAGE: JsonObject = {
    "elements": [{"type": "title", "markdown": "# عنوان"}, {"type": "paragraph", "markdown": 'نص "ما"'}]
}
WHOLE = json.dumps(PAGE, ensure_ascii=False)


@pytest.mark.parametrize("text", [WHOLE, json.dumps(PAGE), f"```json\n{WHOLE}\n```", f"Here it is:\n{WHOLE}\nDone."])
def test_a_page_is_read_out_of_what_is_around_it(text: str) -> None:
    reply = read_reply(text)
    assert reply.value == PAGE
    assert reply.is_json == text.startswith("{")
    assert page_markdown(reply) == '# عنوان\n\nنص "ما"'


def test_of_a_cut_page_what_there_is_counts() -> None:
    for end in range(len(WHOLE) - 1):
        reply = read_reply(WHOLE[:end])
        assert not reply.is_json and reply.value is None
        assert "type" not in page_markdown(reply) or end < WHOLE.index("عنوان")
    assert page_markdown(read_reply(WHOLE[:-6])) == '# عنوان\n\nنص "ما'


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("plain text", "plain text"),
        ("```markdown\n# A\n```", "# A"),
        ('"a text"', "a text"),
        ("12", "12"),
        ("null", "null"),
        ("[]", ""),
        ('["a", ["b"]]', "a\n\nb"),
        ('{"markdown": "# A"}', "# A"),
        ('{"title": "A", "body": {"text": "B"}}', "A\n\nB"),
        ('{"elements": [null, 3, "a", {"type": "x"}, {"type": "t", "text": "b"}, ["c"]]}', "a\n\nb\n\nc"),
        ('{"elements": "a"}', "a"),
        ("", ""),
    ],
)
def test_json_of_another_form_is_its_texts(text: str, markdown: str) -> None:
    assert page_markdown(read_reply(text)) == markdown


@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 900, 200_000])
def test_a_value_that_is_nested_too_deep_has_none(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        reply = read_reply(text)
        assert reply.value is None
        assert isinstance(page_markdown(reply), str)


@pytest.mark.parametrize("text", ["{}", "NaN", "1e999", "9" * 5_000, "[NaN]", '{"a": Infinity}', '"\\ud800"', "\x00"])
def test_odd_values_are_read_and_held_against_a_schema(text: str) -> None:
    reply = read_reply(text)
    assert not is_of_schema(reply.value, SCHEMAS["content"])
    assert isinstance(page_markdown(reply), str)


def test_a_schema_is_checked_with_its_formats() -> None:
    assert is_of_schema(PAGE, SCHEMAS["content"])
    assert not is_of_schema({**PAGE, "more": 1}, SCHEMAS["content"])
    dated = {"properties": {"on": {"type": "string", "format": "date"}}}
    assert is_of_schema({"on": "2024-03-05"}, dated) and not is_of_schema({"on": "05/03/2024"}, dated)


def test_what_is_wrong_with_a_schema_is_one_line() -> None:
    assert schema_fault({"type": "object"}) is None
    fault = schema_fault({"type": "objekt"})
    assert fault is not None and "objekt" in fault and "\n" not in fault
