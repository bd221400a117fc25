"""Reads the values of JSON text one by one, so that a file may be larger than memory.

Our own instead of ijson's for the errors: each names the line, what was found, what was wanted and the next move.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from gemtune.data.text_files import MOST_ROW, too_long
from gemtune.errors import DataError

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_INSIDE = re.compile(r"\[[ \t\n\r]*")
_NEXT_OBJECT = re.compile(r"[\n\r](?=\{)")
# An error this close to the end of what was read may be a value cut in half: two escaped surrogates take 12 characters.
_CUT = 16
KINDS = {'"': "a string", "[": "an array", "{": "an object", "n": "null", "t": "true", "f": "false"} | dict.fromkeys(
    "-0123456789", "a number"
)
_EARLY_END = "the file ends too early: copy or download it again"
_LAST_COMMA = "a comma before the closing {}"


def reason(error: ValueError | RecursionError) -> str:
    """The json module's words for broken text, without its position in our buffer."""
    if isinstance(error, json.JSONDecodeError):
        if last := _last_comma(error):
            return last
        return error.msg[0].lower() + error.msg[1:].removesuffix(" starting at").removesuffix(" at")
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _last_comma(error: json.JSONDecodeError) -> str:
    """
    >>> try:
    ...     json.loads('{"a": [1, 2, ]}')
    ... except json.JSONDecodeError as error:
    ...     _last_comma(error)
    'a comma before the closing ]'
    """
    before = error.doc[: error.pos + 1].rstrip(" \t\r\n")
    after = error.doc[error.pos + 1 :].lstrip(" \t\r\n")[:1] if before.endswith(",") else before[-1:]
    is_comma = before.endswith(",") or before[:-1].rstrip(" \t\r\n").endswith(",")
    return _LAST_COMMA.format(after) if is_comma and after in ("]", "}") else ""


class Window:
    """The part of a stream of JSON text that is read but not yet decoded; `buffer` is read already, from line `line`.

    >>> import io
    >>> window = Window(io.StringIO('[{"a": 1}, {"a": 2}]'), "x.json", chunk=1)
    >>> [window.value() for _ in window.elements()]
    [{'a': 1}, {'a': 2}]
    """

    def __init__(self, text: IO[str], name: str, *, chunk: int = 1 << 16, buffer: str = "", line: int = 1):
        self.text, self.name, self.chunk = text, name, chunk
        self.buffer, self.at = buffer, 0
        self.line, self.column = line, 1  # of the buffer's first character

    def where(self, at: int | None = None) -> str:
        return f"{self.name}:{self.line + _line_ends(self.buffer, self.at if at is None else at)}"

    def grow(self) -> bool:
        """Drops what is decoded and doubles the rest, so that a long value takes few attempts; False at the end."""
        rest = len(self.buffer) - self.at
        if rest > MOST_ROW:
            raise DataError(too_long(self.where()))
        chunk = self.text.read(max(self.chunk, min(rest, MOST_ROW + 1 - rest)))
        if not chunk:
            return False
        self.column = self._column(self.at)
        self.line += _line_ends(self.buffer, self.at)
        self.buffer, self.at = self.buffer[self.at :] + chunk, 0
        return True

    def _column(self, at: int) -> int:
        line_end = max(self.buffer.rfind("\n", 0, at), self.buffer.rfind("\r", 0, at))
        return at - line_end if line_end >= 0 else self.column + at

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            space = _SPACE.match(self.buffer, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.grow():
                return ""

    def peek_inside(self) -> str:
        """The first character inside the array that begins here."""
        self.peek()
        while (start := _INSIDE.match(self.buffer, self.at)) and start.end() == len(self.buffer) and self.grow():
            pass
        return self.buffer[start.end() : start.end() + 1] if start else ""

    def kind(self) -> str:
        character = self.peek()
        return KINDS.get(character, f"{character!r}") if character else "the end of the file"

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

    def elements(self) -> Iterator[str]:
        """Yields the first character of every element of the array that begins here; take each one's value()."""
        before = self.take("[")
        while (opening := self.peek()) != "]":
            yield opening
            before = self.take(",]")
            if before == "]":
                return
        if before == ",":
            raise self.broken(_LAST_COMMA.format("]"))
        self.take("]")

    def names(self) -> Iterator[str]:
        """Yields every key of the object that begins here; take each one's value()."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.broken(f"expecting a key in double quotes, found {self.kind()}")
            key: str = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return
            if self.peek() == "}":
                raise self.broken(_LAST_COMMA.format("}"))

    def skip(self) -> None:
        """Steps over what is broken, to the next line that begins with an object."""
        self.at += self.at < len(self.buffer)
        while not (start := _NEXT_OBJECT.search(self.buffer, max(0, self.at - 1))):
            self.at = len(self.buffer)
            if not self.grow():
                return
        self.at = start.end()

    def broken(self, message: str, at: int | None = None) -> DataError:
        at = self.at if at is None else at
        if at >= len(self.buffer) or message.startswith("unterminated"):
            return DataError(f"{self.where(at)}: broken JSON ({message}); {_EARLY_END}")
        return DataError(f"{self.where(at)}: broken JSON ({message} at column {self._column(at)}); mend it there")


def _line_ends(text: str, end: int) -> int:
    """How many lines end before a place, by whichever sign ends them."""
    return text.count("\n", 0, end) or text.count("\r", 0, end)
