"""Conversations with images, their rows of the token table, and what stock transformers makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoConfig, AutoProcessor
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.data.images import open_rgb
from gemtune.models.families import FAMILIES, chat_template, family_of
from gemtune.models.loading import load_image_processor, load_tokenizer
from gemtune.pipeline.stages import Job
from gemtune.rendering.renderer import IGNORE
from gemtune.rendering.token_table import ExampleTable

WriteRecipe = Callable[..., Path]


WORDS = ("a red cup", "two dogs", "what is it?", "count them", "eat pizza with the dog", "coffee time", "rain")


VISION = {model_type: family for model_type, family in FAMILIES.items() if family.vision}


def write_rows(folder: Path, count: int, seed: int = 0) -> Path:
    """Conversations of one to three turns with no image, one, or several, in front, between and behind the text."""
    random = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for number in range(12):
        size = tuple(int(side) for side in random.integers(30, 90, 2))
        pixels = random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for row in range(count):
            images: list[str] = []
            messages = []
            for turn in range(int(random.integers(1, 4))):
                text = str(random.choice(WORDS))
                for _ in range(int(random.integers(0, 3))):
                    images.append(f"{random.integers(12)}.png")
                    text = f"<image>{text}" if random.random() < 0.5 else f"{text}<image>{random.choice(WORDS)}"
                answer = " ".join(random.choice(WORDS, int(random.integers(1, 5))))
                messages += [{"role": "user", "content": f"{text} {row}.{turn}"}]
                messages += [{"role": "assistant", "content": answer}]
            out.write(json.dumps({"messages": messages, "images": images}) + "\n")
    return path


def stock_inputs(folder: Path, job: Job, conversation: Conversation, **settings: Any) -> Any:
    """What the stock processor makes of a conversation, with the template that the family's own is equal to."""
    messages = [
        {
            "role": m.role,
            "content": [{"type": "image"} if p.image else {"type": "text", "text": p.text} for p in m.parts],
        }
        for m in conversation.messages
    ]
    template = chat_template(family_of(folder))
    text = load_tokenizer(folder).apply_chat_template(messages, chat_template=template, tokenize=False)
    images = [open_rgb(job.run.data / str(part.image)) for part in conversation.images]
    if family_of(folder).name in PARTS_OF_A_PROCESSOR:
        return PARTS_OF_A_PROCESSOR[family_of(folder).name](folder, text, images)
    processor = AutoProcessor.from_pretrained(folder)
    settings |= {"add_special_tokens": False, "return_tensors": "pt"}
    return processor(text=[text], images=[images] if images else None, **settings)


def qwen_inputs(folder: Path, text: str, images: list[Image.Image]) -> Any:
    """As Qwen3VLProcessor does, which needs torchvision for its videos: a pad for every merged patch."""
    tokenizer = load_tokenizer(folder)
    seen = load_image_processor(folder)(images, return_tensors="pt") if images else {}
    first, *rest = text.split("<|image_pad|>")
    pads = ["<|image_pad|>" * int(grid.prod() // 4) for grid in seen.get("image_grid_thw", [])]
    text = first + "".join(pad + piece for pad, piece in zip(pads, rest, strict=True))
    ids = tokenizer([text], add_special_tokens=False, return_tensors="pt")
    kinds = (ids["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
    return {**ids, **seen, **({"mm_token_type_ids": kinds} if images else {})}


def onevision_inputs(folder: Path, text: str, images: list[Image.Image]) -> Any:
    """As LlavaOnevisionProcessor does, which needs torchvision for its videos: its own count of tokens an image."""
    config, reads = AutoConfig.from_pretrained(folder), load_image_processor(folder)
    counts = stock_counts(config, reads)
    seen = reads([images], return_tensors="pt") if images else {}
    first, *rest = text.split("<image>")
    tokens = [counts.replace_image_token(seen, index) for index in range(len(images))]
    text = first + "".join(own + piece for own, piece in zip(tokens, rest, strict=True))
    return {**load_tokenizer(folder)([text], add_special_tokens=False, return_tensors="pt"), **seen}


def stock_counts(config: Any, reads: Any) -> LlavaOnevisionProcessor:
    """A stock processor that only counts."""
    counts = object.__new__(LlavaOnevisionProcessor)
    counts.image_processor, counts.image_token = reads, "<image>"
    counts.num_image_tokens = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    counts.vision_aspect_ratio = config.vision_aspect_ratio
    counts.vision_feature_select_strategy = config.vision_feature_select_strategy
    return counts


PARTS_OF_A_PROCESSOR = {"qwen3-vl": qwen_inputs, "llava-onevision": onevision_inputs}


def kept(job: Job) -> list[tuple[Conversation, Any]]:
    """The conversations of train with their rows of the token table."""
    table = ExampleTable(job.run.table("train"))
    conversations = list(read_conversations(job.run.part("train")))
    return [(conversations[line], table[row]) for row, line in enumerate(table.lines[:].tolist())]


def stock_loss(stock: Any, inputs: Any, labels: list[int]) -> torch.Tensor:
    """The summed loss of a stock forward over full logits."""
    logits = stock(**{k: v for k, v in inputs.items() if k != "num_crops"}).logits[0, :-1].float()
    return F.cross_entropy(logits, torch.tensor(labels[1:]), ignore_index=IGNORE, reduction="sum")
