"""What is decided for a training, with its reason in the manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gemtune.hardware import instruction_sets
from training_jobs import trained

WriteRecipe = Callable[..., Path]


def test_the_manifest_has_the_processor_and_the_forwards_that_are_not_gemtunes(write_recipe: WriteRecipe) -> None:
    lora = trained(write_recipe(train={"max_steps": 1})).run.manifest
    every_weight = trained(write_recipe("every_weight", lora="none", train={"max_steps": 1})).run.manifest
    assert lora["device"]["instruction_sets"] == list(instruction_sets())
    assert lora["decisions"]["forwards"]["value"] == []
    assert every_weight["decisions"]["forwards"] == {
        "value": ["Gemma3Attention", "Gemma3DecoderLayer", "Gemma3RMSNorm"],
        "why": "gemtune's forwards are installed with LoRA only",
    }
