"""Schemas as endpoints take them, and values in a schema's order."""

from __future__ import annotations

import copy

import pytest

from gemtune.documents.teacher.repair import faults_of
from gemtune.documents.teacher.schemas import GEMINI, OPENAI, converted, in_schema_order, without_nulls
from gemtune.files import JsonObject

INVOICE: JsonObject = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "bank": {"type": "string", "minLength": 1},
        "kind": {"enum": ["a", "b"], "type": "string"},
        "rows": {"type": "array", "items": {"$ref": "#/$defs/row"}},
        "parent": {"anyOf": [{"$ref": "#/$defs/row"}, {"type": "null"}]},
        "always": {"const": 1},
    },
    "required": ["bank"],
    "$defs": {
        "row": {
            "type": "object",
            "properties": {"date": {"type": "string", "format": "date"}, "amount": {"type": "number", "minimum": 0}},
        }
    },
}


def test_openai_gets_every_property_required_and_no_other() -> None:
    before = copy.deepcopy(INVOICE)
    there = converted(INVOICE, OPENAI)
    assert before == INVOICE and there.strict
    assert there.schema["required"] == list(INVOICE["properties"])
    assert there.schema["properties"]["bank"] == {"type": "string"}
    assert there.schema["properties"]["kind"] == {"enum": ["a", "b", None], "type": ["string", "null"]}
    assert there.schema["properties"]["parent"] == INVOICE["properties"]["parent"]
    row = there.schema["$defs"]["row"]
    assert row["required"] == ["date", "amount"] and row["additionalProperties"] is False
    assert row["properties"]["amount"] == {"type": ["number", "null"], "minimum": 0}
    assert "/bank: minLength left out" in there.changes
    assert "/$defs/row/amount: may be left out, so null is allowed" in there.changes


def test_a_strict_reply_fits_the_source_again() -> None:
    """All that is null because strict mode asks for it is left out; what null means something stays."""
    reply = {"bank": "x", "kind": None, "rows": [{"date": None, "amount": 2}], "parent": None, "always": None}
    assert list(faults_of(reply, converted(INVOICE, OPENAI).schema)) == []
    kept = without_nulls(reply, INVOICE)
    assert kept == {"bank": "x", "rows": [{"amount": 2}], "parent": None}
    assert list(faults_of(kept, INVOICE)) == []


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "object", "additionalProperties": {"type": "string"}}, "/ is an object with names of its own"),
        ({"type": "object", "properties": {"a": {"allOf": [{}, {}]}}}, "/a has allOf"),
        ({"type": "array"}, "it is no object at its root"),
        ({"type": "object", "properties": {"a": True}}, "/a allows anything"),
    ],
)
def test_a_schema_that_cannot_be_strict_stays_and_says_why(schema: JsonObject, why: str) -> None:
    there = converted(schema, OPENAI)
    assert there.schema == schema and not there.strict and f"not strict: {why}" in there.changes


def test_eleven_levels_are_too_many_for_openai() -> None:
    schema: JsonObject = {"type": "string"}
    for _ in range(11):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    assert not converted(schema, OPENAI).strict
    assert converted(schema["properties"]["a"], OPENAI).strict


def test_gemini_keeps_what_it_knows() -> None:
    there = converted(INVOICE, GEMINI)
    assert there.schema["properties"]["always"] == {"enum": [1]} and there.schema["required"] == ["bank"]
    assert there.changes == ("/bank: minLength left out",)
    assert not {"pattern", "const", "minLength", "$schema"} & set(str(there.schema).split("'"))


def test_order_goes_through_references_branches_and_lists() -> None:
    value = {"always": 1, "parent": {"amount": 1, "date": "d"}, "rows": [{"amount": 1, "date": "d"}], "bank": "x"}
    ordered = in_schema_order(value, INVOICE)
    assert ordered == value and list(ordered) == ["bank", "rows", "parent", "always"]
    assert list(ordered["rows"][0]) == list(ordered["parent"]) == ["date", "amount"]


def test_a_schema_of_itself_ends() -> None:
    tree: JsonObject = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "sub": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    }
    value = {"sub": [{"sub": [], "name": "b"}], "name": "a"}
    assert list(in_schema_order(value, tree)["sub"][0]) == ["name", "sub"]
    assert without_nulls({"name": "a", "sub": None}, tree) == {"name": "a"}
    assert converted(tree, OPENAI).strict
    circle: JsonObject = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}
    assert in_schema_order({"x": 1}, circle) == {"x": 1}
