"""A LLaMA-Factory recipe becomes a gemtune recipe that says the same; every key is accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gemtune.errors import RecipeError
from gemtune.recipe.llamafactory_recipe import Became, import_recipe
from gemtune.recipe.loader import load_recipe
from gemtune.recipe.schema import Recipe

# examples/train_lora of LLaMA-Factory 0.9, with the settings for documents.
FLAT = """
### model
model_name_or_path: google/gemma-3-4b-it
image_max_pixels: 262144
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 96
lora_alpha: 192
lora_target: all

### dataset
dataset: pages_train
eval_dataset: pages_val
dataset_dir: pages
template: gemma3
cutoff_len: 12000
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16

### output
output_dir: saves/gemma3-4b/lora
logging_steps: 10
save_steps: 50
plot_loss: true
overwrite_output_dir: true
report_to: [wandb]

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000

### eval
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 50
"""
NESTED = """
model: {name: google/gemma-3-4b-it, image_max_pixels: 262144, trust_remote_code: true}
method:
  stage: sft
  do_train: true
  finetuning_type: lora
  lora: {rank: 96, alpha: 192, target: all}
dataset:
  train: pages_train
  eval_dataset: pages_val
  dir: pages
  template: gemma3
  cutoff_len: 12000
  max_samples: 1000
  overwrite_cache: true
  preprocessing_num_workers: 16
output: {output_dir: saves/gemma3-4b/lora, logging_steps: 10, save_steps: 50, plot_loss: true, report_to: [wandb]}
train:
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 8
  learning_rate: 1.0e-4
  num_train_epochs: 3.0
  lr_scheduler_type: cosine
  warmup_ratio: 0.1
  bf16: true
