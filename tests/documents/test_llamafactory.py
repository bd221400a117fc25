"""The data set of LLaMA-Factory: what is in it, and that LLaMA-Factory's own parser and loader take it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from gemtune.documents.folder import DistilledFolder
from gemtune.documents.llamafactory import TEMPLATES, write_llamafactory
from gemtune.errors import DataError
from gemtune.models.families import FAMILIES, write_tiny
from gemtune.recipe.llamafactory_recipe import import_recipe
from gemtune.recipe.loader import parse_recipe

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the package benchmarks

from benchmarks.studies.llamafactory_reads import read_by_llamafactory  # noqa: E402

PEER = ROOT / "benchmarks" / ".venvs" / "llamafactory" / "bin" / "python"  # python -m benchmarks.compare.bench makes it
PARTS = ["train"] * 9 + ["val"] * 3


def exported(root: Path, model: str = "google/gemma-3-4b-it", parts: list[str] = PARTS, keys: str = "") -> Path:
    recipe = parse_recipe(
        f"name: letters\ntask: documents\npages: {{source: in, folder: {root}}}\n{keys}", root / "r.yaml"
    )
    folder = DistilledFolder.of(recipe)
    (folder.images / "ab").mkdir(parents=True)
    with folder.rows_file.open("w", encoding="utf-8") as out:
        for number in range(12):
            Image.new("L", (85, 110), 100 + number).save(folder.images / "ab" / f"{number}.png")
            answer = json.dumps({"text": f"صفحة {number} <image>"}, ensure_ascii=False)
            row = {"group": f"{number}.pdf", "prompt": "Read it.", "answer": answer, "image": f"images/ab/{number}.png"}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    write_llamafactory(folder, recipe, parts, model, "gemma3")
    return folder.llamafactory


def config(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "train.yaml").read_text(encoding="utf-8")))


def test_rows_are_sharegpt_with_one_image_each(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    train, val = (json.loads((folder / f"{part}.json").read_text(encoding="utf-8")) for part in ("train", "val"))
    assert (len(train), len(val)) == (9, 3)
    human, gpt = train[0]["conversations"]
    assert (human["from"], human["value"], gpt["from"]) == ("human", "<image>Read it.", "gpt")
    assert json.loads(gpt["value"]) == {"text": "صفحة 0 <image>"}  # the same text, and no placeholder of an image
    assert "<image>" not in gpt["value"] and "صفحة" in gpt["value"]
    assert (folder / ".." / train[0]["images"][0]).is_file()
    info = json.loads((folder / "dataset_info.json").read_text())
    assert {name: entry["file_name"] for name, entry in info.items()} == {
        "letters_train": "train.json",
        "letters_val": "val.json",
    }


def test_the_settings_are_those_of_the_recipe(tmp_path: Path) -> None:
    keys = "lora: {r: 96, alpha: 192}\ntrain: {batch_size: 8, learning_rate: 1e-4, eval_steps: 50, max_length: 12000}\n"
    settings = config(exported(tmp_path, keys=keys))
    wanted = {"lora_rank": 96, "lora_alpha": 192, "gradient_accumulation_steps": 8, "learning_rate": 1e-4}
    wanted |= {"eval_steps": 50, "save_steps": 50, "cutoff_len": 12000, "lora_target": "all", "template": "gemma3"}
    assert wanted.items() <= settings.items()


def test_what_is_exported_and_imported_again_says_the_same(tmp_path: Path) -> None:
    keys = "lora: {r: 96, alpha: 192}\ntrain: {batch_size: 8, learning_rate: 1e-4, max_length: 12000, seed: 3}\n"
    folder = exported(tmp_path, keys=keys)
    imported = import_recipe(folder / "train.yaml")
    assert not any(key.unknown for key in imported.keys)
    recipe = parse_recipe(imported.text, folder / "again.yaml")
    assert recipe.lora and (recipe.lora.r, recipe.lora.alpha) == (96, 192)
    assert (recipe.train.batch_size, recipe.train.learning_rate, recipe.train.max_length) == (8, 1e-4, 12000)
    assert [data.part for data in recipe.data] == ["auto", "val"]


def test_without_val_rows_nothing_is_evaluated(tmp_path: Path) -> None:
    settings = config(exported(tmp_path, parts=["train"] * 12))
    assert not {"eval_dataset", "eval_steps", "eval_strategy", "early_stopping_steps", "load_best_model_at_end"} & {
        *settings
    }


def test_without_train_rows_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row is left to train on; lower split.val and split.test"):
        exported(tmp_path, parts=["val"] * 12)


def test_templates_are_of_families_that_gemtune_trains() -> None:
    assert TEMPLATES.keys() <= {family.name for family in FAMILIES.values()}


@pytest.mark.skipif(not PEER.exists(), reason="python -m benchmarks.studies.llamafactory_reads makes its environment")
def test_llamafactorys_own_parser_and_loader_take_it(tmp_path: Path) -> None:
    model = write_tiny("gemma3-vision", tmp_path / "tiny")
    keys = "lora: {r: 96}\ntrain: {batch_size: 8, max_length: 4000}\n"
    read = read_by_llamafactory(str(PEER), exported(tmp_path, model=str(model), keys=keys))
    assert (read["arguments"]["lora_rank"], read["arguments"]["rows a step"]) == (96, 8)
    assert {part: (rows["rows"], rows["images"]) for part, rows in read["parts"].items()} == {
        "train": (9, 9),
        "eval": (3, 3),
    }
    assert all(count > 0 for rows in read["parts"].values() for count in rows["labelled"])
