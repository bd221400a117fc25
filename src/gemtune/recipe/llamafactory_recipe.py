"""A LLaMA-Factory training YAML, flat or in sections -> a gemtune recipe, and what each of its keys became."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gemtune.data.llamafactory import INFO
from gemtune.data.paths import is_there
from gemtune.errors import RecipeError, nearest, shown
from gemtune.files import JsonObject
from gemtune.recipe.llamafactory_keys import DEFAULTS, DROPPED, NESTED, SAME, SCHEDULES, TRACKERS, WITH
from gemtune.recipe.loader import read_yaml, recipe_of, recipe_text, yaml_errors

_SEE = "see"


@dataclass(frozen=True)
class Became:
    """What a key of LLaMA-Factory became."""

    key: str
    value: object
    became: str  # gemtune's keys and values; empty where it was dropped
    why: str = ""
    unknown: bool = False  # gemtune has never heard of it

    def __str__(self) -> str:
        """
        >>> str(Became("lora_rank", 96, "lora.r: 96")), str(Became("lora_rnak", 96, "", "", True))
        ('lora_rank: 96 -> lora.r: 96', "lora_rnak: 96 -> nothing: unknown key; did you mean 'lora_rank'?")
        """
        if self.unknown:
            near = nearest(self.key, known_keys())
            reason = f"unknown key{f'; did you mean {near!r}?' if near else ''}"
        else:
            reason = self.why
        alone = reason if reason.startswith(_SEE) else f"nothing: {reason}"
        outcome = f"{self.became}{f' ({reason})' if reason else ''}" if self.became else alone
        return f"{self.key}: {_plain(self.value)} -> {outcome}"


@dataclass(frozen=True)
class Imported:
    """A recipe, and what it was made of."""

    text: str
    keys: tuple[Became, ...]


def import_recipe(path: Path) -> Imported:
    """The recipe that says the same as a LLaMA-Factory YAML; RecipeError where gemtune cannot do what it asks for."""
    text = recipe_text(path)
    with yaml_errors(path):
        value = read_yaml(text)
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: wanted LLaMA-Factory's keys and values, such as `stage: sft`")
    given = dict(_flat(value))
    if not given.get("dataset"):
        raise RecipeError(f"{path}: dataset: is missing; it names the rows to train on")
    recipe: JsonObject = {"task": "messages"}
    keys = []
    for key, settings, why in _read(given, path.parent):
        for name, setting in settings.items():
            _put(recipe, name, setting)
        words = ", ".join(f"{name}: {_plain(setting)}" for name, setting in settings.items())
        said = why if key in given else "; ".join(filter(None, ["LLaMA-Factory's default", why]))
        keys.append(Became(key, given.get(key, DEFAULTS.get(key)), words, said, not settings and not why))
    recipe_of(dict(recipe), path)  # refuses what no recipe can have, by its key
    head = f"# Imported from LLaMA-Factory's {path.name}.\n"
    return Imported(head + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), tuple(keys))


def _plain(value: object) -> str:
    """A value as YAML has it on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).removesuffix("\n...\n").strip()
    )


def _put(recipe: JsonObject, name: str, setting: object) -> None:
    """Sets `a.b` in nested data."""
    section, _, key = name.rpartition(".")
    (recipe.setdefault(section, {}) if section else recipe)[key] = setting


