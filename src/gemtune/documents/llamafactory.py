"""rows.jsonl -> a data set of LLaMA-Factory: train.json, val.json, dataset_info.json and the YAML that trains on it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

import yaml

from gemtune.data.llamafactory import INFO
from gemtune.documents.folder import DistilledFolder
from gemtune.errors import DataError
from gemtune.files import JsonObject, read_jsonl, replacing, write_json, write_text
from gemtune.recipe.llamafactory_keys import SAME
from gemtune.recipe.schema import Recipe

CONFIG = "train.yaml"
# A model's architecture -> the name of its chat template there.
TEMPLATES = {
    "gemma3": "gemma3",
    "gemma3-vision": "gemma3",
    "qwen3": "qwen3_nothink",
    "qwen3-vl": "qwen3_vl_nothink",
    "llava": "llava",
}
_LEARNING_RATE = {True: 2e-4, False: 2e-5}  # with adapters, of all weights: gemtune's own where a recipe has none
_EVALUATIONS = 10  # a run, where the recipe leaves it to gemtune; LLaMA-Factory would take one a step
_MOST_PIXELS = (
    100_000_000  # LLaMA-Factory shrinks larger images; page images go to the model's own processor as they are
)
_PLACEHOLDER = re.compile("<(?=(?:image|video|audio)>)")  # text that LLaMA-Factory takes for an image


def write_llamafactory(
    folder: DistilledFolder, recipe: Recipe, part_of_rows: Sequence[str], model: str, template: str
) -> dict[str, int]:
    """Writes the data set into `folder.llamafactory` and returns the rows of each part.

    `part_of_rows` has the part of each row; `model` is a folder or an id of the Hub, `template` its template there.
    """
    rows: dict[str, list[JsonObject]] = {"train": [], "val": [], "test": []}
    for row, part in zip(read_jsonl(folder.rows_file), part_of_rows, strict=True):
        rows[part].append(_conversation(row))
    counts = {part: len(of_part) for part, of_part in rows.items() if of_part}
    if "train" not in counts:
        raise DataError(f"{folder.rows_file}: no row is left to train on; lower split.val and split.test")
    root = folder.llamafactory
    for part in counts:
        with replacing(root / f"{part}.json") as out:
            out.write("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows[part]) + "\n]\n")
    entries = {_name(recipe, part): {"file_name": f"{part}.json", **_LAYOUT} for part in counts}
    write_json(root / INFO, entries)
    settings = _settings(recipe, counts, model, template)
    head = f"# The rows of {recipe.name}. Run it in this folder: llamafactory-cli train {CONFIG}\n"
    write_text(root / CONFIG, head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    return counts


_LAYOUT = {"formatting": "sharegpt", "columns": {"messages": "conversations", "images": "images"}}


def _name(recipe: Recipe, part: str) -> str:
    """The name of a part in dataset_info.json; commas and spaces divide names there."""
    return f"{recipe.name}_{part}"


def _conversation(row: JsonObject) -> JsonObject:
    """A row as ShareGPT with its image; what looks like an image in its text is written so that it does not.

    >>> row = {"prompt": "Read it.", "answer": '{"a": "<image> 1"}', "image": "images/ab/ab.png"}
    >>> _conversation(row)["conversations"][1]["value"]
    '{"a": "\\\\u003cimage> 1"}'
    """
    prompt, answer = _PLACEHOLDER.sub("< ", row["prompt"]), _PLACEHOLDER.sub(r"\\u003c", row["answer"])
    return {
        "conversations": [{"from": "human", "value": f"<image>{prompt}"}, {"from": "gpt", "value": answer}],
        "images": [row["image"]],
    }


def _settings(recipe: Recipe, counts: Mapping[str, int], model: str, template: str) -> JsonObject:
    """The flat training configuration; what a recipe leaves to gemtune has gemtune's choice."""
    train, has_val = recipe.train, "val" in counts
    values: JsonObject = {"model_name_or_path": model}
    for theirs, ours in SAME.items():
        section, _, key = ours.partition(".")
        value = getattr(getattr(recipe, section), key, None) if key else None
        if section in ("train", "lora") and value is not None:
            values[theirs] = value
    values["learning_rate"] = train.learning_rate or _LEARNING_RATE[recipe.lora is not None]
    steps = train.max_steps or math.ceil(counts["train"] / train.batch_size) * train.epochs
    values["eval_steps"] = train.eval_steps or max(1, round(steps / _EVALUATIONS))
    values["save_steps"] = train.save_steps or values["eval_steps"]
    is_best_kept = has_val and values["save_steps"] % values["eval_steps"] == 0
    if not has_val:
        del values["eval_steps"]
    if not is_best_kept:
        values.pop("early_stopping_steps", None)
    return {
        **values,
        "stage": "sft",
        "do_train": True,
        "template": template,
        **_method(recipe),
        "dataset_dir": ".",
        "media_dir": "..",
        "dataset": _name(recipe, "train"),
        **({"eval_dataset": _name(recipe, "val"), "eval_strategy": "steps"} if has_val else {}),
        **({"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"} if is_best_kept else {}),
        "image_max_pixels": _MOST_PIXELS,
        "output_dir": f"saves/{recipe.name}",
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": train.batch_size,
        "bf16": train.precision in ("auto", "bf16"),
        "fp16": train.precision == "fp16",
        "report_to": list(recipe.track) or "none",
        "freeze_vision_tower": recipe.vision.trains != "tower",
        "freeze_multi_modal_projector": recipe.vision.trains == "text",
    }


def _method(recipe: Recipe) -> JsonObject:
    if recipe.lora is None:
        return {"finetuning_type": "full"}
    names = recipe.lora.target_modules
    target = "all" if names == "all-linear" else ",".join(names)
    quantized = {"quantization_bit": 4, "quantization_method": "bnb"} if recipe.quantize == "nf4" else {}
    return {"finetuning_type": "lora", "lora_target": target, **quantized}
