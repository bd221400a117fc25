"""The table of model families, one file each, by the `model_type` of transformers."""

from __future__ import annotations

import shutil
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import ModelError
from gemtune.files import JsonObject
from gemtune.models.boundary import config_values, loading, saving
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
    return FAMILIES[_model_type(config_values(folder), folder)]


def config_of(folder: Path) -> PretrainedConfig:
    """The config of a model folder, of an architecture that gemtune knows; ModelError when it cannot be read.

    A config may name code (`auto_map`, an attention of the Hub): none of it is kept, so transformers finds none to run.
    """
    from transformers import CONFIG_MAPPING

    values = config_values(folder)
    kind = CONFIG_MAPPING[_model_type(values, folder)]
    with loading(folder / "config.json"):
        config: PretrainedConfig = kind.from_dict(values)
    return config


def _model_type(values: JsonObject, folder: Path) -> str:
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ModelError(
            f"{folder}: model type {str(model_type)[:60]!r} is not supported; supported: {', '.join(FAMILIES)}"
        )
    return model_type


def chat_template(family: Family) -> str:
    """The text of a family's chat template."""
    return (package_files("gemtune.models.families") / "templates" / family.template).read_text(encoding="utf-8")


def write_tiny(name: str, folder: Path) -> Path:
    """Writes the tiny model of a family as a folder that is empty or not there: whole, or not at all."""
    if name not in TINY:
        raise ModelError(f"no tiny model '{name}'; there are {', '.join(TINY)}")
    temporary = folder.with_name(f".{folder.name}.tmp")
    with saving(folder):
        if folder.exists() and any(folder.iterdir()):
            raise ModelError(f"{folder}: not empty; name another folder")
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        try:
            TINY[name].write_tiny(temporary)
            if folder.exists():
                folder.rmdir()
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
