"""Models that see: ids, masks, features and losses beside the stock processor and model, one image, many and none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, AutoProcessor

from gemtune import stages, tiny
from gemtune.batch import micro_batch
from gemtune.conversation import Conversation, read_conversations
from gemtune.errors import ModelError
from gemtune.families import chat_template, family_of
from gemtune.generate import replies
from gemtune.images import open_rgb
from gemtune.model import load_image_processor, load_model, load_tokenizer
from gemtune.render import IGNORE
from gemtune.sight import QWEN3_VL, tokens_of
from gemtune.stages import Job
from gemtune.table import ExampleTable
from gemtune.trainer import labelled_loss

WriteRecipe = Callable[..., Path]
WORDS = ("a red cup", "two dogs", "what is it?", "count them", "eat pizza with the dog", "coffee time", "rain")


MODELS = {"gemma3": tiny.write_vision_model, "llava": tiny.write_llava, "qwen3_vl": tiny.write_qwen}


@pytest.fixture(scope="session", params=MODELS)
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS[request.param](tmp_path_factory.mktemp("models") / "seeing")


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


@pytest.fixture
def job(write_recipe: WriteRecipe, tmp_path: Path, seeing: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    data = {"source": str(write_rows(tmp_path / "rows", 40)), "limit": None}
    job = Job.of(write_recipe(task="messages", model=str(seeing), data=data, train={"max_length": 512}))
    stages.prepare(job)
    return job


def stock_inputs(folder: Path, job: Job, conversation: Conversation) -> Any:
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
    if family_of(folder).sight is QWEN3_VL:
        return qwen_inputs(folder, text, images)
    processor = AutoProcessor.from_pretrained(folder)
    return processor(text=[text], images=[images] if images else None, add_special_tokens=False, return_tensors="pt")


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


def kept(job: Job) -> list[tuple[Conversation, Any]]:
    """The conversations of train with their rows of the token table."""
    table = ExampleTable(job.run.table("train"))
    conversations = list(read_conversations(job.run.part("train")))
    return [(conversations[line], table[row]) for row, line in enumerate(table.lines.tolist())]


def stock_loss(stock: Any, inputs: Any, labels: list[int]) -> torch.Tensor:
    """The summed loss of a stock forward over full logits."""
    logits = stock(**{k: v for k, v in inputs.items() if k != "num_crops"}).logits[0, :-1].float()
    return F.cross_entropy(logits, torch.tensor(labels[1:]), ignore_index=IGNORE, reduction="sum")


def test_ids_kinds_pixels_and_losses_equal_the_stock_processor_and_model(job: Job, seeing: Path) -> None:
    stock = AutoModelForImageTextToText.from_pretrained(seeing, attn_implementation="eager").eval()
    model = load_model(seeing)
    view = job.view(model)
    counts = set()
    for conversation, example in kept(job):
        inputs = stock_inputs(seeing, job, conversation)
        assert example.input_ids == inputs["input_ids"][0].tolist()
        kinds = [0] * len(example.input_ids)
        for start, end in example.image_spans:
            kinds[start:end] = [1] * (end - start)
        stock_kinds = (inputs["input_ids"][0] == tokens_of(stock.config)).long()
        assert kinds == inputs.get("token_type_ids", stock_kinds[None])[0].tolist() == stock_kinds.tolist()
        counts.add(len(example.images))
        if example.images:
            opened = [open_rgb(job.run.data / image) for image in example.images]
            assert torch.equal(job.eyes.processor(opened, return_tensors="pt")["pixel_values"], inputs["pixel_values"])
        with torch.no_grad():
            ours, _ = labelled_loss(model, micro_batch([example]), view)
            torch.testing.assert_close(ours, stock_loss(stock, inputs, example.labels), rtol=2e-5, atol=1e-5)
    assert counts >= {0, 1, 2, 3}


def test_packed_equals_unpacked_with_gradients(job: Job, seeing: Path) -> None:
    model = load_model(seeing)
    view = job.view(model)
    text = model.model.language_model
    text.requires_grad_(True)
    examples = [example for _, example in kept(job)][:12]
    assert {bool(example.images) for example in examples} == {True, False}

    def gradients(batches: list[list[Any]]) -> list[torch.Tensor]:
        text.zero_grad()
        for batch in batches:
            labelled_loss(model, micro_batch(batch), view)[0].backward()
        return [p.grad.clone() for p in text.parameters() if p.grad is not None]

    packed, apart = gradients([examples]), gradients([[example] for example in examples])
    for one, other in zip(packed, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_the_tower_runs_once_an_image_and_never_backward(job: Job, seeing: Path) -> None:
    model = load_model(seeing)
    passed = []
    view = job.view(model)
    tower = model.model.get_submodule(job.family.sight.tower)
    tower.register_forward_hook(lambda module, given, out: passed.append(out.last_hidden_state))
    examples = [example for _, example in kept(job)]
    distinct = {image for example in examples for image in example.images}
    first = [labelled_loss(model, micro_batch([example]), view)[0] for example in examples]
    assert view.passes == len(distinct)
    assert passed and not any(states.requires_grad for states in passed)
    again = job.view(model)  # another run over the same images
    second = [labelled_loss(model, micro_batch([example]), again)[0] for example in examples]
    assert again.passes == 0 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_damaged_cache_is_seen_again_and_a_full_one_forgets(job: Job, seeing: Path) -> None:
    model = load_model(seeing)
    view = job.view(model)
    images = sorted({image for _, example in kept(job) for image in example.images})
    before = view.features(images)
    files = sorted((Path(view._folder)).rglob("*.safetensors"))
    assert len(files) == len(images)
    files[0].write_bytes(files[0].read_bytes()[:40])
    assert all(torch.equal(a, b) for a, b in zip(before, view.features(images), strict=True))
    assert view.passes == len(images) + 1
    view._limit = 4 * files[1].stat().st_size
    view.tidy()
    left = list(view._folder.rglob("*.safetensors"))
    assert 0 < len(left) < len(images) and sum(path.stat().st_size for path in left) <= view._limit


def test_replies_equal_stock_generation(job: Job, seeing: Path) -> None:
    stock = AutoModelForImageTextToText.from_pretrained(seeing, attn_implementation="eager").eval()
    conversations = [conversation for conversation, _ in kept(job) if conversation.images][:6]
    ours = replies(load_model(seeing), job.renderer, conversations, job.recipe.evaluate, view_of=job.view)
    for conversation, reply in zip(conversations, ours, strict=True):
        inputs = stock_inputs(seeing, job, conversation)
        prompt = len(job.renderer.prompt_ids(conversation))
        by_token = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
        cut = {k: v[:, :prompt] if k in by_token else v for k, v in inputs.items()}
        cut.pop("num_crops", None)
        out = stock.generate(**cut, max_new_tokens=8, do_sample=False, eos_token_id=job.renderer.stop_ids)
        assert job.renderer.reply(out[0, prompt:].tolist())[0] == reply.text


def test_a_run_with_images_end_to_end(job: Job) -> None:
    before = job.run
    report = stages.run(job)
    assert report.exists()
    summary = before.summary()
    assert summary and summary["rows"]
    weights = json.loads((before.adapter / "adapter_config.json").read_text())
    assert "language_model" in weights["target_modules"]


def test_a_model_that_does_not_see_says_so(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    data = {"source": str(write_rows(tmp_path / "rows", 12)), "limit": None}
    job = Job.of(write_recipe(task="messages", data=data))
    with pytest.raises(ModelError, match=r"rows.jsonl:\d+: the row has images, and this model sees none"):
        stages.prepare(job)
