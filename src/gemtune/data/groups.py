"""The name of a group of rows that stay together: one name, or several that were merged."""

from __future__ import annotations

from collections.abc import Iterable

_AND = " + "


def merged(names: Iterable[str]) -> str:
    """The name of a group that was made of several.

    >>> merged(["b.pdf", "a.pdf"])
    'a.pdf + b.pdf'
    """
    return _AND.join(sorted(names))


def has_member(group: str, name: str) -> bool:
    """Whether a group is of this name, or was made of one that is.

    >>> [has_member("a.pdf + b.pdf", name) for name in ("b.pdf", "a.pdf + b.pdf", "pdf")]
    [True, True, False]
    """
    return f"{_AND}{name}{_AND}" in f"{_AND}{group}{_AND}"
