"""How an endpoint is told a schema, and a key that does not show."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemtune.documents.teacher import Request
from gemtune.documents.teacher.endpoints import Hidden, easier_level, first_level, prompt_of
from gemtune.recipe.document_sections import Teacher


def test_a_level_that_is_named_is_kept() -> None:
    said = "response_format: json_schema is not supported"
    assert first_level(Teacher()) == "schema" and first_level(Teacher(structured="none")) == "none"
    assert [easier_level(level, said, Teacher()) for level in ("schema", "json", "none")] == ["json", "none", None]
    assert easier_level("schema", said, Teacher(structured="schema")) is None
    assert easier_level("schema", "image too large", Teacher()) is None


@pytest.mark.parametrize(("level", "is_told"), [("schema", False), ("json", True), ("none", True)])
def test_a_schema_that_the_endpoint_does_not_take_is_in_the_prompt(level: str, is_told: bool) -> None:
    request = Request("a.pdf", 1, "fields", 0, Path("x.png"), "Read it.", {"title": "عقد"})
    prompt = prompt_of(request, level)  # type: ignore[arg-type]
    assert prompt.startswith("Read it.") and ('{"title": "عقد"}' in prompt) is is_told


def test_a_hidden_value_does_not_show() -> None:
    hidden = Hidden("secret")
    assert "secret" not in f"{hidden} {hidden!r} {[hidden]}" and not hasattr(hidden, "__dict__")
