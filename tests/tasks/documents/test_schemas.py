"""The built-in schemas: valid, and in the form that the strictest endpoint takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gemtune.files import JsonObject
from gemtune.tasks.documents.replies import schema_fault
from gemtune.tasks.documents.schemas import SCHEMAS

TAKEN = {
    *("type", "description", "properties", "required", "additionalProperties"),
    *("items", "enum", "format", "minimum", "maximum"),
}


def parts(schema: JsonObject) -> Iterator[JsonObject]:
    yield schema
    for below in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from parts(below)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_object_has_all_its_fields_and_no_others(name: str) -> None:
    assert schema_fault(SCHEMAS[name]) is None
    for part in parts(SCHEMAS[name]):
        assert part.keys() <= TAKEN
        if part["type"] == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
