"""The bounds of a recipe's numbers and texts: what no machine could do is refused before it is tried."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from gemtune.recipe.schema import Recipe
from gemtune.recipe.section import Section, section_of


def _numbers(section: type[Section], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Every key that takes a number, and whether it takes whole ones alone."""
    for name, info in section.model_fields.items():
        kinds = set(get_args(info.annotation)) | {info.annotation}
        nested = section_of(info.annotation)
        if nested:
            yield from _numbers(nested, f"{prefix}{name}.")
        elif kinds & {int, float}:
            yield f"{prefix}{name}", float not in kinds


NUMBERS = dict(_numbers(Recipe))


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_bounds(key: str) -> None:
    whole = NUMBERS[key]
    values = [10**24, -(10**24), -1] if whole else [math.inf, -math.inf, math.nan, 1e30, -1e30, -1e-9]
    for value in values:
        recipe: dict[str, Any] = {"task": "emoji", "data": [{"source": "e.csv"}]}
        *sections, name = key.split(".")
        place = (
            recipe["data"][0] if sections == ["data"] else recipe.setdefault(sections[0], {}) if sections else recipe
        )
        place[name] = value
        with pytest.raises(ValidationError):
            Recipe.model_validate(recipe)


def test_no_layer_is_no_target() -> None:
    with pytest.raises(ValidationError, match="names of layers"):
        Recipe.model_validate({"task": "emoji", "data": ["e.csv"], "lora": {"target_modules": []}})
