"""A language model as GGUF: its values, and its greedy tokens in llama.cpp, or one line that says what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from exporting.gguf_models import SIZES, same_tokens, write_text_model, write_vision_model
from gemtune.errors import ModelError
from gemtune.exporting.gguf_encodings import EXACT
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.exporting.plain import PlainRuntime
from gemtune.models.families import write_tiny

gguf = pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")

SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied head": {"tie_word_embeddings": False},
    "27B's scale": {
        "num_hidden_layers": 62,
        "layer_types": (SIZES["layer_types"] * 11)[:62],
        "query_pre_attn_scalar": 16,  # its width by its heads
    },
    "linear positions": {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        }
    },
    "each third layer": {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2},
    "no layer": {"layer_types": ["sliding_attention"] * 6},
    "other bases": {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 300_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        }
    },
}
PROMPTS = [[2, 105, *range(300, 340)], [2, *range(600, 660, 3)], [2, 400, 500, 600]]


def values_of(path: Path) -> dict[str, np.ndarray]:
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("shape", SHAPES)
def test_llama_cpp_chooses_the_same_tokens(shape: str, tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "model", **SHAPES[shape])
    path = write_language_model(folder, tmp_path / "m.gguf", "f32")
    with LlamaCpp(path) as runtime:
        assert same_tokens(runtime, plain(folder), PROMPTS, 24) >= 48


def plain(folder: Path) -> PlainRuntime:
    generation = folder / "generation_config.json"
    generation.write_text(json.dumps({**json.loads(generation.read_text()), "eos_token_id": [106, 1]}))
    return PlainRuntime.of(folder)


@pytest.mark.parametrize("encoding", [*EXACT, "q8_0"])
def test_every_value_is_the_models(encoding: str, tmp_path: Path) -> None:
    """Within what the encoding rounds: half of 1/127 of a block's largest, 2^-11 (F16) and 2^-9 (BF16) of a value."""
    folder = write_text_model(tmp_path / "model", tie_word_embeddings=False)
    weights = load_file(folder / "model.safetensors")
    values = values_of(write_language_model(folder, tmp_path / "m.gguf", encoding))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, SIZES["num_hidden_layers"])
    assert len(values) == len(weights)
    for name, weight in weights.items():
        whole = weight.float().numpy() + (1 if weight.ndim == 1 else 0)
        value = values[names.get_name(name.removesuffix(".weight")) + ".weight"]
        blocks = np.abs(whole).reshape(-1, 32).max(1, keepdims=True).repeat(32, 1).reshape(whole.shape)
        bounds = {"f32": 0 * blocks, "f16": np.abs(whole) / 2**11 + 1e-7, "bf16": np.abs(whole) / 2**8}
        bounds["q8_0"] = blocks * (0.5 / 127 + 2**-11) + 1e-7
        assert (np.abs(value - whole) <= bounds[encoding if whole.ndim > 1 else "f32"]).all(), name


def test_the_three_spellings_of_a_vision_model_give_one_file(tmp_path: Path) -> None:
    folder = write_vision_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    written = write_language_model(folder, tmp_path / "a.gguf", "q8_0").read_bytes()
    for number, (old, new) in enumerate(
        [("language_model.model.", "model.language_model."), ("vision_tower.", "model.vision_tower.")]
    ):
        spelled = {name.replace(old, new) if name.startswith(old) else name: value for name, value in weights.items()}
        assert spelled.keys() != weights.keys()
        save_file(spelled, folder / "model.safetensors", metadata={"format": "pt"})
        assert write_language_model(folder, tmp_path / f"{number}.gguf", "q8_0").read_bytes() == written
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert reader.fields["tokenizer.ggml.tokens"].contents()[-1] == "<image_soft_token>"


def test_tokens_without_a_row_are_left_out(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "model")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokens = len(load_file(folder / "model.safetensors")["model.embed_tokens.weight"])
    entry = {**tokenizer["added_tokens"][0], "id": tokens, "content": "<image_soft_token>"}
    tokenizer["added_tokens"].append(entry)
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    reader = gguf.GGUFReader(write_language_model(folder, tmp_path / "m.gguf", "f32"))
    assert len(reader.fields["tokenizer.ggml.tokens"].contents()) == tokens


def test_rows_without_a_token_are_left_out(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "model")
    tokens = len(load_file(folder / "model.safetensors")["model.embed_tokens.weight"])
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    name = "model.embed_tokens.weight"
    weights[name] = torch.cat([weights[name], torch.zeros(64, 64)])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": tokens + 64}))
    values = values_of(write_language_model(folder, tmp_path / "m.gguf", "f32"))
    assert len(values["token_embd.weight"]) == tokens


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("layer_types", SIZES["layer_types"][::-1], r"layer_types is .*full_attention"),
        ("query_pre_attn_scalar", 33, r"query_pre_attn_scalar is 33; llama.cpp computes with 32"),
        ("final_logit_softcapping", 30.0, r"final_logit_softcapping is 30.0; llama.cpp computes with None"),
        ("hidden_activation", "silu", r"hidden_activation is 'silu'"),
        ("use_bidirectional_attention", True, r"use_bidirectional_attention is True"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_one_line(
    key: str, value: object, words: str, tmp_path: Path
) -> None:
    folder = write_text_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ModelError, match=words):
        write_language_model(folder, tmp_path / "m.gguf", "f32")
    assert not (tmp_path / "m.gguf").exists()


@pytest.mark.parametrize("name", ["qwen3-vl", "llava", "llava-onevision"])
def test_an_architecture_that_is_not_known_is_one_line(name: str, tmp_path: Path) -> None:
    folder = write_tiny(name, tmp_path / "model")
    with pytest.raises(ModelError, match=r"gemtune writes no GGUF of a \w+ model, only of gemma3_text, gemma3, qwen3"):
        write_language_model(folder, tmp_path / "m.gguf", "f32")


def test_qwen3_chooses_the_same_tokens(tmp_path: Path) -> None:
    folder = write_tiny("qwen3", tmp_path / "model")
    path = write_language_model(folder, tmp_path / "m.gguf", "f32")
    with LlamaCpp(path) as runtime, PlainRuntime.of(_with_stops(folder)) as reference:
        assert same_tokens(runtime, reference, PROMPTS, 24) >= 48


def _with_stops(folder: Path) -> Path:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = [entry["id"] for entry in tokenizer["added_tokens"] if entry["content"] in ("<|im_end|>", "<|endoftext|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    return folder


def test_a_weight_that_is_missing_is_one_line(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.3.self_attn.q_norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"has no layers.3.self_attn.q_norm.weight"):
        write_language_model(folder, tmp_path / "m.gguf", "f32")
