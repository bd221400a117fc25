"""The stages of a run: what each needs of the others, and what it does not do again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job

WriteRecipe = Callable[..., Path]


class Tokenless(Job):
    """A job whose tokenizer must not be loaded."""

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]
        raise AssertionError("the tokenizer was asked for")


def test_training_on_checked_tokens_needs_no_tokenizer(write_recipe: WriteRecipe) -> None:
    recipe = write_recipe()
    stages.check(Job(recipe))
    assert stages.train(Tokenless(recipe))["steps"]
    assert json.loads((Job(recipe).run.adapter / "generation_config.json").read_text())["eos_token_id"] == [106, 1]
    with pytest.raises(AssertionError, match="tokenizer was asked for"):
        stages.train(Tokenless(recipe, ["name=other"]))
