"""The folders of models as they are on the Hub, file by file, around the tiny models: names, keys and types."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from gemtune.models.families import FAMILIES
from models.stock_templates import STOCK

Config = dict[str, Any]
SPARE = 24  # rows of an embedding beyond its tokenizer's words, as most models have


@dataclass(frozen=True)
class Layout:
    """How a repository differs from what transformers writes today."""

    model_type: str
    config: Callable[[Config], Config]  # today's config.json -> the repository's
    dtype: torch.dtype = torch.bfloat16
    shards: int = 1
    tower: str = "vision_tower.vision_model."  # what the names of the tower begin with
    template: str | None = "chat_template.json"  # the file of the chat template
    preprocessor: Config | None = None  # of preprocessor_config.json, beside what is today's
    processor: Config | None = None  # processor_config.json
    generation: Config | None = None  # of generation_config.json
    more: tuple[str, ...] = ("tokenizer.model",)  # files that nothing here reads


def _theta(text: Config) -> Config:
    """A text part as Gemma 3's was written: thetas beside each other, and the old name of its type."""
    old = {key: value for key, value in text.items() if key not in ("rope_parameters", "dtype", "transformers_version")}
    return {**old, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None, "torch_dtype": "bfloat16"}


def _gemma_270m(config: Config) -> Config:
    return {**_theta(config), "transformers_version": "4.55.0.dev0"}


def _gemma_1b(config: Config) -> Config:
    """`sliding_window_pattern` in the place of layer_types, and the cache in the model's config."""
    old = {k: v for k, v in _theta(config).items() if k not in ("layer_types", "_sliding_window_pattern")}
    return {**old, "sliding_window_pattern": 3, "cache_implementation": "hybrid", "transformers_version": "4.50.0.dev0"}


def _gemma_4b(config: Config) -> Config:
    """A text part that says little of itself, a list of end tokens, the ids of images by their old names."""
    unsaid = ("architectures", "bos_token_id", "eos_token_id", "pad_token_id", "layer_types", "_sliding_window_pattern")
    text = {key: value for key, value in _theta(config["text_config"]).items() if key not in unsaid}
    text |= {
        "vocab_size": text["vocab_size"] + SPARE,
        "sliding_window_pattern": 3,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }
    return {
        **{key: value for key, value in config.items() if key not in ("dtype", "tie_word_embeddings")},
        "eos_token_id": [1, 106],
        "text_config": text,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0",
    }


def _llava(config: Config) -> Config:
    """Vicuna's text part by name, and types of 16 bits."""
    text = {k: v for k, v in config["text_config"].items() if k not in ("rope_parameters", "head_dim")}
    text["vocab_size"] += SPARE
    named = {"_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"], "torch_dtype": "float16"}
    return {
        **{key: value for key, value in config.items() if key != "dtype"},
        "ignore_index": -100,
        "pad_token_id": 0,
        "vocab_size": text["vocab_size"],
        "text_config": {**text, **named},
        "torch_dtype": "float16",
        "transformers_version": "4.36.0.dev0",
    }


def _onevision(config: Config) -> Config:
    text = {k: v for k, v in config["text_config"].items() if k not in ("rope_parameters", "layer_types")}
    text["vocab_size"] += SPARE
    text |= {"_name_or_path": "Qwen/Qwen2-0.5B-Instruct", "architectures": ["Qwen2ForCausalLM"], "rope_theta": 1e6}
    return {
        **{key: value for key, value in config.items() if key != "dtype"},
        "ignore_index": -100,
        "use_image_newline_parameter": True,
        "text_config": {**text, "torch_dtype": "bfloat16"},
        "torch_dtype": "float16",
        "transformers_version": "4.45.0.dev0",
    }


