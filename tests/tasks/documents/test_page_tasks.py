"""What is asked of a page: the built-in tasks, a schema of the user's own, and what is wrong with either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemtune.errors import RecipeError
from gemtune.recipe.document_sections import Documents
from gemtune.tasks.documents import page_tasks

INVOICE = {
    "type": "object",
    "title": "invoice",
    "description": "Amounts as printed.",
    "properties": {
        "number": {"type": "string", "description": "of the invoice"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}},
    },
}


def schema_file(folder: Path, content: object, name: str = "invoice.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def refused(**options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        page_tasks(Documents(**options))
    return str(caught.value)


def test_the_teacher_is_told_the_schema_and_the_student_is_not() -> None:
    for task in page_tasks(Documents()):
        assert json.dumps(task.schema) in task.teacher_prompt
        assert len(task.student_prompt) < 200 and "JSON" in task.student_prompt


def test_a_file_is_a_page_task_of_its_name_with_prompts_from_its_schema(tmp_path: Path) -> None:
    content, invoice = page_tasks(Documents(tasks=["content", schema_file(tmp_path, INVOICE, "bank_invoice.json")]))
    assert (content.name, invoice.name, invoice.schema) == ("content", "bank_invoice", INVOICE)
    assert invoice.student_prompt == "Read this page. Answer with its invoice as JSON: number, lines."
    for words in ("Amounts as printed.", "- number: of the invoice", "  - price", "Do not translate"):
        assert words in invoice.teacher_prompt


def test_prompts_of_the_recipe_take_the_place_of_ours(tmp_path: Path) -> None:
    [task] = page_tasks(
        Documents(
            tasks=[schema_file(tmp_path, INVOICE)], prompts={"invoice": "Read."}, teacher_prompts={"invoice": "Look."}
        )
    )
    assert task.student_prompt == "Read."
    assert task.teacher_prompt.startswith("Look.\n") and json.dumps(INVOICE) in task.teacher_prompt


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "found [1]"),
        ("null", "found None"),
        ({"type": "array"}, "wanted a JSON Schema of an object"),
        ({"type": "object", "properties": {}}, "wanted a JSON Schema of an object"),
        ({"type": "object", "properties": {"a": {"type": "txt"}}}, "txt"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}, "$defs/b"),
        ({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/b"}}}, "refers only to itself"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "regex"),
        ({"type": "object", "properties": {"a": {"description": "x" * 300_000}}}, "at most 200,000"),
    ],
)
def test_a_bad_schema_is_one_line_that_names_its_file(tmp_path: Path, content: object, words: str) -> None:
    line = refused(tasks=[schema_file(tmp_path, content)])
    assert words in line and "invoice.json" in line and "\n" not in line


def test_wrong_names_are_told_with_the_right_ones(tmp_path: Path) -> None:
    assert "did you mean 'content'?" in refused(tasks=["contents"])
    assert "No such file" in refused(tasks=[str(tmp_path / "gone.json")])
    assert "is there twice" in refused(tasks=["fields", schema_file(tmp_path, INVOICE, "fields.json")])
    assert "no page task is called 'feilds'; did you mean 'fields'?" in refused(prompts={"feilds": "x"})
    assert "documents.prompts.fields is empty" in refused(prompts={"fields": " "})
