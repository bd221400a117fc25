"""What stands beside the weights: read by transformers with either spelling, and the prompt is the training prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer, GenerationConfig

from exporting.tuned_models import stock, tuned_model
from gemtune.data.conversation import Conversation, Message
from gemtune.exporting.texts import with_both_spellings
from gemtune.files import read_json, write_json
from gemtune.models.families import TINY, config_of, family_of, write_tiny
from gemtune.models.loading import load_tokenizer
from gemtune.rendering.renderer import Renderer

FLAT = ("rope_theta", "rope_scaling", "rope_local_base_freq", "sliding_window_pattern")


def section(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    text: dict[str, Any] = config.get("text_config", config)
    return text


@pytest.mark.parametrize("family", TINY)
def test_it_loads_with_both_spellings_or_either(family: str, tmp_path: Path) -> None:
    """The nested keys and the flat ones say the same, so that a reader of one has the model of the other."""
    merged = tmp_path / "merged"
    tuned_model(family, tmp_path).merge(merged)
    config = read_json(merged / "config.json")
    text, ids = section(merged), torch.tensor([[5, 6, 7, 8, 9] * 8])  # beyond the sliding window
    assert {"rope_theta", "rope_scaling", "rope_parameters"} <= text.keys()
    logits = stock(merged)(ids).logits
    for gone in (("rope_parameters",), FLAT):
        kept = {key: value for key, value in text.items() if key not in gone}
        write_json(merged / "config.json", {**config, "text_config": kept} if "text_config" in config else kept)
        assert torch.equal(stock(merged)(ids).logits, logits), gone


def test_scaled_positions_are_said_flat_too(tmp_path: Path) -> None:
    """Gemma 3 from 4B on: its full layers are scaled by 8, its sliding ones are not."""
    base = write_tiny("gemma3-vision", tmp_path / "base")
    config = read_json(base / "config.json")
    full = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    rope = {"full_attention": full, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    config["text_config"]["rope_parameters"] = rope
    write_json(base / "config.json", config)
    text = with_both_spellings(config, config_of(base))["text_config"]
    assert text["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    assert (text["rope_theta"], text["rope_local_base_freq"], text["sliding_window_pattern"]) == (1e6, 1e4, 3)
    flat = {key: value for key, value in text.items() if key != "rope_parameters"}
    write_json(base / "config.json", {**config, "text_config": flat})
    assert AutoConfig.from_pretrained(base).text_config.rope_parameters == config_of(base).text_config.rope_parameters
    assert AutoConfig.from_pretrained(base).text_config.rope_parameters["full_attention"]["factor"] == 8.0


@pytest.mark.parametrize("family", TINY)
def test_the_prompt_is_the_training_prompt(family: str, tmp_path: Path) -> None:
    """By the tokenizer and the template in the folder, whose marks of the trained span no other program knows."""
    merged = tmp_path / "merged"
    base = tuned_model(family, tmp_path).base
    tuned_model(family, tmp_path / "2").merge(merged)
    messages = [Message.of("user", "rain today 🌧️"), Message.of("assistant", "x")]
    conversation = Conversation((*messages, *messages), task="t", key="k", group="g", where="w")
    wanted = Renderer(load_tokenizer(base), family_of(base)).prompt_ids(conversation)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    turns = [{"role": message.role, "content": message.text} for message in conversation.messages[:-1]]
    found = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert found["input_ids"] == wanted
    assert "generation" not in (merged / "chat_template.jinja").read_text().replace("add_generation_prompt", "")


def test_every_stop_token_is_named(tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    tuned_model("gemma3", tmp_path).merge(merged)
    config = GenerationConfig.from_pretrained(merged)
    assert config.eos_token_id == load_tokenizer(merged).convert_tokens_to_ids(["<end_of_turn>", "<eos>"])
    assert config.do_sample is False


def test_a_text_model_names_no_processor(tmp_path: Path) -> None:
    """With Gemma's `processor_class` AutoProcessor would look for an image processor, and servers answer 500."""
    tuned, merged = tuned_model("gemma3", tmp_path), tmp_path / "merged"
    path = tuned.base / "tokenizer_config.json"
    said = {"processor_class": "Gemma3Processor", "chat_template": "{{ 'another' }}"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    tuned.merge(merged)
    assert not said.keys() & read_json(merged / "tokenizer_config.json").keys()
    assert type(AutoProcessor.from_pretrained(merged)).__name__ == type(AutoTokenizer.from_pretrained(merged)).__name__


@pytest.mark.parametrize("family", [name for name, family in TINY.items() if family.vision])
def test_a_vision_model_keeps_its_image_processor(family: str, tmp_path: Path) -> None:
    tuned, merged = tuned_model(family, tmp_path), tmp_path / "merged"
    tuned.merge(merged)
    before, after = (AutoImageProcessor.from_pretrained(folder, backend="pil") for folder in (tuned.base, merged))
    assert before.to_dict() == after.to_dict()
