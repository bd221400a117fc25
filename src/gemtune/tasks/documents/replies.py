"""A reply about a page: read as JSON, held against its schema, and its content as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from gemtune.errors import MissingExtra
from gemtune.files import JsonObject

if TYPE_CHECKING:
    from jsonschema_rs import Validator

MOST_DEPTH = 100  # of a value; no page is nested so deep
MOST_DIGITS = 400  # of a whole number; one with more stays text

_FENCE = re.compile(r"\s*```[\w-]{0,20}[ \t]*\n(.*?)(?:\n?```\s*)?\Z", re.DOTALL)
_MARKDOWN = re.compile(r'"(?:markdown|text)"\s*:\s*"((?:[^"\\]|\\.)*)', re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """What a reply holds. `is_json`: it is one JSON value and nothing else; `value` is read out of a fence, too."""

    text: str
    is_json: bool
    value: object = None


@lru_cache(maxsize=256)
def read_reply(text: str) -> Reply:
    """
    >>> read_reply('{"a": 1}').value, read_reply('Here: {"a": 1}!'), read_reply("٣ apples").value
    ({'a': 1}, Reply(text='Here: {"a": 1}!', is_json=False, value={'a': 1}), None)
    """
    try:
        return Reply(text, True, _shallow(_DECODER.decode(text)))
    except (ValueError, RecursionError):
        return Reply(text, False, _object_in(text))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else digits


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_int=_whole)


def _object_in(text: str) -> object:
    """The JSON object that begins at the first `{`, in a fence or in prose."""
    start = text.find("{")
    try:
        return _shallow(_DECODER.raw_decode(text, start)[0]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None


def _shallow(value: object) -> object:
    """The value, or None where it is nested too deep to be walked."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [below for one in level for below in _below(one)]
        if not level:
            return value
    return None


def _below(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def leaves(value: object) -> Iterator[str]:
    """Every text in a value, in order.

    >>> list(leaves({"a": ["b", 1, {"c": "d"}], "e": None}))
    ['b', 'd']
    """
    if isinstance(value, str):
        yield value
    for below in _below(value):
        yield from leaves(below)


def page_markdown(reply: Reply) -> str:
    """The content of a page as Markdown: its elements; of JSON of another form, its texts; of no JSON, the reply.

    >>> page_markdown(read_reply('{"elements": [{"type": "title", "markdown": "# A"}, {"markdown": "B"}]}'))
    '# A\\n\\nB'
    >>> page_markdown(read_reply('{"elements": [{"type": "title", "markdown": "# A"}, {"type": "par'))
    '# A'
    """
    value = reply.value
    if isinstance(value, dict):
        elements = value.get("elements")
        if isinstance(elements, list):
            return "\n\n".join(filter(None, map(_element, elements)))
        markdown = value.get("markdown")
        return markdown if isinstance(markdown, str) else "\n\n".join(leaves(value))
    if isinstance(value, list):
        return "\n\n".join(leaves(value))
    if isinstance(value, str):
        return value
    begins = reply.text.lstrip()[:10]
    if begins.startswith(("{", "```json")) and (pieces := _MARKDOWN.findall(reply.text)):  # cut, or not quite JSON
        return "\n\n".join(map(_unescaped, pieces))
    fence = _FENCE.match(reply.text)
    return fence[1] if fence else reply.text


def _element(element: object) -> str:
    if not isinstance(element, dict):
        return "\n".join(leaves(element))
    markdown = next((element[name] for name in ("markdown", "text") if isinstance(element.get(name), str)), None)
    if markdown is None:
        return "\n".join(leaves({name: below for name, below in element.items() if name != "type"}))
    return str(markdown).strip()


def _unescaped(piece: str) -> str:
    """The text of the inside of a JSON string, which may end in half an escape."""
    try:
        return str(json.loads(f'"{piece}"', strict=False))
    except ValueError:
        return piece


# --- schemas ----------------------------------------------------------------------------------------------------------


def schema_fault(schema: JsonObject) -> str | None:
    """What is wrong with a JSON Schema, or None; nothing that it refers to is fetched."""
    try:
        _validator(json.dumps(schema))
    except ValueError as error:  # of which jsonschema's ValidationError is one
        return str(error).split("\n", 1)[0]
    return None


def is_of_schema(value: object, schema: JsonObject) -> bool:
    """Whether a value is what a schema asks for.

    >>> is_of_schema({"a": 1}, {"properties": {"a": {"type": "string"}}})
    False
    """
    validator = _validator(json.dumps(schema))
    try:
        return bool(validator.is_valid(value))
    except ValueError:  # half a surrogate pair, which JSON can spell and no text holds
        return False


@lru_cache(maxsize=64)
def _validator(schema: str) -> Validator:
    try:
        from jsonschema_rs import validator_for
    except ImportError as error:
        raise MissingExtra("the task documents", "documents") from error
    return validator_for(json.loads(schema), validate_formats=True, retriever=_refuse)


def _refuse(address: str) -> JsonObject:
    raise ValueError("a schema refers only to itself; put what it refers to under $defs")