def _flat(value: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a file without its sections, by LLaMA-Factory's own names.

    >>> dict(_flat({"stage": "sft", "lora": {"rank": 96}, "model": {"name": "a/b", "template": "gemma3"}}))
    {'stage': 'sft', 'lora_rank': 96, 'model_name_or_path': 'a/b', 'template': 'gemma3'}
    """
    for key, inner in value.items():
        if isinstance(inner, dict) and key != "fsdp_config":
            yield from _flat(inner, str(key))
        else:
            names = (NESTED.get((section, key)), f"{section}_{key}", str(key))
            yield next((name for name in names if name in known_keys()), str(key)), inner


def known_keys() -> set[str]:
    """The keys of LLaMA-Factory of which it is known what they become."""
    return {*SAME, *DROPPED, *_RULES, *WITH}


_NO_TEST = "no test rows, as there: split.test holds some out, on which base and tuned are compared"

# --- what a key becomes -----------------------------------------------------------------------------------------------

Settings = JsonObject  # gemtune's key, such as `train.epochs` -> its value
Ruling = tuple[Settings, str]  # and why, where that needs saying


def _read(given: JsonObject, folder: Path) -> Iterator[tuple[str, Settings, str]]:
    """Yields LLaMA-Factory's keys with what they become; first those of the file, then what it leaves to defaults."""
    is_full = given.get("finetuning_type") == "full"
    unsaid = [key for key in DEFAULTS if key not in given and not (is_full and key.startswith("lora_"))]
    values = {**DEFAULTS, **given}
    for key in (*given, *unsaid):
        value = values[key]
        if key in _RULES:
            yield key, *_RULES[key](value, values, folder)
        elif key in WITH:
            yield key, {}, f"{_SEE} {WITH[key]}"
        elif value is None or key in DROPPED:
            yield key, {}, DROPPED.get(key, "it is not set")
        elif key in SAME and not (is_full and key.startswith("lora_")):
            yield key, {SAME[key]: _number(value)}, ""
        else:
            yield key, {}, "" if key not in SAME else "all weights are trained"


def _number(value: object) -> object:
    """A number that YAML has read as text, as a number.

    >>> _number("1.0e-4"), _number("cosine"), _number(3)
    (0.0001, 'cosine', 3)
    """
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _count(key: str, value: object) -> int:
    if isinstance(value, int) and value > 0:
        return value
    raise RecipeError(f"{key}: wanted a whole number from 1 on, found {shown(value)}")


def _stage(value: object, values: JsonObject, folder: Path) -> Ruling:
    if value not in ("sft", None):
        raise RecipeError(f"stage: {value}: gemtune does supervised fine-tuning, `stage: sft`, and nothing else")
    return {}, "gemtune does nothing else"


def _method(value: object, values: JsonObject, folder: Path) -> Ruling:
    if value == "full":
        return {"lora": "none"}, "every weight is trained"
    if value != "lora":
        raise RecipeError(f"finetuning_type: {shown(value)}: gemtune trains with lora or full; choose one of them")
    return {}, "LoRA is what gemtune does"


def _rank(value: object, values: JsonObject, folder: Path) -> Ruling:
    alpha = {} if "lora_alpha" in values else {"lora.alpha": 2 * _count("lora_rank", value)}
    return {"lora.r": value, **alpha}, "alpha is twice the rank there" if alpha else ""


def _target(value: object, values: JsonObject, folder: Path) -> Ruling:
    names = [name.strip() for name in str(value).split(",")]
    return {"lora.target_modules": "all-linear" if names == ["all"] else names}, ""


def _quantized(value: object, values: JsonObject, folder: Path) -> Ruling:
    return (
        ({"quantize": "nf4"}, "") if value == 4 else ({}, f"gemtune quantises to 4 bits or not at all, not to {value}")
    )


def _precision(name: str) -> Rule:
    return lambda value, values, folder: ({"train.precision": name}, "") if value else ({}, "off is off")


def _batch(value: object, values: JsonObject, folder: Path) -> Ruling:
    together = _count("gradient_accumulation_steps", values["gradient_accumulation_steps"])
    size = _count("per_device_train_batch_size", value) * together
    return {"train.batch_size": size}, "rows a step on one device; times their number on several"


def _schedule(value: object, values: JsonObject, folder: Path) -> Ruling:
    plain = "constant" if value == "constant_with_warmup" else value
    if plain in SCHEDULES:
        return {"train.schedule": plain}, ""
    return {"train.schedule": "cosine"}, f"gemtune has {', '.join(SCHEDULES)}; cosine is its default"


def _output(value: object, values: JsonObject, folder: Path) -> Ruling:
    path = Path(str(value))
    return {"runs_dir": path.parent.as_posix(), "name": path.name}, "the run directory is runs_dir/name"


def _trackers(value: object, values: JsonObject, folder: Path) -> Ruling:
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, list) else []
    known = [name for name in names if name in TRACKERS]
    return ({"track": known}, "") if known else ({}, "metrics.jsonl is always written")


def _history(value: object, values: JsonObject, folder: Path) -> Ruling:
    return ({"train.train_on": "last"}, "") if value else ({}, "all answers are trained by default")


def _prompt(value: object, values: JsonObject, folder: Path) -> Ruling:
    return {}, "gemtune trains answers only, never the prompt" if value else "the prompt is not trained"


def _trains(value: object, values: JsonObject, folder: Path) -> Ruling:
    if not values.get("freeze_vision_tower", True):
        return {"vision.trains": "tower"}, "with the projector"
    if not values.get("freeze_multi_modal_projector", True):
        return {"vision.trains": "projector"}, ""
    return {}, "frozen by default"


def _held_out(value: object, values: JsonObject, folder: Path) -> Ruling:
    size = _number(value)
    return {
        "split.val": size,
        "split.test": 0,
    }, _NO_TEST


def _datasets(value: object, values: JsonObject, folder: Path) -> Ruling:
    """Entries of dataset_info.json, which gemtune reads itself; those of eval_dataset are val."""
    place = Path(str(values.get("dataset_dir") or "data"))
    here = next((root for root in (folder, Path.cwd()) if is_there(root / place / INFO)), folder)
    info = (here / place / INFO).absolute()
    media = [str((here / str(values["media_dir"])).absolute())] if values.get("media_dir") else []
    limit = {"limit": values["max_samples"]} if values.get("max_samples") else {}
    sources = [
        {"source": f"{info}#{name}", **part, **({"images": [*media]} if media else {}), **limit}
        for names, part in ((value, {}), (values.get("eval_dataset"), {"part": "val"}))
        for name in _names(names)
    ]
    parts = {"split.val": 0, "split.test": 0} if _names(values.get("eval_dataset")) else {}
    there = ["" if is_there(info) else f"{info} is not there: mend `data`", _NO_TEST if parts else ""]
    return {"data": sources, **parts}, "; ".join(filter(None, there))


def _names(value: object) -> list[str]:
    """
    >>> _names("a, b"), _names(["a"]), _names(None)
    (['a', 'b'], ['a'], [])
    """
    texts = value if isinstance(value, list) else str(value or "").split(",")
    return [str(text).strip() for text in texts if str(text).strip()]


Rule = Callable[[object, JsonObject, Path], Ruling]
_RULES: dict[str, Rule] = {
    "stage": _stage,
    "finetuning_type": _method,
    "lora_rank": _rank,
    "lora_target": _target,
    "quantization_bit": _quantized,
    "bf16": _precision("bf16"),
    "pure_bf16": _precision("bf16"),
    "fp16": _precision("fp16"),
    "per_device_train_batch_size": _batch,
    "lr_scheduler_type": _schedule,
    "output_dir": _output,
    "report_to": _trackers,
    "mask_history": _history,
    "train_on_prompt": _prompt,
    "freeze_vision_tower": _trains,
    "freeze_multi_modal_projector": _trains,
    "val_size": _held_out,
    "dataset": _datasets,
}
