"""What is asked of a teacher and what comes back: plain data that the loop, its clients and its cache share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gemtune.files import JsonObject

Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]  # (what, done, of how many)


@dataclass(frozen=True)
class Request:
    """One task of one page; `sample` tells its repetitions apart. Without a schema the reply is plain text."""

    document: str
    page: int
    task: str
    sample: int
    image: Path  # named by the SHA-256 of its pixels
    prompt: str
    schema: JsonObject | None

    def __str__(self) -> str:
        """
        >>> str(Request("a.pdf", 3, "content", 0, Path("x.png"), "Read it.", None))
        'a.pdf page 3, content'
        """
        return f"{self.document} page {self.page}, {self.task}" + (f", sample {self.sample}" if self.sample else "")

    def corrected(self, text: str, faults: tuple[str, ...]) -> Request:
        """The same request with a reply that did not fit, and why; with the schema, which was not held to."""
        errors = "\n".join(f"- {fault}" for fault in faults)
        schema = f"\n\nThe JSON Schema is:\n{json.dumps(self.schema, ensure_ascii=False)}" if self.schema else ""
        return replace(
            self,
            prompt=f"{self.prompt}\n\nYour previous reply was:\n{text}\n\nIt is wrong:\n{errors}{schema}\n\n"
            f"Reply again with the corrected {'JSON' if self.schema else 'text'} alone.",
        )


@dataclass(frozen=True)
class Usage:
    """Tokens that a teacher counts; those it thinks in are part of `output`.

    >>> Usage(10, 5, 2) + Usage(1, 1)
    Usage(input=11, output=6, thinking=2)
    """

    input: int = 0
    output: int = 0
    thinking: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input + other.input, self.output + other.output, self.thinking + other.thinking)

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass(frozen=True)
class Answer:
    """What a client got: a text that ended by itself, was cut at `max_tokens`, or was refused."""

    text: str
    usage: Usage | None  # None: the endpoint does not count
    finish: Literal["stop", "cut", "refused"] = "stop"
    said: str = ""  # why it was refused
    structured: str = ""  # how the endpoint was told the schema: schema, json or none
    changes: tuple[str, ...] = ()  # what of the schema it was told otherwise


@dataclass(frozen=True)
class Reply:
    """What a page got: `value` fits the schema and `text` is its JSON on one line, or `problem` says why there is none.

    `usage` is that of the reply itself; the ledger has that of the tries before it, too.
    """

    request: Request
    value: JsonObject | None
    text: str
    problem: str | None
    usage: Usage


Send = Callable[[Request, str], Answer]  # with the request's id; raises Failure, or TeacherError where all would fail
Local = Callable[[Request], Answer]  # a model on this machine
