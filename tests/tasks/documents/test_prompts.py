"""Prompts that are made from a schema."""

from __future__ import annotations

from gemtune.tasks.documents.prompts import MOST_NAMES, STUDENT, TEACHER, asking_for
from gemtune.tasks.documents.schemas import SCHEMAS


def test_the_built_in_prompts_name_what_their_schemas_have() -> None:
    for name in SCHEMAS["fields"]["properties"]:
        assert name in STUDENT["fields"]
    for kind in SCHEMAS["content"]["properties"]["elements"]["items"]["properties"]["type"]["enum"]:
        assert kind in TEACHER["content"]


def test_a_schema_of_many_fields_makes_a_short_prompt_short() -> None:
    fields = {f"f{number}": {"type": "string"} for number in range(500)}
    short = asking_for("census", {"properties": fields})
    assert short.count(",") == MOST_NAMES and short.endswith("f39, and the rest.")
    assert "- f499" in asking_for("census", {"properties": fields}, is_long=True)


def test_odd_but_valid_schemas_make_prompts() -> None:
    odd = {"properties": {"a": True, "b": {"items": False}, "c": {"description": 3}}}
    assert asking_for("x", odd, is_long=True).endswith("- b\n- c")