eval: {per_device_eval_batch_size: 1, strategy: steps, eval_steps: 50}
"""


def imported(folder: Path, text: str) -> tuple[Recipe, dict[str, Became]]:
    (folder / "lf.yaml").write_text(text, encoding="utf-8")
    result = import_recipe(folder / "lf.yaml")
    (folder / "recipe.yaml").write_text(result.text, encoding="utf-8")
    return load_recipe(folder / "recipe.yaml"), {key.key: key for key in result.keys}


def test_settings_become_those_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "dataset_info.json").write_text("{}")
    recipe, keys = imported(tmp_path, FLAT)
    assert (recipe.model, recipe.task, recipe.runs_dir, recipe.name) == (
        "google/gemma-3-4b-it",
        "messages",
        "saves/gemma3-4b",
        "lora",
    )
    assert recipe.lora and (recipe.lora.r, recipe.lora.alpha, recipe.lora.target_modules) == (96, 192, "all-linear")
    train = recipe.train
    assert (train.batch_size, train.learning_rate, train.epochs, train.schedule) == (8, 1e-4, 3.0, "cosine")
    assert (train.warmup_ratio, train.max_length, train.eval_steps, train.save_steps) == (0.1, 12000, 50, 50)
    assert (train.precision, train.seed, recipe.track) == ("bf16", 42, ["wandb"])  # 42 is LLaMA-Factory's own
    info = tmp_path / "pages" / "dataset_info.json"
    assert [(data.source, data.part, data.limit) for data in recipe.data] == [
        (f"{info}#pages_train", "auto", 1000),
        (f"{info}#pages_val", "val", 1000),
    ]
    assert (recipe.split.val, recipe.split.test) == (0, 0)
    assert keys.keys() >= yaml.safe_load(FLAT).keys()
    assert not any(key.unknown for key in keys.values())
    assert str(keys["dataset_dir"]) == "dataset_dir: pages -> see dataset"
    assert str(keys["template"]) == "template: gemma3 -> nothing: the model's own chat template is used"


def test_the_nested_form_says_the_same(tmp_path: Path) -> None:
    recipe, keys = imported(tmp_path, NESTED)
    assert recipe == imported(tmp_path, FLAT)[0]
    assert not any(key.unknown for key in keys.values())


def test_what_a_file_leaves_to_llamafactory_is_said(tmp_path: Path) -> None:
    recipe, keys = imported(tmp_path, "model_name_or_path: a/b\ndataset: d\nfinetuning_type: full\n")
    assert recipe.lora is None
    train = recipe.train
    assert (train.learning_rate, train.batch_size, train.schedule, train.max_length) == (5e-5, 8, "linear", 2048)
    assert str(keys["learning_rate"]) == (
        "learning_rate: 5.0e-05 -> train.learning_rate: 5.0e-05 (LLaMA-Factory's default)"
    )
    assert "dataset_info.json is not there: mend `data`" in str(keys["dataset"])


def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    _, keys = imported(tmp_path, "model_name_or_path: a/b\ndataset: d\nlora_rnak: 8\nflux: {capacitor: 1}\n")
    assert [name for name, key in keys.items() if key.unknown] == ["lora_rnak", "capacitor"]
    assert str(keys["lora_rnak"]) == "lora_rnak: 8 -> nothing: unknown key; did you mean 'lora_rank'?"


ROWS = "model_name_or_path: a/b\ndataset: d\n"
SETTINGS: list[tuple[str, str, Any]] = [
    ("val_size: 0.1", "split.val", 0.1),
    ("quantization_bit: 4", "quantize", "nf4"),
    ("lora_target: q_proj, v_proj", "lora.target_modules", ["q_proj", "v_proj"]),
    ("lora_rank: 32", "lora.alpha", 64),
    ("mask_history: true", "train.train_on", "last"),
    ("freeze_vision_tower: false", "vision.trains", "tower"),
    ("freeze_multi_modal_projector: false", "vision.trains", "projector"),
    ("lr_scheduler_type: constant_with_warmup", "train.schedule", "constant"),
    ("lr_scheduler_type: polynomial", "train.schedule", "cosine"),
    ("learning_rate: 1e-4", "train.learning_rate", 1e-4),
    ("fp16: true", "train.precision", "fp16"),
    ("report_to: none", "track", []),
    ("quantization_bit: 8", "quantize", "none"),
]


@pytest.mark.parametrize(("line", "key", "value"), SETTINGS)
def test_a_setting(tmp_path: Path, line: str, key: str, value: object) -> None:
    recipe: Any = imported(tmp_path, ROWS + line)[0]
    for part in key.split("."):
        recipe = getattr(recipe, part)
    assert recipe == value


REFUSED = {
    "another stage": (ROWS + "stage: dpo", "stage: dpo: gemtune does supervised fine-tuning"),
    "another method": (ROWS + "finetuning_type: freeze", "gemtune trains with lora or full; choose one"),
    "no rows": ("model_name_or_path: a/b", "lf.yaml: dataset: is missing"),
    "a number of 5,000 digits": ("dataset: " + "9" * 5000, "lf.yaml: a value YAML cannot make sense of ("),
    "an alias": ("dataset: &a [*a]", "lf.yaml: line 1: an anchor or alias"),
    "not YAML": ("a: [", "lf.yaml:1: not YAML ("),
    "a list": ("- a", "lf.yaml: wanted LLaMA-Factory's keys and values"),
    "a value that cannot be": (ROWS + "num_train_epochs: many", "train.epochs: wanted a valid number, found 'many'"),
    "a batch of words": (ROWS + "per_device_train_batch_size: many", "_batch_size: wanted a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_imported_is_one_line(tmp_path: Path, what: str) -> None:
    text, wanted = REFUSED[what]
    with pytest.raises(RecipeError) as error:
        imported(tmp_path, text)
    assert wanted in str(error.value)


def test_a_folder_with_too_long_a_name_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(FLAT) | {"dataset_dir": "a" * 400}), encoding="utf-8")
    became = {key.key: key.why for key in import_recipe(path).keys}
    assert "is not there: mend `data`" in became["dataset"]
