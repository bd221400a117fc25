"""What is asked of a page: a name, a JSON Schema, the teacher's prompt and the student's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gemtune.errors import RecipeError, did_you_mean, shown
from gemtune.files import JsonObject
from gemtune.recipe.document_sections import Documents
from gemtune.tasks.documents.prompts import STUDENT, TEACHER, WITH_SCHEMA, asking_for
from gemtune.tasks.documents.replies import schema_fault
from gemtune.tasks.documents.schemas import SCHEMAS

FILE = ".json"
MOST_SCHEMA = 200_000  # characters: it is part of every request


@dataclass(frozen=True)
class PageTask:
    """A page task. The teacher's prompt has the schema in it, for endpoints that take none apart."""

    name: str
    schema: JsonObject
    teacher_prompt: str
    student_prompt: str


def page_tasks(options: Documents) -> list[PageTask]:
    """The page tasks of a recipe, in its order; RecipeError for one that is unknown or a schema that is none.

    >>> content, fields = page_tasks(Documents())
    >>> content.name, list(fields.schema["properties"])[:3], len(content.student_prompt) < len(content.teacher_prompt)
    ('content', ['classification', 'source', 'dates'], True)
    """
    schemas = [(_name_of(task), _schema_of(task)) for task in options.tasks]
    names = [name for name, _ in schemas]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise RecipeError(f"documents.tasks: {twice[0]!r} is there twice; rename one file, or leave one out")
    for key, prompts in (("prompts", options.prompts), ("teacher_prompts", options.teacher_prompts)):
        _check_names(key, prompts, names)
    return [_page_task(name, schema, options) for name, schema in schemas]


def _page_task(name: str, schema: JsonObject, options: Documents) -> PageTask:
    teacher = options.teacher_prompts.get(name) or TEACHER.get(name) or asking_for(name, schema, is_long=True)
    student = options.prompts.get(name) or STUDENT.get(name) or asking_for(name, schema)
    return PageTask(
        name, schema, WITH_SCHEMA.format(prompt=teacher.strip(), schema=json.dumps(schema, ensure_ascii=False)), student
    )


def _check_names(key: str, prompts: Mapping[str, str], names: list[str]) -> None:
    for name, prompt in prompts.items():
        if name not in names:
            move = f"documents.tasks has {', '.join(names)}"
            raise RecipeError(f"documents.{key}: no page task is called {name!r}{did_you_mean(name, names, move)}")
        if not prompt.strip():
            raise RecipeError(f"documents.{key}.{name} is empty; write a prompt, or remove the key")


def _name_of(task: str) -> str:
    return Path(task).stem if task.endswith(FILE) else task


def _schema_of(task: str) -> JsonObject:
    if task.endswith(FILE):
        return read_schema(Path(task))
    if task not in SCHEMAS:
        move = f"wanted {', '.join(SCHEMAS)}, or a file with a JSON Schema, such as invoice.json"
        raise RecipeError(f"documents.tasks: unknown page task {task!r}{did_you_mean(task, SCHEMAS, move)}")
    return SCHEMAS[task]


def read_schema(path: Path) -> JsonObject:
    """The user's own JSON Schema, of an object; RecipeError in one line says what is wrong with it."""
    place = f"documents.tasks: {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise RecipeError(f"{place}: {reason}; wanted a file with a JSON Schema") from error
    if len(text) > MOST_SCHEMA:
        raise RecipeError(f"{place}: {len(text):,} characters; at most {MOST_SCHEMA:,}, since every request has it")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{place}: not JSON ({error}); wanted a JSON Schema") from error
    if not isinstance(schema, dict) or schema.get("type") != "object" or not _has_properties(schema):
        raise RecipeError(
            f'{place}: wanted a JSON Schema of an object, {{"type": "object", "properties": {{...}}}}; '
            f"found {shown(schema, 60)}"
        )
    if fault := schema_fault(schema):
        raise RecipeError(f"{place}: not a JSON Schema: {fault}; mend it")
    result: JsonObject = schema
    return result


def _has_properties(schema: JsonObject) -> bool:
    return isinstance(schema.get("properties"), dict) and bool(schema["properties"])
