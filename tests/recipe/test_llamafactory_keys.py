"""The keys of LLaMA-Factory that gemtune knows: each once, and those that it has by another name are there."""

from __future__ import annotations

from itertools import combinations

from gemtune.recipe.llamafactory_keys import DEFAULTS, DROPPED, NESTED, SAME, WITH
from gemtune.recipe.llamafactory_recipe import known_keys
from gemtune.recipe.schema import recipe_keys


def test_what_a_key_is_here_is_a_key_of_a_recipe() -> None:
    assert set(SAME.values()) <= recipe_keys().keys()


def test_a_key_is_in_one_table() -> None:
    for one, other in combinations((SAME, DROPPED, WITH), 2):
        assert not one.keys() & other.keys()


def test_defaults_and_nested_names_lead_to_keys_that_are_known() -> None:
    assert {*DEFAULTS, *NESTED.values()} <= known_keys()
