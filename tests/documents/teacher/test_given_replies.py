"""Replies from files: hand labels, and what another run was answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from documents.teacher.conftest import Pages
from gemtune.errors import DataError, RecipeError
from gemtune.recipe.document_sections import Teacher


def test_a_jsonl_holds_text_or_objects(tmp_path: Path, pages: Pages) -> None:
    lines = [
        {"document": "a.pdf", "page": 1, "task": "fields", "reply": {"number": 1, "title": "نعم"}},
        {"document": "a.pdf", "page": 2, "task": "fields", "reply": '```json\n{"title": "x", "number": 2}\n```'},
        {"document": "a.pdf", "page": 3, "task": "content", "reply": "another task"},
    ]
    path = tmp_path / "replies.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n", encoding="utf-8")
    first, second, third = pages.ask(Teacher(provider="files", replies=str(path)))
    assert first.text == '{"title": "نعم", "number": 1}' and second.value == {"title": "x", "number": 2}
    assert third.problem == f"no reply to it in {path}"
    assert not pages.folder.ledger_file.exists()


def test_a_folder_holds_a_file_per_page_and_task(tmp_path: Path, pages: Pages) -> None:
    folder = tmp_path / "labels" / "a.pdf"
    folder.mkdir(parents=True)
    (folder / "1.content.md").write_text("# عنوان\n", encoding="utf-8")
    (folder / "2.content.txt").write_text("\ufeffplain", encoding="utf-8")
    replies = pages.ask(Teacher(provider="files", replies=str(folder.parent)), pages.requests("content", None))
    assert [reply.text for reply in replies] == ["# عنوان", "plain", ""]
    (folder / "1.fields.json").write_text('{"title": 1, "number": 1}', encoding="utf-8")
    [reply, *_] = pages.ask(Teacher(provider="files", replies=str(folder.parent)))
    assert reply.problem == '/title: 1 is not of type "string"'


@pytest.mark.parametrize("line", ["rubbish", "[1]", '{"document": "a.pdf", "page": "1", "task": "t", "reply": ""}'])
def test_a_line_that_is_none_is_named(line: str, tmp_path: Path, pages: Pages) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"replies.jsonl:2: wanted an object with document, page, task and reply"):
        pages.ask(Teacher(provider="files", replies=str(path)))


def test_a_file_that_is_missing_is_said(pages: Pages) -> None:
    with pytest.raises(DataError, match=r"no.jsonl: No such file"):
        pages.ask(Teacher(provider="files", replies="no.jsonl"))
    with pytest.raises(RecipeError, match=r"teacher.replies: is missing"):
        pages.ask(Teacher(provider="files"))
