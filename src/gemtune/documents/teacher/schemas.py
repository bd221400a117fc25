"""JSON Schemas for endpoints that know less of them, what had to change on the way, and values in a schema's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gemtune.files import JsonObject

_NAMED = ("properties", "$defs")  # hold schemas by name
_OPENAI_LEVELS, _OPENAI_PROPERTIES = 10, 5_000
_BOTH = (
    *("type", "description", "title", "enum", "properties", "required", "additionalProperties", "items", "anyOf"),
    *("$ref", "$defs", "minimum", "maximum", "minItems", "maxItems", "format"),
)


@dataclass(frozen=True)
class Dialect:
    """The JSON Schema that an endpoint takes."""

    keywords: frozenset[str]
    formats: frozenset[str] | None  # None: all
    strict: bool  # every property is required, none may be added


OPENAI = Dialect(
    frozenset([*_BOTH, "pattern", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"]),
    frozenset(["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"]),
    strict=True,
)
GEMINI = Dialect(
    frozenset([*_BOTH, "prefixItems", "propertyOrdering"]),
    frozenset(["date-time", "date", "time"]),
    strict=False,
)


@dataclass(frozen=True)
class Converted:
    """A schema as an endpoint takes it; `changes` says what is not as the source has it."""

    schema: JsonObject
    changes: tuple[str, ...]
    strict: bool


@dataclass
class _Notes:
    """What was met on the way through a schema."""

    changes: dict[str, None] = field(default_factory=dict)
    loose: dict[str, None] = field(default_factory=dict)  # why it cannot be strict
    properties: int = 0
    levels: int = 0


def converted(schema: JsonObject, dialect: Dialect) -> Converted:
    """The schema in a dialect; a source that cannot be had strictly stays as it is, and is not asked for strictly.

    >>> source = {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}}
    >>> there = converted(source, OPENAI)
    >>> there.schema["properties"], there.schema["required"]
    ({'a': {'type': ['string', 'null']}}, ['a'])
    >>> there.changes
    ('/a: minLength left out', '/a: may be left out, so null is allowed')
    """
    notes = _Notes()
    result = _convert(schema, dialect, "", notes, 0)
    if dialect.strict:
        if result.get("type") != "object":
            notes.loose["it is no object at its root"] = None
        if notes.levels > _OPENAI_LEVELS or notes.properties > _OPENAI_PROPERTIES:
            notes.loose[f"{notes.levels} levels, {notes.properties} properties"] = None
        if notes.loose:
            return Converted(schema, tuple(f"not strict: {why}" for why in notes.loose), strict=False)
    return Converted(result, tuple(notes.changes), dialect.strict)


def _convert(schema: Any, dialect: Dialect, place: str, notes: _Notes, level: int) -> Any:
    if not isinstance(schema, dict):  # true: anything
        notes.loose[f"{place or '/'} allows anything"] = None
        return {}
    notes.levels = max(notes.levels, level)
    source = _plainer(schema, place, notes)
    result: JsonObject = {}
    for keyword, value in source.items():
        inner = f"{place}/{keyword}"
        if keyword not in dialect.keywords or _is_unknown_format(keyword, value, dialect):
            if keyword not in ("$schema", "$id", "$comment", "examples", "default", "deprecated"):
                notes.changes[f"{place or '/'}: {keyword} left out"] = None
            if keyword in ("allOf", "patternProperties"):
                notes.loose[f"{place or '/'} has {keyword}"] = None
        elif keyword in _NAMED:
            deeper = level + (keyword == "properties")
            at = place if keyword == "properties" else f"{place}/$defs"
            result[keyword] = {
                name: _convert(one, dialect, f"{at}/{name}", notes, deeper) for name, one in value.items()
            }
        elif keyword == "items":
            result[keyword] = _convert(value, dialect, f"{place}/items", notes, level + 1)
        elif keyword in ("anyOf", "prefixItems"):
            result[keyword] = [_convert(one, dialect, f"{inner}/{n}", notes, level) for n, one in enumerate(value)]
        elif keyword == "additionalProperties" and isinstance(value, dict) and not dialect.strict:
            result[keyword] = _convert(value, dialect, inner, notes, level + 1)
        else:
            result[keyword] = value
    if dialect.strict and ("properties" in result or "object" in _types(result)):
        _close(result, source, place, notes)
    return result


def _plainer(schema: JsonObject, place: str, notes: _Notes) -> JsonObject:
    """The same schema without words that have a plainer one."""
    result = dict(schema)
    if isinstance(alone := result.get("allOf"), list) and len(alone) == 1 and isinstance(alone[0], dict):
        del result["allOf"]
        result = {**alone[0], **result}
    if "oneOf" in result and "anyOf" not in result:
        result["anyOf"] = result.pop("oneOf")
        notes.changes[f"{place or '/'}: oneOf became anyOf"] = None
    if "const" in result:
        result["enum"] = [result.pop("const")]
    return result


def _is_unknown_format(keyword: str, value: object, dialect: Dialect) -> bool:
    return keyword == "format" and dialect.formats is not None and value not in dialect.formats


def _close(result: JsonObject, source: JsonObject, place: str, notes: _Notes) -> None:
    """Makes every property of an object required, an optional one nullable, and others impossible."""
    properties: JsonObject = result.setdefault("properties", {})
    notes.properties += len(properties)
    if source.get("additionalProperties") not in (None, False) or not properties:
        notes.loose[f"{place or '/'} is an object with names of its own"] = None
    for name, inner in properties.items():
        if name not in source.get("required", []) and not allows_null(inner, {}):
            properties[name] = _nullable(inner)
            notes.changes[f"{place}/{name}: may be left out, so null is allowed"] = None
    result["required"] = list(properties)
    result["additionalProperties"] = False


def _nullable(schema: JsonObject) -> JsonObject:
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    nullable = {**schema, "type": [*_types(schema), "null"]}
    return {**nullable, "enum": [*schema["enum"], None]} if "enum" in schema else nullable


def _types(schema: JsonObject) -> list[str]:
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def allows_null(schema: Any, root: JsonObject) -> bool:
    """Whether null fits a schema.

    >>> [allows_null(one, {}) for one in ({"type": "string"}, {"type": ["string", "null"]}, {}, {"$ref": "#/$defs/x"})]
    [False, True, True, False]
    """
    if not isinstance(schema, dict):
        return bool(schema)
    if "$ref" in schema:
        target = _target(schema, root)
        return target is not schema and allows_null(target, root)
    if "enum" in schema and None not in schema["enum"]:
        return False
    if "const" in schema:
        return schema["const"] is None
    branches = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    if branches and not any(allows_null(branch, root) for branch in branches):
        return False
    return "type" not in schema or "null" in _types(schema)


def _target(schema: JsonObject, root: JsonObject) -> JsonObject:
    """What a `$ref` into the same schema leads to; the schema itself where it leads nowhere."""
    here, seen = schema, set[str]()
    while isinstance(address := here.get("$ref"), str) and address.startswith("#") and address not in seen:
        seen.add(address)
        found: Any = root
        for part in filter(None, address[1:].split("/")):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            return schema
        here = found
    return schema if "$ref" in here else here


def _parts(schema: Any, root: JsonObject) -> Iterator[JsonObject]:
    """A schema and those that it is made of."""
    if isinstance(schema, dict):
        here = _target(schema, root)
        yield here
        for keyword in ("allOf", "anyOf", "oneOf"):
            for branch in here.get(keyword, []):
                if branch is not schema:
                    yield from _parts(branch, root)


def _properties(schema: Any, root: JsonObject) -> JsonObject:
    found: JsonObject = {}
    for part in _parts(schema, root):
        for name, inner in part.get("properties", {}).items():
            found.setdefault(name, inner)
    return found


def _items(schema: Any, root: JsonObject) -> Any:
    return next((part["items"] for part in _parts(schema, root) if "items" in part), True)


def in_schema_order(value: Any, schema: Any, root: JsonObject | None = None) -> Any:
    """The value with the keys of its objects in the order that the schema has them; others follow.

    >>> in_schema_order({"x": 1, "b": {}, "a": 2}, {"properties": {"a": {}, "b": {}}})
    {'a': 2, 'b': {}, 'x': 1}
    """
    root = schema if root is None else root
    if isinstance(value, dict):
        properties = _properties(schema, root)
        names = [name for name in properties if name in value] + [name for name in value if name not in properties]
        return {name: in_schema_order(value[name], properties.get(name, True), root) for name in names}
    if isinstance(value, list):
        return [in_schema_order(one, _items(schema, root), root) for one in value]
    return value


def without_nulls(value: Any, schema: Any, root: JsonObject | None = None) -> Any:
    """The value without nulls that stand for what may be left out, and that the schema does not allow.

    >>> schema = {"properties": {"a": {"type": "string"}, "b": {"type": ["string", "null"]}, "c": {"type": "string"}}}
    >>> without_nulls({"a": None, "b": None, "c": None}, {**schema, "required": ["c"]})
    {'b': None, 'c': None}
    """
    root = schema if root is None else root
    if isinstance(value, dict):
        properties = _properties(schema, root)
        required = {name for part in _parts(schema, root) for name in part.get("required", [])}
        return {
            name: without_nulls(inner, properties.get(name, True), root)
            for name, inner in value.items()
            if inner is not None or name in required or allows_null(properties.get(name, True), root)
        }
    if isinstance(value, list):
        return [without_nulls(one, _items(schema, root), root) for one in value]
    return value
