"""Reads the objects of a JSON file one by one, so that a file may be larger than memory.

Our own instead of ijson's for the errors: each names the line, what was found, what was wanted and the next move.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from gemtune.errors import DataError

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
# An error this close to the end of what was read may be a value cut in half: two escaped surrogates take 12 characters.
_CUT = 16
_HEAD = 1 << 18  # characters in which a first JSON Lines row must end to be recognised
_KINDS = {'"': "a string", "[": "an array", "{": "an object", "n": "null", "t": "true", "f": "false"} | dict.fromkeys(
    "-0123456789", "a number"
)


def json_rows(text: IO[str], name: str, *, chunk: int = 1 << 16) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields (number from 1, object) of an array of objects, or of an object that holds exactly one such array.

    >>> import io
    >>> list(json_rows(io.StringIO('{"version": 1, "data": [{"text": "hi"}, {"text": "ho"}]}'), "x.json", chunk=1))
    [(1, {'text': 'hi'}), (2, {'text': 'ho'})]
    """
    window = _Window(text, name, chunk)
    opening = window.peek()
    if opening not in ("[", "{"):
        raise DataError(f"{window.where()}: found {window.kind()}; wanted an array of objects, [{{...}}, {{...}}]")
    yield from _array(window) if opening == "[" else _wrapped_array(window)
    if window.peek():
        raise DataError(
            f"{window.where()}: more text after the end of the {_KINDS[opening].split()[1]}; "
            "set data.format: jsonl if every line is an object of its own, or cut it off"
        )


def is_json_lines(text: IO[str]) -> bool:
    """Whether an object follows another one: many data sets are JSON Lines in a file called .json.

    >>> import io
    >>> is_json_lines(io.StringIO('{"a": 1}\\n{"a": 2}')), is_json_lines(io.StringIO('{"a": [{}]}'))
    (True, False)
    """
    head = text.read(_HEAD).lstrip()
    if not head.startswith("{"):
        return False
    try:
        _, end = _DECODER.raw_decode(head)
    except (ValueError, RecursionError):  # broken, or longer than the head: json_rows says which, and where
        return False
    return head[end:].lstrip().startswith("{")


def kind_of(value: object) -> str:
    """
    >>> kind_of([1]), kind_of(None), kind_of(1.5)
    ('an array', 'null', 'a number')
    """
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "true or false", int: "a number"}
    kinds |= {float: "a number", type(None): "null"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def reason(error: ValueError | RecursionError) -> str:
    """The json module's words for broken text, without its position in our buffer."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg[0].lower() + error.msg[1:].removesuffix(" starting at").removesuffix(" at")
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


class _Window:
    """The part of a stream of JSON text that is read but not yet decoded."""

    def __init__(self, text: IO[str], name: str, chunk: int):
        self.text, self.name, self.chunk = text, name, chunk
        self.buffer, self.at, self.line = "", 0, 1  # `line` is the one the buffer starts on

    def where(self, at: int | None = None) -> str:
        return f"{self.name}:{self.line + self.buffer.count(chr(10), 0, self.at if at is None else at)}"

    def grow(self) -> bool:
        """Drops what is decoded and doubles the rest, so that a long value takes few attempts; False at the end."""
        chunk = self.text.read(max(self.chunk, len(self.buffer) - self.at))
        if not chunk:
            return False
        self.line += self.buffer.count("\n", 0, self.at)
        self.buffer, self.at = self.buffer[self.at :] + chunk, 0
        return True

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            space = _SPACE.match(self.buffer, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.grow():
                return ""

    def kind(self) -> str:
        character = self.peek()
        return _KINDS.get(character, f"{character!r}") if character else "the end of the file"

    def take(self, characters: str) -> str:
        """Steps over the next character, which must be one of these, and returns it."""
        character = self.peek()
        if not character or character not in characters:
            raise self.broken(f"expecting {' or '.join(map(repr, characters))}, found {self.kind()}")
        self.at += 1
        return character

    def value(self) -> Any:
        """Decodes the next value, reading on while it may be cut in half."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.buffer) - _CUT
                if cut and self.grow():
                    continue
                raise self.broken(reason(error), error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self.broken(reason(error)) from error
            is_number = isinstance(value, int | float)  # 12 may go on as 12.5e3
            if not (is_number and end > len(self.buffer) - _CUT and self.grow()):
                self.at = end
                return value

    def broken(self, message: str, at: int | None = None) -> DataError:
        ended = (self.at if at is None else at) >= len(self.buffer) or message.startswith("unterminated")
        move = "the file ends too early: copy or download it again" if ended else "mend it there"
        return DataError(f"{self.where(at)}: broken JSON ({message}); {move}")


def _array(window: _Window) -> Iterator[tuple[int, dict[str, object]]]:
    window.take("[")
    number = 0
    if window.peek() == "]":
        window.take("]")
        return
    while True:
        number += 1
        opening = window.peek()
        if opening != "{" and opening in _KINDS:
            raise DataError(
                f"{window.where()}: {window.name}[{number}] is {window.kind()}; wanted an object with named values"
            )
        if opening != "{":
            raise window.broken(f"expecting an object, found {window.kind()}")
        yield number, window.value()
        if window.take(",]") == "]":
            return


def _wrapped_array(window: _Window) -> Iterator[tuple[int, dict[str, object]]]:
    window.take("{")
    keys: list[str] = []
    arrays: list[str] = []
    while window.peek() != "}":
        if keys:
            window.take(",")
        if window.peek() != '"':
            raise window.broken(f"expecting a key in double quotes, found {window.kind()}")
        keys.append(window.value())
        window.take(":")
        if window.peek() != "[":
            window.value()
            continue
        arrays.append(keys[-1])
        if len(arrays) > 1:
            raise DataError(
                f"{window.where()}: two arrays, {arrays[0]!r} and {arrays[1]!r}; wanted one array of objects: "
                "write the one with the rows to a file of its own"
            )
        yield from _array(window)
    window.take("}")
    if not arrays:
        raise DataError(
            f"{window.where()}: one object without an array (keys: {', '.join(keys[:20]) or 'none'}); "
            "wanted an array of objects, [{...}, {...}]: put [ ] around it if it is the only row"
        )
