"""The files beside a merged model's weights, for transformers old and new, vLLM, Ollama, llama.cpp and MLX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.files import JsonObject, read_json, write_json
from gemtune.models.adapters import copy_tokenizer
from gemtune.models.boundary import config_values
from gemtune.models.families import config_of, family_of
from gemtune.models.families.base import Settings

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from gemtune.recipe.schema import Evaluate

# The marks of the trained span, which only transformers knows: the same tags with the same white space, always true.
_MARKS = {
    re.compile(r"\{%(-?)\s*generation\s*(-?)%\}"): r"{%\1 if true \2%}",
    re.compile(r"\{%(-?)\s*endgeneration\s*(-?)%\}"): r"{%\1 endif \2%}",
}


def write_texts(
    base: Path, folder: Path, ids: Mapping[str, int | list[int]], settings: Settings, decoding: Evaluate
) -> None:
    """Writes config, generation config, tokenizer, image processor and chat template into a folder of weights.

    `ids`: of a generation config, with every stop token. `settings`: of the image processor, where they differ.
    """
    family = family_of(base)
    write_json(folder / "config.json", with_both_spellings(config_values(base), config_of(base)))
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p} if decoding.temperature else {}
    write_json(folder / "generation_config.json", {**ids, "do_sample": bool(sampling), **sampling})
    copy_tokenizer(base, family, folder, settings)
    template = folder / "chat_template.jinja"
    template.write_text(without_marks(template.read_text(encoding="utf-8")), encoding="utf-8")
    tokenizer = folder / "tokenizer_config.json"
    # A second template would be read by some; a processor's class asks for images that a text model does not take.
    unwanted = {"chat_template"} | ({"processor_class"} if family.vision is None else set())
    if tokenizer.is_file():
        write_json(tokenizer, {key: value for key, value in read_json(tokenizer).items() if key not in unwanted})


def without_marks(template: str) -> str:
    """A chat template for programs that know no marks of a trained span.

    >>> without_marks("a {%- generation -%} b {% endgeneration %}")
    'a {%- if true -%} b {% endif %}'
    """
    for mark, tag in _MARKS.items():
        template = mark.sub(tag, template)
    return template


def with_both_spellings(values: JsonObject, config: PretrainedConfig) -> JsonObject:
    """A config.json in which rotary positions are said as transformers 5 does and as all before it: flat.

    What reads only the flat keys falls back to its defaults in silence where they are missing.
    """
    text = config.get_text_config()
    layers = getattr(text, "layer_types", None) or []
    keys = _rotary(text.rope_parameters) | _pattern(layers)
    if text is config:
        return {**values, **keys}
    name = next(name for name in ("text_config", "llm_config") if name in values)
    return {**values, name: {**values[name], **keys}}


def _rotary(rope: JsonObject) -> JsonObject:
    """
    >>> _rotary({"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0})["rope_scaling"]
    {'rope_type': 'linear', 'factor': 8.0}
    """
    full = rope.get("full_attention", rope)  # of one kind of layer, where they differ
    scaling = {key: value for key, value in full.items() if key != "rope_theta"}
    is_plain = set(scaling) <= {"rope_type"} and scaling.get("rope_type", "default") == "default"
    flat = {"rope_theta": full["rope_theta"], "rope_scaling": None if is_plain else scaling}
    local = {"rope_local_base_freq": rope["sliding_attention"]["rope_theta"]} if "sliding_attention" in rope else {}
    return {"rope_parameters": rope, **flat, **local}


def _pattern(layers: list[str]) -> JsonObject:
    """Every how many layers one sees all positions, where it is every so many.

    >>> _pattern(["sliding_attention", "full_attention", "sliding_attention"]), _pattern(["full_attention"] * 2)
    ({'sliding_window_pattern': 2}, {})
    """
    full = [number for number, kind in enumerate(layers, 1) if kind == "full_attention"]
    if len(full) in (0, len(layers)):
        return {}
    regular = list(range(full[0], len(layers) + 1, full[0])) == full
    return {"sliding_window_pattern": full[0]} if regular else {}
