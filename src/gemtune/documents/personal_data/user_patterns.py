"""The recipe's own regular expressions, tried in a child process: one that never ends is killed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from gemtune.errors import RecipeError
from gemtune.worker import JsonValue, Worker, WorkerError

SECONDS = 10.0  # for one pattern on one page


class UserPatterns:
    """Names and regular expressions; a context manager, since it holds the child process.

    >>> with UserPatterns({"case": r"C-\\d{4}"}) as patterns:
    ...     list(patterns.find(["no case", "case C-2041"]))
    [('case', 1, 5, 11)]
    """

    def __init__(self, patterns: Mapping[str, str], *, seconds: float = SECONDS):
        self.patterns = patterns
        self._child = Worker(f"{__name__}:search", seconds=seconds)

    def find(self, texts: Sequence[str]) -> Iterator[tuple[str, int, int, int]]:
        """Name, which of the texts, start and end; RecipeError names the pattern that takes too long."""
        for name, pattern in self.patterns.items():
            try:
                answer = self._child({"pattern": pattern, "texts": list(texts)})
            except WorkerError as error:
                raise RecipeError(
                    f"privacy.patterns.{name}: on a page of {max(map(len, texts)):,} characters {error}; write it "
                    "without repeats inside repeats, as in (a+)+"
                ) from error
            yield from ((name, which, start, end) for which, start, end in answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()


def search(request: JsonValue) -> JsonValue:
    """In the child: which text, start and end of every match that is not empty."""
    pattern = re.compile(request["pattern"])
    return [
        (which, *match.span())
        for which, text in enumerate(request["texts"])
        for match in pattern.finditer(text)
        if match[0].strip()
    ]
