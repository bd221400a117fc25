"""Writes docs/recipe.md, the page of every recipe key, from the code: `make recipe-page`."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gemtune.recipe.schema import Recipe, deciding_stage, recipe_keys
from gemtune.recipe.section import Stage

PAGE = Path(__file__).with_name("recipe.md")

HEAD = """\
<!-- Written by `make recipe-page` from src/gemtune/recipe/schema.py; change the descriptions there. -->

# The recipe

A recipe is a YAML file. It holds only what differs from the defaults below. `task` and `data.source` have no default.

```yaml
name: emoji
task: emoji
data:
  source: emoji.csv
train:
  epochs: 2
```

| rule | |
|---|---|
| unknown key, wrong type, a key that stands twice | an error with file, line and the nearest right key; nothing runs |
| for one run only | `gemtune run emoji.yaml train.epochs=3 data.limit=100`: any key, its value in YAML |
| one of several sources | `data.0.limit=100` |
| relative paths | `data.source` and a task's file start at the recipe; `runs_dir` at the current folder |
| every weight instead of adapters | `lora: none` |
| the values that were used, and why | `manifest.json` in the [run directory](formats.md) |
| no value | `null` |
| a key changed | the stage that it decides is done again, and those after it; see the last column of the tables |

Stages, in their order: **data** (rows become conversations), **tokens**, **training**, **evaluation**. A run that has
begun to train keeps the data, tokens and training keys it began with: it wants another `name` when one of them changes
(`--fresh` would remove what it has trained). Files may move:
rows are known by their content. A key that decides nothing (`-`) may change at any time.
"""

WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "None": "null",
    "bool": "true or false",
    "int | float": "number",
    "JsonValue": "value",
}


COLUMNS = "| key | values | default | meaning | decides |\n|---|---|---|---|---|\n"


def page() -> str:
    """The text of docs/recipe.md."""
    parts = [HEAD]
    sections, stages = dict(_sections()), deciding_stage()
    by_section = sorted(recipe_keys().items(), key=lambda entry: list(sections).index(_section(entry[0])))
    for section, keys in groupby(by_section, key=lambda entry: _section(entry[0])):
        title = f"`{section}`" if section else "Top level"
        parts.append(f"## {title}\n\n{sections[section]}\n\n{COLUMNS}")
        parts[-1] += "".join(_row(name, *what, stages[name]) for name, what in keys)
    return "\n".join(parts)


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _sections() -> list[tuple[str, str]]:
    """(name, docstring) of the recipe itself and of its sections, in the order of the code."""
    found = [("", Recipe.__doc__ or "")]
    for name, info in Recipe.model_fields.items():
        kinds = (info.annotation, *getattr(info.annotation, "__args__", ()))
        nested = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if nested is not None:
            found.append((name, nested.__doc__ or ""))
    return found


def _row(name: str, kind: str, default: Any, meaning: str, stage: Stage) -> str:
    shown = "none; needed" if default is ... else "not set" if default in (None, "") else f"`{default}`"
    decides = "-" if stage == "run" else stage
    return "| " + " | ".join(_cell(text) for text in (f"`{name}`", _values(kind), shown, meaning, decides)) + " |\n"


def _values(kind: str) -> str:
    """
    >>> _values("Union[Literal['auto', 'none'], list[str]]"), _values("int | None")
    ('`auto`, `none` or a list of text', 'whole number or null')
    """
    kind = _BOUNDED.sub(r"\1", kind)
    if kind in WORDS:
        return WORDS[kind]
    if literal := re.fullmatch(r"Literal\[([^\]]*)\]", kind):
        return re.sub(r"'([^']*)'", r"`\1`", literal[1])
    if union := re.fullmatch(r"Union\[(.*)\]", kind):
        return " or ".join(map(_values, _apart(union[1], ", ")))
    kinds = _apart(kind, " | ")
    if len(kinds) > 1:
        return " or ".join(map(_values, kinds))
    if listed := re.fullmatch(r"list\[(.*)\]", kind):
        return f"a list of {_values(listed[1])}"
    if mapping := re.fullmatch(r"dict\[(.*?), (.*)\]", kind):
        return f"{_values(mapping[1])} to {_values(mapping[2])}"
    raise KeyError(kind)


_BOUNDED = re.compile(r"Annotated\[([^,]*), FieldInfo\(.*?\]\)\]")  # what pydantic makes of a bounded number


def _apart(kinds: str, between: str) -> list[str]:
    """
    >>> _apart("int | dict[str, int | float]", " | ")
    ['int', 'dict[str, int | float]']
    """
    parts = [""]
    for piece in re.split(f"({re.escape(between)})", kinds):
        open_brackets = parts[-1].count("[") - parts[-1].count("]")
        if piece == between and not open_brackets:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
