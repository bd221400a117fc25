"""Plain data as YAML that every reader takes for the same."""

from __future__ import annotations

import re
from typing import Any

import yaml

# What YAML 1.1, YAML 1.2 and Go's reader all take for text without quotes: PyYAML alone would write 1e4 so, too.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "none"}


class _Dumper(yaml.SafeDumper):
    """Text in quotes where any reader could take it for something else; a script as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    style = None if is_plain else "|" if "\n" in text else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(value: Any) -> str:
    """
    >>> print(yaml_text({"name": "1e4", "args": ["run", "a: b"]}), end="")
    name: "1e4"
    args:
    - run
    - "a: b"
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
