"""A teacher's words -> a value of the schema. What is mended is small and named; what could lose text is not mended."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gemtune.documents.teacher.schemas import in_schema_order, without_nulls
from gemtune.errors import RecipeError, shown
from gemtune.files import JsonObject

if TYPE_CHECKING:
    import jsonschema_rs

_MOST_FAULTS = 10
_THOUGHT = re.compile(r"\s*<think(?:ing)?>.*?</think(?:ing)?>", re.S)  # of a server that leaves it in the reply
_FENCED = re.compile(r"\s*```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```\s*", re.S)
_UNFIT = re.compile("[\0\ud800-\udfff]")  # a NUL, or half a surrogate pair: no file of text can hold it


@dataclass(frozen=True)
class Reading:
    """What words say: a value and its text on one line; or what is wrong with them."""

    value: JsonObject | None
    text: str
    repairs: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def read_reply(words: str, schema: JsonObject | None) -> Reading:
    """Reads a reply that its teacher has ended; never one that was cut.

    >>> schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    >>> read_reply('```json\\n{"a": "\\\\u0646\\\\u0639\\\\u0645"}\\n```', schema)
    Reading(value={'a': 'نعم'}, text='{"a": "نعم"}', repairs=('fence',), faults=())
    >>> read_reply('{"a": 1}', schema).faults
    ('/a: 1 is not of type "string"',)
    """
    if schema is None:
        return _plain(words)
    faults: tuple[str, ...] = ()
    for mend, value in _values(words):
        fault, kept = "", value
        if isinstance(value, _Fault):
            fault = value.said
        else:
            kept = without_nulls(value, schema)
            fault = "wanted a JSON object" if not isinstance(kept, dict) else ""
        found = (fault,) if fault else tuple(faults_of(kept, schema))
        if not found:
            repairs = (*mend, *(("null left out",) if kept != value else ()))
            ordered = in_schema_order(kept, schema)
            return Reading(ordered, json.dumps(ordered, ensure_ascii=False), repairs)
        faults = faults or found  # of the words as they came
    return Reading(None, "", (), faults)


def _plain(words: str) -> Reading:
    body, mend = _unwrapped(words)
    text = body.strip()
    fault = "it is empty" if not text else "a NUL or half a surrogate pair in it" if _UNFIT.search(text) else ""
    return Reading(None, "" if fault else text, mend, (fault,) if fault else ())


def _unwrapped(words: str) -> tuple[str, tuple[str, ...]]:
    """The reply itself, and what was around it.

    >>> _unwrapped("<think>Is it? It is.</think>\\n```json\\n{}\\n```")
    ('{}', ('thought', 'fence'))
    """
    mend: tuple[str, ...] = ()
    if thought := _THOUGHT.match(words):
        words, mend = words[thought.end() :], ("thought",)
    if fenced := _FENCED.fullmatch(words):
        words, mend = fenced[1], (*mend, "fence")
    return words, mend


@dataclass(frozen=True)
class _Fault:
    said: str


def _values(words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What the words may say, with what had to be mended for it, the least first."""
    body, mend = _unwrapped(words)
    yield mend, _parsed(body, strict=True)
    yield (*mend, "line ends in strings"), _parsed(body, strict=False)
    yield (*mend, "broken JSON"), _repaired(body)


def _parsed(text: str, *, strict: bool) -> Any:
    """JSON as it stands: no NaN, no key twice, nothing that a file of text cannot hold."""
    try:
        value = json.loads(
            text, strict=strict, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_without_duplicates
        )
    except (ValueError, RecursionError) as error:
        return _Fault(f"no JSON ({str(error)[:100] or type(error).__name__})")
    return _unfit(value) or value


def _unfit(value: Any) -> _Fault | None:
    """What no file of text could hold."""
    is_unfit = any(_UNFIT.search(text) for text in _texts(value))
    return _Fault("a NUL or half a surrogate pair in a string") if is_unfit else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _finite(word: str) -> float:
    number = float(word)
    return number if math.isfinite(number) else _refuse(word)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {shown(next(name for name in names if names.count(name) > 1))} is there twice")
    return value


def _repaired(text: str) -> Any:
    """Broken JSON made whole, where no letter or digit of it is lost and no bracket had to be added."""
    import json_repair

    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return _Fault("no JSON object in it")
    body = text[start : end + 1]
    value = json_repair.loads(body, skip_json_loads=True)
    mended = _as_text(value)
    if _letters(body) != _letters(mended):
        return _Fault("text would be lost")
    if any(mended.count(bracket) > body.count(bracket) for bracket in "}]"):
        return _Fault("it does not end")
    if not all(re.search(rf"""{re.escape(name)}["']?\s*:""", body) for name in _keys(value)):
        return _Fault("a string would be cut in two")
    return _unfit(value) or value


def _keys(value: Any) -> Iterator[str]:
    """The keys of a value's objects, as JSON writes them."""
    if isinstance(value, dict):
        yield from (_as_text(name)[1:-1] for name in value)
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(one)


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.S)
_CONTROLS = dict.fromkeys("bfnrt", " ")


def _letters(text: str) -> str:
    """The letters, marks and digits of JSON, its escapes undone.

    >>> _letters('{"a": "x\\\\u0627\\\\n1"}')
    'axا1'
    """
    plain = _ESCAPE.sub(lambda found: _unescaped(found[1]), text)
    return "".join(one for one in plain if one.isalnum() or unicodedata.combining(one))


def _unescaped(escape: str) -> str:
    return chr(int(escape[1:], 16)) if len(escape) == 5 else _CONTROLS.get(escape, escape)


def faults_of(value: object, schema: JsonObject) -> Iterator[str]:
    """What of a value does not fit a schema, by its place."""
    for count, error in enumerate(validator(json.dumps(schema)).iter_errors(value)):
        if count == _MOST_FAULTS:
            yield "and more"
            return
        place = "".join(f"/{part}" for part in error.instance_path)
        yield f"{place + ': ' if place else ''}{error.message[:300]}"


@lru_cache(maxsize=64)
def validator(schema: str) -> jsonschema_rs.Validator:
    """The reader of a schema, as JSON text; RecipeError where it is none."""
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(json.loads(schema), retriever=_refuse_address)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise RecipeError(f"documents.tasks: no valid JSON Schema: {str(error)[:300]}; mend the file") from error


def _refuse_address(address: str) -> JsonObject:
    raise ValueError(f"{address}: no address is opened; put its schema into $defs")
