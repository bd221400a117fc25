"""What clients of remote teachers share: the key, the address, and how an endpoint is told a schema."""

from __future__ import annotations

import json
import os
import re
from typing import Literal
from urllib.parse import urlsplit

from gemtune.documents.teacher.exchange import Request
from gemtune.documents.teacher.failures import TeacherError
from gemtune.errors import RecipeError
from gemtune.recipe.document_sections import Teacher

Level = Literal["schema", "json", "none"]
_EASIER: dict[Level, Level] = {"schema": "json", "json": "none"}
_OF_A_SCHEMA = re.compile(
    r"response_?(format|mime|json)|json_schema|json_object|json (schema|mode)|structured|grammar|guided|schema", re.I
)


class Hidden:
    """A value that no repr, log or traceback with locals shows."""

    __slots__ = ("value",)

    def __init__(self, value: str | None):
        self.value = value

    def __repr__(self) -> str:
        return "***"


def key_in(name: str) -> str:
    """The key in an environment variable; TeacherError where there is none."""
    key = os.environ.get(name, "").strip()
    if not key:
        raise TeacherError(f"${name} is not set: export it with the teacher's key, or name another in teacher.key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise TeacherError(f"${name} holds no key: there is a space, or no ASCII, in it")
    return key


def check_address(url: str) -> None:
    """RecipeError for an address that is none, or has a key in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(f"teacher.url: wanted an address such as http://localhost:8000/v1, found {url!r}")
    if parts.username or parts.password or parts.query:
        raise RecipeError("teacher.url: a key or password is in the address; name its variable in teacher.key")


def first_level(teacher: Teacher) -> Level:
    """How an endpoint is told the schema at first."""
    return "schema" if teacher.structured == "auto" else teacher.structured


def easier_level(level: Level, said: str, teacher: Teacher) -> Level | None:
    """How it is told from then on, where it says that it does not take a schema so; None: it is to stay so.

    >>> easier_level("schema", "'response_format' is not supported", Teacher())
    'json'
    """
    is_free = teacher.structured == "auto" and _OF_A_SCHEMA.search(said)
    return _EASIER.get(level) if is_free else None


def prompt_of(request: Request, level: Level) -> str:
    """The prompt, with the schema where the endpoint does not hold the reply to it."""
    if request.schema is None or level == "schema":
        return request.prompt
    schema = json.dumps(request.schema, ensure_ascii=False)
    return f"{request.prompt}\n\nReply with JSON alone. It fits this JSON Schema:\n{schema}"
