"""The ONNX graph against transformers in float32: every logit, in one pass, with the cache and past the window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM

from gemtune.errors import ModelError
from gemtune.exporting.onnx_folder import text_config
from gemtune.exporting.onnx_forms import FORMS
from gemtune.exporting.onnx_graph import write_decoder
from gemtune.exporting.stored_weights import stored_weights
from gemtune.models.families import gemma3
from onnx_graphs import IDS, logits_of, reference, write


def test_every_logit_with_the_cache_and_past_the_window(tiny_model: Path, tmp_path: Path) -> None:
    wanted = reference(tiny_model, IDS)
    cuts = [1, 23, *range(24, 61)]  # a prompt, more of it, then token by token
    for end, logits in zip(cuts, logits_of(write(tiny_model, tmp_path), IDS, cuts), strict=True):
        np.testing.assert_allclose(logits[0], wanted[end - 1], atol=2e-5)


def test_one_pass_gives_what_the_cache_gives(tiny_model: Path, tmp_path: Path) -> None:
    graph = write(tiny_model, tmp_path)
    np.testing.assert_allclose(logits_of(graph, IDS, [60])[0], logits_of(graph, IDS, [30, 60])[1], atol=2e-5)


def test_padding_on_the_left_changes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    """What Transformers.js does with prompts of several lengths."""
    graph = write(tiny_model, tmp_path)
    padded = np.concatenate([np.zeros((1, 7), np.int64), IDS[:, :30]], axis=1)
    both = np.concatenate([padded, IDS[:, :37]])
    mask = np.ones(both.shape, np.int64)
    mask[0, :7] = 0
    found = logits_of(graph, both, [30, 37], mask)[1]
    np.testing.assert_allclose(found[0], reference(tiny_model, IDS)[29], atol=2e-5)
    np.testing.assert_allclose(found[1], reference(tiny_model, IDS)[36], atol=2e-5)


def test_an_untied_head_and_scaled_rotations(tmp_path: Path) -> None:
    """Gemma 3 from 4B on turns its full layers an eighth as fast; 12B has a scale of its own on the queries."""
    torch.manual_seed(3)
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    config = gemma3.tiny_text_config(300, rope_parameters=rope, query_pre_attn_scalar=11, tie_word_embeddings=False)
    model = tmp_path / "model"
    Gemma3ForCausalLM(config).save_pretrained(model)
    found = logits_of(write(model, tmp_path), IDS, [60])[0][0]
    np.testing.assert_allclose(found, reference(model, IDS)[-1], atol=2e-5)


def test_names_and_sizes_are_those_that_transformers_js_reads(tiny_model: Path, tmp_path: Path) -> None:
    path = write(tiny_model, tmp_path)
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path, load_external_data=False).graph
    inputs = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    assert list(inputs)[:3] == ["input_ids", "attention_mask", "position_ids"]
    assert inputs["past_key_values.2.value"] == ["batch_size", 2, "past_sequence_length", 16]
    assert [v.name for v in graph.output][:3] == ["logits", "present.0.key", "present.0.value"]


def test_weights_in_shards_are_the_same_graph(tiny_model: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(shards, max_shard_size="100KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    one, many = write(tiny_model, tmp_path / "one.d"), write(shards, tmp_path / "many.d")
    assert one.with_name("fp32.onnx_data").read_bytes() == many.with_name("fp32.onnx_data").read_bytes()


def test_a_weight_that_is_missing_is_named(tiny_model: Path, tmp_path: Path) -> None:
    weights = stored_weights(tiny_model)
    del weights["layers.2.mlp.up_proj.weight"]
    with pytest.raises(ModelError, match=r"no weight layers\.2\.mlp\.up_proj\.weight in the model's files"):
        write_decoder(tmp_path / "x.onnx", text_config(tiny_model), weights, FORMS["q8"], 128)
