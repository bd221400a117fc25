"""The table of model families: what gemtune must know of a model type beyond its config."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from gemtune.errors import ModelError
from gemtune.models import sight

ATTENTION_AND_MLP = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Family:
    """A family of models; `sight` for one that sees."""

    template: str  # a chat template in templates/, equal to the stock one but for its {% generation %} marks
    turn_tokens: tuple[str, ...]  # what the template writes that a -pt model has never seen
    stop_tokens: tuple[str, ...]  # what ends a reply
    linear: tuple[str, ...] = ATTENTION_AND_MLP  # the linear layers that `all-linear` means
    sight: sight.Sight | None = None


_GEMMA3 = Family(
    "gemma3.jinja",
    turn_tokens=("<start_of_turn>", "<end_of_turn>"),
    stop_tokens=("<end_of_turn>", "<eos>"),
)

_QWEN = Family(
    "qwen3_vl.jinja",
    turn_tokens=("<|im_start|>", "<|im_end|>"),
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
)

FAMILIES: dict[str, Family] = {
    "gemma3_text": _GEMMA3,
    "gemma3": replace(_GEMMA3, sight=sight.GEMMA3),
    "llava": Family("llava.jinja", turn_tokens=(), stop_tokens=("</s>",), sight=sight.LLAVA),
    "llava_onevision": replace(_QWEN, template="llava_onevision.jinja", sight=sight.LLAVA_ONEVISION),
    "qwen3_vl": replace(_QWEN, sight=sight.QWEN3_VL),
}


def family_of(folder: Path) -> Family:
    """The family of a model folder, by its config."""
    model_type = config_of(folder).model_type
    if model_type not in FAMILIES:
        raise ModelError(f"{folder}: model type '{model_type}' is not supported; supported: {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def config_of(folder: Path) -> Any:
    """The config of a model folder; ModelError when it cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}/config.json: cannot be read as a model's config ({error})") from error


def chat_template(family: Family) -> str:
    """The text of a family's chat template."""
    return (package_files("gemtune.models.families") / "templates" / family.template).read_text(encoding="utf-8")
