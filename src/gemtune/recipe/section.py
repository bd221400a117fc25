"""A section of a recipe: checked strictly; its keys and the stage that each decides are read off its class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, field_validator

# The first stage whose result a key changes; later stages follow. `run`: no result, only where or how it is kept.
Stage = Literal["data", "tokens", "training", "evaluation", "run"]
STAGES: tuple[Stage, ...] = get_args(Stage)

MOST = 1_000_000_000  # of a count that nothing else bounds: rows, steps, tokens
MOST_NAME = 200  # characters of a name; file systems take 255 bytes
SEED: dict[str, Any] = {"ge": 0, "le": 2**32 - 1}  # what numpy takes
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class Section(BaseModel):
    """A part of a recipe: no unknown keys, no silent conversions, never changed after it is read.

    `decides` is the stage of its keys, but of those that name another with `deciding`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    decides: ClassVar[Stage]

    @field_validator("*", mode="before")
    @classmethod
    def _is_text_that_files_can_hold(cls, value: Any) -> Any:
        for text in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
            if isinstance(text, str) and _NO_TEXT.search(text):
                raise ValueError("wanted text, found a NUL or half a surrogate pair in it; mend it")
        return value


def deciding(stage: Stage) -> dict[str, Any]:
    """Says of a key that it decides another stage than the rest of its section: Field(..., **deciding("tokens"))."""
    return {"json_schema_extra": {"decides": stage}}


def keys_of(section: type[Section], prefix: str = "") -> Iterator[tuple[str, tuple[str, Any, str]]]:
    """Yields (key, (type, default, reason)) of every key of a section and of the sections in it."""
    for name, info in section.model_fields.items():
        nested = section_of(info.annotation)
        if nested is not None:
            yield from keys_of(nested, f"{prefix}{name}.")
        else:
            default = ... if info.is_required() else info.get_default(call_default_factory=True)
            kind = str(info.annotation).replace("typing.", "").removeprefix("<class '").removesuffix("'>")
            yield f"{prefix}{name}", (kind, default, info.description or "")


def stages_of(section: type[Section], prefix: str = "") -> Iterator[tuple[str, Stage]]:
    """Yields (key, stage) of every key of a section and of the sections in it, such as `lora.r`."""
    for name, stage in _own_stages(section).items():
        nested = section_of(section.model_fields[name].annotation)
        if nested is None:
            yield f"{prefix}{name}", stage
        else:
            yield from stages_of(nested, f"{prefix}{name}.")


def decided(section: Section, stages: tuple[Stage, ...]) -> dict[str, Any]:
    """The values of a section's keys that decide some stages, as nested plain data without what is empty there."""
    values: dict[str, Any] = {}
    for name, stage in _own_stages(type(section)).items():
        value = getattr(section, name)
        if isinstance(value, Section):
            nested: Any = decided(value, stages)
        elif section_of(type(section).model_fields[name].annotation) and value is not None:
            nested = list(filter(None, (decided(entry, stages) for entry in value)))
        elif stage in stages:
            values[name] = value
            continue
        else:
            continue
        if nested:
            values[name] = nested
    return values


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds, or a list of, or None.

    >>> section_of(list[Section]).__name__, section_of(Section | None).__name__, section_of(list[str])
    ('Section', 'Section', None)
    """
    kinds = (kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type))
    return next((kind for kind in kinds if issubclass(kind, Section)), None)


def _own_stages(section: type[Section]) -> dict[str, Stage]:
    """The stage of each of a section's own fields."""
    extras = ((name, info.json_schema_extra) for name, info in section.model_fields.items())
    return {
        name: extra["decides"] if isinstance(extra, dict) and "decides" in extra else section.decides  # type: ignore[misc]
        for name, extra in extras
    }
