"""What an error about a model's folder advises is done; then the model loads. What it is asked for, too."""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gemtune.errors import ModelError
from gemtune.models.families import write_tiny
from gemtune.models.hub import find_model
from gemtune.models.loading import load_image_processor, load_model, load_tokenizer

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
Spoil = Callable[[Path], Any]


def config(**values: Any) -> Spoil:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Spoil:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / SINGLE)
        change(tensors)
        save_file(tensors, folder / SINGLE, {"format": "pt"})

    return spoil


def index(text: str) -> Spoil:
    return lambda folder: ((folder / SINGLE).unlink(), (folder / INDEX).write_text(text))


def first(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name in sorted(tensors) if name.endswith("q_proj.weight"))


# what is wrong with the folder -> (what spoils it, words of the error, which name one of: fetch it again, give another)
FOLDERS: dict[str, tuple[Spoil, str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "a folder without config.json; wanted a model in the Hugging Face layout"),
    "a config that is a list": (lambda folder: (folder / "config.json").write_text("[]"), "not a model's config: wanted an object with `model_type`"),
    "quantised weights": (config(quantization_config={"bits": 4}), "give the model that they were made from, and quantize: nf4 if it should be small"),
    "a broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded (JSONDecodeError"),
    "no weights": (lambda folder: (folder / SINGLE).unlink(), "gemtune reads safetensors alone: convert the weights, or fetch them again"),
    "an index of nothing": (index('{"weight_map": {}}'), "names no file; fetch the model again"),
    "an index of a file that is not there": (index('{"weight_map": {"a": "b.safetensors"}}'), "which is no file in the folder; fetch the model again"),
    "weights of another size": (config(vocab_size=999_999), "they are not of one model: fetch it again"),
    "a weight that is missing": (weights(lambda tensors: tensors.update(extra=tensors.pop(first(tensors)))), "they are of another model, or cut: fetch it again"),
    "weights of another kind": (weights(lambda tensors: tensors.update({first(tensors): tensors[first(tensors)].to(torch.int8)})), "give the model that these weights were made from"),
}  # fmt: skip


def loaded(folder: Path) -> object:
    folder, _ = find_model(str(folder))
    load_tokenizer(folder)
    return load_model(folder)


@pytest.mark.parametrize("what", FOLDERS)
def test_a_model_that_is_fetched_again_loads(tmp_path: Path, tiny_model: Path, what: str) -> None:
    spoil, words = FOLDERS[what]
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    spoil(folder)
    with pytest.raises(ModelError) as error:
        loaded(folder)
    assert words in str(error.value), str(error.value)
    shutil.rmtree(folder)
    assert loaded(shutil.copytree(tiny_model, folder))


def test_a_model_that_the_hub_does_not_give_is_given_as_a_folder(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="or give a folder"):
        find_model("nobody/nothing")  # the tests are offline
    assert loaded(tiny_model)


def test_a_tiny_model_goes_into_another_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ModelError, match="not empty; name another folder"):
        write_tiny("gemma3", tmp_path)
    assert loaded(write_tiny("gemma3", tmp_path / "other"))


def test_an_image_processor_of_huge_pictures_is_fetched_again(tmp_path: Path) -> None:
    folder = write_tiny("gemma3-vision", tmp_path / "model")
    path = folder / "processor_config.json"
    text = path.read_text()
    path.write_text(text.replace('"height": 56', '"height": 99999'))
    with pytest.raises(ModelError, match="pixels: fetch the model again, or give another one"):
        load_image_processor(folder)
    path.write_text(text)
    assert load_image_processor(folder)
