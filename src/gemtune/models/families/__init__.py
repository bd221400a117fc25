"""The table of model families, one file each, by the `model_type` of transformers."""

from __future__ import annotations

from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import ModelError
from gemtune.models.families import gemma3, llava, llava_onevision, qwen3, qwen3_vl
from gemtune.models.families.base import Family

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FAMILIES: dict[str, Family] = {
    "gemma3_text": gemma3.TEXT,
    "gemma3": gemma3.VISION,
    "llava": llava.FAMILY,
    "llava_onevision": llava_onevision.FAMILY,
    "qwen3": qwen3.FAMILY,
    "qwen3_vl": qwen3_vl.FAMILY,
}
TINY = {family.name: family for family in FAMILIES.values()}


def family_of(folder: Path) -> Family:
    """The family of a model folder, by its config."""
    model_type = config_of(folder).model_type
    if model_type not in FAMILIES:
        raise ModelError(f"{folder}: model type '{model_type}' is not supported; supported: {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def config_of(folder: Path) -> PretrainedConfig:
    """The config of a model folder; ModelError when it cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}/config.json: cannot be read as a model's config ({error})") from error


def chat_template(family: Family) -> str:
    """The text of a family's chat template."""
    return (package_files("gemtune.models.families") / "templates" / family.template).read_text(encoding="utf-8")


def write_tiny(name: str, folder: Path) -> Path:
    """Writes the tiny model of a family into a folder that is empty or not there."""
    if name not in TINY:
        raise ModelError(f"no tiny model '{name}'; there are {', '.join(TINY)}")
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder}: not empty; name another folder")
    return TINY[name].write_tiny(folder)
