"""A vision tower as GGUF: llama.cpp answers about pictures as PyTorch does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from exporting.gguf_models import alike, write_vision_model
from gemtune.errors import GemtuneError, ModelError
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.exporting.mmproj import write_projector
from gemtune.exporting.plain import PlainRuntime
from gemtune.models.families import config_of, family_of
from gemtune.models.loading import load_image_processor, load_tokenizer

gguf = pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")

SIDE = 56  # pixels of the tiny model's images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_vision_model(tmp_path_factory.mktemp("vision") / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [106, 1]}))
    write_language_model(folder, folder / "model.gguf", "f32")
    write_projector(folder, folder / "mmproj.gguf", "f32")
    return folder


def prompt(folder: Path, images: int) -> list[int]:
    image = family_of(folder).vision.image_text(config_of(folder), load_image_processor(folder), (SIDE, SIDE), True, {})
    text = (
        f"<bos><start_of_turn>user\n{image.join(['what is this'] * (images + 1))}<end_of_turn>\n<start_of_turn>model\n"
    )
    return list(load_tokenizer(folder)(text, add_special_tokens=False)["input_ids"])


def pictures(folder: Path, count: int, side: int = SIDE) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        squares = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        paths.append(folder / f"{number}-{side}.png")
        squares.resize((side, side), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def test_ten_pictures_are_answered_as_in_pytorch(folder: Path, tmp_path: Path) -> None:
    replies = []
    with (
        LlamaCpp(folder / "model.gguf", projector=folder / "mmproj.gguf") as runtime,
        PlainRuntime.of(folder) as reference,
    ):
        for path in pictures(tmp_path, 10):
            replies.append(reference.decode(prompt(folder, 1), 8, [path]))
            assert alike(runtime.decode(prompt(folder, 1), 8, [path]), replies[-1]) > 0
    assert len({tuple(choice.token for choice in reply) for reply in replies}) > 5, "a picture changes the answer"


def test_two_pictures_stay_in_their_order(folder: Path, tmp_path: Path) -> None:
    first, second = pictures(tmp_path, 2)
    with (
        LlamaCpp(folder / "model.gguf", projector=folder / "mmproj.gguf") as runtime,
        PlainRuntime.of(folder) as reference,
    ):
        for pair in ([first, second], [second, first]):
            reply = reference.decode(prompt(folder, 2), 8, pair)
            assert alike(runtime.decode(prompt(folder, 2), 8, pair), reply) > 0


def test_pictures_and_their_places_must_be_as_many(folder: Path, tmp_path: Path) -> None:
    with (
        LlamaCpp(folder / "model.gguf", projector=folder / "mmproj.gguf") as runtime,
        pytest.raises(
            GemtuneError, match=r"a prompt with 2 pictures for 1 images; .*train without vision.pan_and_scan"
        ),
    ):
        runtime.decode(prompt(folder, 2), 4, pictures(tmp_path, 1))


def test_half_the_bits_are_half_the_file(folder: Path, tmp_path: Path) -> None:
    write_projector(folder, tmp_path / "half.gguf", "f16")
    tensors = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "half.gguf").tensors}
    assert {name for name, kind in tensors.items() if kind == "F16"} == {
        "mm.input_projection.weight",
        *(
            f"v.blk.{number}.{name}.weight"
            for number in range(2)
            for name in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down")
        ),
    }


def test_a_tower_that_lacks_a_weight_is_one_line(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "model"
    damaged.mkdir()
    for path in folder.glob("*.json"):
        (damaged / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("post_layernorm.bias"))
    save_file({key: value for key, value in weights.items() if key != name}, damaged / "model.safetensors")
    with pytest.raises(ModelError, match=r"vision_tower.post_layernorm.bias"):
        write_projector(damaged, tmp_path / "x.gguf", "f16")
