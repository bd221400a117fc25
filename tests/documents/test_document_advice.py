"""What a message about documents says to do next is done, and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gemtune.documents.asked_pages import AskedPages
from gemtune.documents.personal_data.names import known_names
from gemtune.documents.personal_data.user_patterns import UserPatterns
from gemtune.documents.teacher.endpoints import check_address
from gemtune.documents.teacher.given_replies import given_replies
from gemtune.errors import GemtuneError
from gemtune.recipe.document_sections import Documents, Pages
from gemtune.recipe.schema import Recipe
from gemtune.tasks import task_of
from gemtune.tasks.documents import page_tasks
from made_pdfs import LINES, make_pdf

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}}
ROW = {"image": "a.png", "prompt": "Read.", "answer": "words"}
LINE = {"document": "a.pdf", "page": 1, "task": "content", "reply": "words"}

Work = Callable[[Path], object]


def tasks(*names: str, **prompts: dict[str, str]) -> Work:
    return lambda folder: page_tasks(Documents(tasks=[str(folder / n) if "." in n else n for n in names], **prompts))


def row(**changed: object) -> Work:
    recipe = Recipe.model_validate({"name": "d", "task": "documents", "data": [{"source": "rows.jsonl"}]})
    return lambda folder: task_of(recipe).conversation({**ROW, **changed}, "rows.jsonl:1")


def pattern(words: str) -> Work:
    def search(folder: Path) -> object:
        with UserPatterns({"case": words}, seconds=1.0) as patterns:
            return list(patterns.find(["a" * 60 + "b"]))

    return search


def replies(line: object) -> Work:
    def read(folder: Path) -> object:
        (folder / "replies.jsonl").write_text(json.dumps(line), encoding="utf-8")
        return given_replies(folder / "replies.jsonl")

    return read


def names(data: bytes) -> Work:
    def read(folder: Path) -> object:
        (folder / "names.txt").write_bytes(data)
        return known_names(folder / "names.txt")

    return read


def page(number: int | None, pages: int = 2) -> Work:
    def see(folder: Path) -> object:
        document = make_pdf(folder / "a.pdf", *([LINES[:2]] * pages))
        return AskedPages(Pages(source="a.pdf", dpi=40, least_side=0), number)(document.read_bytes())

    return see


# What is wrong, what is said of it, and what it says to do.
MOVES: dict[str, tuple[Work, str, Work]] = {
    "a list of names that is empty": (
        names(b" "),
        " has 0 names; wanted 1 to 5,000, one a line",
        names(b"Mona Adel\n"),
    ),
    "a list of names in UTF-16": (
        names("Ali".encode("utf-16")),
        "; save it as UTF-8",
        names(b"Ali"),
    ),
    "one page of several": (
        page(None),
        "it has 2 pages, wanted one; add --page N, or give that page alone",
        page(2),
    ),
    "that page alone": (page(None), "or give that page alone", page(None, pages=1)),
    "a page that is not there": (page(3), "found no page 3: it has 2; give another --page", page(1)),
    "a task that is almost one": (
        tasks("contents"),
        "documents.tasks: unknown page task 'contents'; did you mean 'content'?",
        tasks("content"),
    ),
    "a task that is none": (
        tasks("xyz"),
        "wanted content, fields, or a file with a JSON Schema, such as invoice.json",
        tasks("good.json"),
    ),
    "one task twice": (
        tasks("good.json", "other/good.json"),
        "documents.tasks: 'good' is there twice; rename one file, or leave one out",
        tasks("good.json", "other/better.json"),
    ),
    "an empty prompt": (
        tasks("content", prompts={"content": " "}),
        "documents.prompts.content is empty; write a prompt, or remove the key",
        tasks("content", prompts={"content": "Read."}),
    ),
    "no file": (tasks("gone.json"), "; wanted a file with a JSON Schema", tasks("good.json")),
    "no JSON": (tasks("text.json"), "); wanted a JSON Schema", tasks("good.json")),
    "a schema of a list": (
        tasks("list.json"),
        'wanted a JSON Schema of an object, {"type": "object", "properties": {...}}; found',
        tasks("good.json"),
    ),
    "a schema that is none": (tasks("wrong.json"), "not a JSON Schema: ", tasks("good.json")),
    "a row without a prompt": (
        row(prompt=" "),
        "column 'prompt' is empty; wanted what is asked about the page",
        row(prompt="Read."),
    ),
    "a row with a list for a schema": (
        row(schema="[1]"),
        "column 'schema' holds [1]; wanted a JSON Schema",
        row(schema=json.dumps(SCHEMA)),
    ),
    "an address without a scheme": (
        lambda folder: check_address("localhost:8000"),
        "teacher.url: wanted an address such as http://localhost:8000/v1, found 'localhost:8000'",
        lambda folder: check_address("http://localhost:8000/v1"),
    ),
    "a pattern for ever": (
        pattern("(a+)+$"),
        "; write it without repeats inside repeats, as in (a+)+",
        pattern("a+$"),
    ),
    "a line that is no reply": (
        replies([1]),
        ":1: wanted an object with document, page, task and reply, found '[1]'; mend it",
        replies(LINE),
    ),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of schemas, good and bad."""
    (tmp_path / "other").mkdir()
    for name in ("good", "other/good", "other/better"):
        (tmp_path / f"{name}.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    (tmp_path / "text.json").write_text("total: number", encoding="utf-8")
    (tmp_path / "list.json").write_text('{"type": "array"}', encoding="utf-8")
    (tmp_path / "wrong.json").write_text('{"type": "object", "properties": {"a": {"type": 5}}}', encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("what", MOVES)
def test_the_move_is_taken(what: str, place: Path) -> None:
    wrong, words, right = MOVES[what]
    with pytest.raises(GemtuneError) as error:
        wrong(place)
    assert words in str(error.value)
    right(place)
