"""What a cell of a row holds: nothing, yes or no, or a list that its file could only keep as text."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass

_WORDS = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}
MOST_PYTHON = 100_000  # characters of a Python list that are read: its tree takes some hundred bytes a character


@dataclass(frozen=True)
class Unreadable:
    """Stands in a row for a value that cannot be read, so that only those who ask for its column are told `why`."""

    why: str


def kind_of(value: object) -> str:
    """What a value is, in JSON's words.

    >>> kind_of([1]), kind_of(None), kind_of(1.5), kind_of(Unreadable("in two columns of that name"))
    ('an array', 'null', 'a number', 'in two columns of that name')
    """
    if isinstance(value, Unreadable):
        return value.why
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "true or false", int: "a number"}
    kinds |= {float: "a number", type(None): "null"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def is_empty(value: object) -> bool:
    """Whether a cell says nothing: null, NaN, white space, an empty list or object.

    >>> [is_empty(value) for value in (None, float("nan"), " ", [], {}, 0, False, "[]")]
    [True, True, True, True, True, False, False, False]
    """
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value != value or (isinstance(value, list | dict | tuple | bytes) and not value)


def unpacked(value: object) -> object:
    """A list or an object that is written as text, in JSON or as Python prints it; anything else as it is.

    >>> unpacked('[["hi", null]]'), unpacked("[{'role': 'user'}]"), unpacked("[sic] is text"), unpacked([1])
    ([['hi', None]], [{'role': 'user'}], '[sic] is text', [1])
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return _python(value)


def _python(text: str) -> object:
    """What `df.to_csv` makes of a column of lists."""
    if len(text) > MOST_PYTHON:
        return text
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text
    return value if isinstance(value, list | dict) else text


def truth(value: object) -> bool | None:
    """Yes or no, however a file spells it; None where it is neither.

    >>> truth(False), truth(0.0), truth("True"), truth(1), truth(0.5), truth("user")
    (False, False, True, True, None, None)
    """
    if isinstance(value, str):
        return _WORDS.get(value.strip().casefold())
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return None
