"""Fields of JSON against the true ones: hits by type; dates and numbers are compared as values, in any digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np

from gemtune.files import JsonObject
from gemtune.metrics.arabic import fold
from gemtune.metrics.tables import assignment
from gemtune.metrics.values import date_of, number_of

FieldType = Literal["text", "date", "number", "enum", "boolean", "list"]
TYPES: tuple[FieldType, ...] = get_args(FieldType)

MOST_PAIRS = 2_500  # of two lists of objects that are paired by what they have in common; longer ones by their order
MOST_DEPTH = 64  # of a schema that refers to itself

Field = tuple[FieldType, object]  # a type, and a value in the form in which it is compared


@dataclass
class Hits:
    """How many fields of each type were found, given, and there to be found."""

    found: Counter[FieldType] = field(default_factory=Counter)
    given: Counter[FieldType] = field(default_factory=Counter)
    true: Counter[FieldType] = field(default_factory=Counter)


def compare_fields(reply: object, truth: object, schema: JsonObject | None = None) -> Hits:
    """Hits of a reply's fields; null, an empty text and an empty list say that there is none.

    >>> schema = {"properties": {"on": {"type": "string", "format": "date"}, "sum": {"type": "number"}}}
    >>> truth = {"on": "2024-03-05", "sum": 1200.5, "by": "Ali"}
    >>> hits = compare_fields({"on": "٥ مارس 2024", "sum": "1,200.50"}, truth, schema)
    >>> hits.found.total(), hits.given.total(), hits.true.total()
    (2, 2, 3)
    """
    hits = Hits()
    root = schema or {}
    _compare(reply, truth, _Schema(root, root), hits)
    return hits


def texts_in(value: object, schema: JsonObject | None = None) -> list[str]:
    """The texts in a value that stand on a page as they are: not what a schema makes a date, a choice or a number.

    >>> texts_in({"on": "2024-03-05", "by": ["Ali"], "kind": "memo"}, {"properties": {"kind": {"enum": ["memo"]}}})
    ['Ali']
    """
    return list(_texts_in(value, _Schema(schema or {}, schema or {})))


def _texts_in(value: object, schema: _Schema) -> Iterator[str]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _texts_in(below, schema.field(name))
    elif isinstance(value, list):
        for below in value:
            yield from _texts_in(below, schema.entries)
    elif isinstance(value, str) and schema.type_of(value) == "text" and date_of(value) is None:
        yield value


class _Schema:
    """A part of a JSON Schema, and the whole that it refers to."""

    def __init__(self, part: object, root: JsonObject):
        self.root = root
        self.part = self._resolved(part if isinstance(part, dict) else {})

    def _resolved(self, part: JsonObject) -> JsonObject:
        """Through `$ref`, and past null in `anyOf`."""
        for _ in range(MOST_DEPTH):
            options = part.get("anyOf") or part.get("oneOf")
            if isinstance(part.get("$ref"), str):
                part = self._at(part["$ref"])
            elif isinstance(options, list):
                real = [o for o in options if isinstance(o, dict) and o.get("type") != "null"]
                part = real[0] if real else {}
            else:
                return part
        return {}

    def _at(self, reference: str) -> JsonObject:
        value: Any = self.root
        for name in reference.removeprefix("#").strip("/").split("/") if reference != "#" else []:
            value = value.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def field(self, name: str) -> _Schema:
        properties = self.part.get("properties")
        return _Schema(properties.get(name) if isinstance(properties, dict) else None, self.root)

    @property
    def entries(self) -> _Schema:
        return _Schema(self.part.get("items"), self.root)

    def says(self, kind: str) -> bool:
        types = self.part.get("type")
        return kind == types or (isinstance(types, list) and kind in types)

    def type_of(self, value: object) -> FieldType:
        """Of one value: by the schema, else by what it is."""
        if "enum" in self.part or "const" in self.part:
            return "enum"
        if self.part.get("format") in ("date", "date-time"):
            return "date"
        if self.says("number") or self.says("integer"):
            return "number"
        if self.says("boolean"):
            return "boolean"
        if self.says("string"):
            return "text"
        return (
            "boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float | Decimal) else "text"
        )


def _is_absent(value: object) -> bool:
    return value is None or value == [] or value == {} or (isinstance(value, str) and not value.strip())


def _compare(reply: object, truth: object, schema: _Schema, hits: Hits) -> None:
    if isinstance(reply, dict) and isinstance(truth, dict):
        for name in dict.fromkeys([*truth, *reply]):
            _compare(reply.get(name), truth.get(name), schema.field(name), hits)
    elif _is_objects(reply) and _is_objects(truth):
        _compare_objects(reply, truth, schema.entries, hits)
    else:
        given, true = list(_fields(reply, schema)), list(_fields(truth, schema))
        hits.given.update(name for name, _ in given)
        hits.true.update(name for name, _ in true)
        if reply == truth or not (_has_object(reply) or _has_object(truth)):
            hits.found.update(name for name, _ in (Counter(given) & Counter(true)).elements())


def _has_object(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_object, value)))


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _compare_objects(reply: Any, truth: Any, schema: _Schema, hits: Hits) -> None:
    """Lists of objects: each with the one that it has most fields in common with; the rest have no partner."""
    flat_reply, flat_truth = ([_flat(entry, schema) for entry in entries] for entries in (reply, truth))
    if reply == truth or len(reply) * len(truth) > MOST_PAIRS:
        pairs = [(number, number) for number in range(min(len(reply), len(truth)))]
    else:
        shared = [[float((one & other).total()) for other in flat_truth] for one in flat_reply]
        pairs = assignment(np.array(shared))
    for i, j in pairs:
        _compare(reply[i], truth[j], schema, hits)
    for number in set(range(len(reply))) - {i for i, _ in pairs}:
        _compare(reply[number], None, schema, hits)
    for number in set(range(len(truth))) - {j for _, j in pairs}:
        _compare(None, truth[number], schema, hits)


def _flat(value: object, schema: _Schema) -> Counter[tuple[str, Field]]:
    if not isinstance(value, dict):
        return Counter()
    return Counter((name, leaf) for name, below in value.items() for leaf in _fields(below, schema.field(name)))


def _fields(value: object, schema: _Schema) -> Iterator[Field]:
    """Every field in a value that is there, with its type; the plain entries of a list are of the type `list`."""
    if _is_absent(value):
        return
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _fields(below, schema.field(name))
    elif isinstance(value, list):
        for entry in value:
            if isinstance(entry, dict | list):
                yield from _fields(entry, schema.entries)
            elif not _is_absent(entry):
                yield "list", comparable(schema.entries.type_of(entry), entry)
    else:
        kind = schema.type_of(value)
        yield kind, comparable(kind, value)


def comparable(kind: FieldType, value: object) -> object:
    """A value in the form in which two of its type are equal.

    >>> comparable("date", "12/٣/2024") == comparable("date", "2024-03-12"), comparable("number", "١٬٢٠٠٫٥ ر.س")
    (True, Decimal('1200.5'))
    """
    text = str(value)
    if kind == "date":
        return date_of(text) or fold(text)
    if kind == "number" and not isinstance(value, bool):
        number = number_of(text)
        return fold(text) if number is None else number
    return fold(text).casefold()