def _qwen3_vl(config: Config) -> Config:
    """A text part tied to its head, and a scaling of positions by its old name."""
    text, tower = config["text_config"], config["vision_config"]
    text = {k: v for k, v in text.items() if k != "rope_parameters"} | {"vocab_size": text["vocab_size"] + SPARE}
    scaling = {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"}
    text |= {"rope_scaling": scaling, "rope_theta": 5e6, "tie_word_embeddings": True, "dtype": "bfloat16"}
    return {
        **{key: value for key, value in config.items() if key != "dtype"},
        "text_config": text,
        "vision_config": {k: v for k, v in tower.items() if k != "rope_parameters"} | {"model_type": "qwen3_vl"},
        "tie_word_embeddings": True,
        "transformers_version": "4.57.0.dev0",
    }


GEMMA = {"bos_token_id": 2, "eos_token_id": [1, 106], "pad_token_id": 0, "do_sample": True, "top_k": 64, "top_p": 0.95}
HYBRID = {**GEMMA, "cache_implementation": "hybrid"}
SPM = ("tokenizer.model", "added_tokens.json", "special_tokens_map.json")
BPE = ("vocab.json", "merges.txt")

LAYOUTS: dict[str, Layout] = {
    "google/gemma-3-270m": Layout("gemma3_text", _gemma_270m, template=None, generation=HYBRID, more=SPM),
    "google/gemma-3-270m-it": Layout(
        "gemma3_text", _gemma_270m, template="chat_template.jinja", generation=HYBRID, more=SPM
    ),
    "google/gemma-3-1b-it": Layout("gemma3_text", _gemma_1b, template=None, generation=HYBRID, more=SPM),
    "google/gemma-3-4b-it": Layout(
        "gemma3",
        _gemma_4b,
        shards=2,
        preprocessor={
            "image_processor_type": "Gemma3ImageProcessor",
            "processor_class": "Gemma3Processor",
            "image_seq_length": 4,
            "do_convert_rgb": None,
            "do_pan_and_scan": None,
            "pan_and_scan_max_num_crops": None,
            "pan_and_scan_min_crop_size": None,
            "pan_and_scan_min_ratio_to_activate": None,
        },
        processor={"image_seq_length": 4, "processor_class": "Gemma3Processor"},
        generation=HYBRID,
        more=SPM,
    ),
    "Qwen/Qwen3-VL-2B-Instruct": Layout(
        "qwen3_vl",
        _qwen3_vl,
        tower="model.visual.",
        preprocessor={"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor"},
        generation={"do_sample": True, "top_p": 0.8, "top_k": 20, "temperature": 0.7, "repetition_penalty": 1.0},
        more=(*BPE, "video_preprocessor_config.json"),
    ),
    "llava-hf/llava-1.5-7b-hf": Layout(
        "llava",
        _llava,
        dtype=torch.float16,
        shards=3,
        preprocessor={"image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor"},
        processor={
            "image_token": "<image>",
            "num_additional_image_tokens": 1,
            "patch_size": 14,
            "processor_class": "LlavaProcessor",
            "vision_feature_select_strategy": "default",
        },
        generation={"bos_token_id": 2, "pad_token_id": 0},
        more=SPM,
    ),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": Layout(
        "llava_onevision",
        _onevision,
        dtype=torch.float16,
        preprocessor={
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
        },
        processor={
            "image_token": "<image>",
            "num_image_tokens": 16,
            "processor_class": "LlavaOnevisionProcessor",
            "video_token": "<video>",
            "vision_feature_select_strategy": "full",
        },
        more=(*BPE, "added_tokens.json", "video_processor/preprocessor_config.json"),
    ),
}


def rebuild(name: str, folder: Path) -> Path:
    """Writes the tiny model of a repository's family into `folder`, in that repository's layout."""
    layout = LAYOUTS[name]
    made = FAMILIES[layout.model_type].write_tiny(folder / "made")
    target = folder / name.replace("/", "--")
    target.mkdir()
    config = layout.config(_read(made / "config.json"))
    _write(target / "config.json", config)
    _weights(made, target, layout, config)
    (target / "tokenizer.json").write_bytes((made / "tokenizer.json").read_bytes())
    tokenizer = _read(made / "tokenizer_config.json")
    if layout.preprocessor:
        tokenizer["processor_class"] = layout.preprocessor["processor_class"]
        _write(target / "preprocessor_config.json", {**_image_processor(made), **layout.preprocessor})
    if layout.processor:
        _write(target / "processor_config.json", layout.processor)
    if layout.template is None:
        tokenizer["chat_template"] = STOCK[layout.model_type]  # in the tokenizer's own file
    elif layout.template.endswith(".json"):
        _write(target / layout.template, {"chat_template": STOCK[layout.model_type]})
    else:
        (target / layout.template).write_text(STOCK[layout.model_type], encoding="utf-8")
    _write(target / "tokenizer_config.json", tokenizer)
    _write(target / "generation_config.json", {**(layout.generation or {}), "transformers_version": "4.50.0.dev0"})
    for name in layout.more:
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("{}" if name.endswith(".json") else "", encoding="utf-8")
    return target


def _weights(made: Path, target: Path, layout: Layout, config: Config) -> None:
    """The tensors in shards with an index, or in one file; named, typed and as long as in the repository."""
    drop_head = config.get("tie_word_embeddings") is True
    tensors = {
        name.replace("vision_tower.", layout.tower) if name.startswith("vision_tower.") else name: tensor.to(
            layout.dtype
        )
        for name, tensor in load_file(made / "model.safetensors").items()
        if not (drop_head and name == "lm_head.weight")
    }
    for name in tensors:
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            missing = config.get("text_config", config)["vocab_size"] - len(tensors[name])
            tensors[name] = torch.cat([tensors[name], torch.zeros(missing, tensors[name].shape[1], dtype=layout.dtype)])
    if layout.shards == 1:
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    files = {
        name: f"model-{1 + place % layout.shards:05}-of-{layout.shards:05}.safetensors"
        for place, name in enumerate(names)
    }
    for file in set(files.values()):
        shard = {name: tensors[name] for name in names if files[name] == file}
        save_file(shard, target / file, metadata={"format": "pt"})
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    _write(target / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": files})


def _image_processor(made: Path) -> Config:
    """What today's files say of the image processor, wherever they say it."""
    alone = made / "preprocessor_config.json"
    return _read(alone) if alone.is_file() else _read(made / "processor_config.json")["image_processor"]


def _read(path: Path) -> Config:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Config) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
