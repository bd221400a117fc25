"""Vision-language models: ids, masks, features and losses beside stock transformers; one image, many and none."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaOnevisionConfig,
    SiglipVisionConfig,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.data.images import open_rgb
from gemtune.errors import DataError, ModelError
from gemtune.evaluation.generate import replies
from gemtune.models.families import FAMILIES, chat_template, config_of, family_of, gemma3
from gemtune.models.families.base import image_token_id
from gemtune.models.families.llava_onevision import LlavaOnevisionVision
from gemtune.models.loading import DTYPES, load_image_processor, load_model, load_tokenizer
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.pipeline.tuned_models import model_named
from gemtune.preparation.prepare import prepare
from gemtune.rendering.preview import write_page
from gemtune.rendering.renderer import IGNORE
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from models.stock_templates import STOCK

WriteRecipe = Callable[..., Path]
WORDS = ("a red cup", "two dogs", "what is it?", "count them", "eat pizza with the dog", "coffee time", "rain")


VISION = {model_type: family for model_type, family in FAMILIES.items() if family.vision}


@pytest.fixture(scope="session", params=VISION)
def vision_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return VISION[request.param].write_tiny(tmp_path_factory.mktemp("models") / "vision")


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
def job(write_recipe: WriteRecipe, tmp_path: Path, vision_model: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    data = {"source": str(write_rows(tmp_path / "rows", 40)), "limit": None}
    job = Job(write_recipe(task="messages", model=str(vision_model), data=data, train={"max_length": 512}))
    stages.prepare(job)
    return job


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


def test_prompts_equal_the_stock_template(vision_model: Path) -> None:
    tokenizer = load_tokenizer(vision_model)
    model_type = config_of(vision_model).model_type
    texts = [{"type": "text", "text": text} for text in WORDS[:2]]
    image = {"type": "image"}
    for content in ([texts[0]], [image, texts[0]], [texts[0], image, image, texts[1]]):
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
            )
            for template in (chat_template(family_of(vision_model)), STOCK[model_type])
        ]
        assert prompts[0] == prompts[1]


@pytest.fixture(scope="session")
def onevision() -> Any:
    """The stock config and image processor of LLaVA-OneVision, as they come: 36 resolutions of 384 pixels a tile."""
    return LlavaOnevisionConfig(vision_config=SiglipVisionConfig(image_size=384, patch_size=14))


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_an_image_of_any_size_has_the_tokens_that_stock_gives_it(onevision: Any, width: int, height: int) -> None:
    reads = LlavaOnevisionImageProcessorPil()
    seen = {
        "image_sizes": [[height, width]],
        "batch_num_images": [1],
        "pixel_values": np.zeros((1, 1, 3, 384, 384), np.bool_),
    }
    stock = stock_counts(onevision, reads).replace_image_token(seen, 0)
    assert LlavaOnevisionVision().image_text(onevision, reads, (width, height), True, {}) == stock


def kept(job: Job) -> list[tuple[Conversation, Any]]:
    """The conversations of train with their rows of the token table."""
    table = ExampleTable(job.run.table("train"))
    conversations = list(read_conversations(job.run.part("train")))
    return [(conversations[line], table[row]) for row, line in enumerate(table.lines.tolist())]


def stock_loss(stock: Any, inputs: Any, labels: list[int]) -> torch.Tensor:
    """The summed loss of a stock forward over full logits."""
    logits = stock(**{k: v for k, v in inputs.items() if k != "num_crops"}).logits[0, :-1].float()
    return F.cross_entropy(logits, torch.tensor(labels[1:]), ignore_index=IGNORE, reduction="sum")


def test_ids_kinds_pixels_and_losses_equal_the_stock_processor_and_model(job: Job, vision_model: Path) -> None:
    stock = AutoModelForImageTextToText.from_pretrained(vision_model, attn_implementation="eager").eval()
    model = install_kernels(load_model(vision_model))
    features = job.image_features(model)
    assert features
    counts = set()
    for conversation, example in kept(job):
        inputs = stock_inputs(vision_model, job, conversation)
        assert example.input_ids == inputs["input_ids"][0].tolist()
        kinds = [0] * len(example.input_ids)
        for start, end in example.image_spans:
            kinds[start:end] = [1] * (end - start)
        stock_kinds = (inputs["input_ids"][0] == image_token_id(stock.config)).long()
        assert kinds == inputs.get("token_type_ids", stock_kinds[None])[0].tolist() == stock_kinds.tolist()
        counts.add(len(example.images))
        if example.images:
            opened = [open_rgb(job.run.data / image) for image in example.images]
            read = features.family.preprocess(features.tokenizer.processor, opened, len(opened) == 1, {})[
                "pixel_values"
            ]
            assert torch.equal(read.flatten(), inputs["pixel_values"].flatten())
        with torch.no_grad():
            ours, _ = labelled_loss(model, micro_batch([example]), features)
            torch.testing.assert_close(ours, stock_loss(stock, inputs, example.labels), rtol=2e-5, atol=1e-5)
    assert counts >= {0, 1, 2, 3}


def test_packed_equals_unpacked_with_gradients(job: Job, vision_model: Path) -> None:
    model = install_kernels(load_model(vision_model))
    features = job.image_features(model)
    assert features
    text = model.model.language_model
    text.requires_grad_(True)
    examples = [example for _, example in kept(job)][:12]
    assert {bool(example.images) for example in examples} == {True, False}

    def gradients(batches: list[list[Any]]) -> list[torch.Tensor]:
        text.zero_grad()
        for batch in batches:
            labelled_loss(model, micro_batch(batch), features)[0].backward()
        return [p.grad.clone() for p in text.parameters() if p.grad is not None]

    packed, apart = gradients([examples]), gradients([[example] for example in examples])
    for one, other in zip(packed, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_the_tower_runs_once_an_image_and_never_backward(job: Job, vision_model: Path) -> None:
    model = install_kernels(load_model(vision_model))
    passed = []
    features = job.image_features(model)
    assert features
    tower = model.model.get_submodule(job.family.vision.tower)
    tower.register_forward_hook(lambda module, given, out: passed.append(out.last_hidden_state))
    examples = [example for _, example in kept(job)]
    by_number = job.family.vision.alone_differs
    distinct = {(image, by_number and len(e.images) == 1) for e in examples for image in e.images}
    first = [labelled_loss(model, micro_batch([example]), features)[0] for example in examples]
    assert features.passes == len(distinct)
    assert passed and not any(states.requires_grad for states in passed)
    again = job.image_features(model)  # another run over the same images
    second = [labelled_loss(model, micro_batch([example]), again)[0] for example in examples]
    assert again.passes == 0 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_models_with_the_same_tower_share_what_it_saw(job: Job, vision_model: Path) -> None:
    rows = [example.images for _, example in kept(job) if example.images]
    job.image_features(install_kernels(load_model(vision_model))).warm_up(rows)
    other = install_kernels(load_model(vision_model))
    with torch.no_grad():
        other.model.language_model.norm.weight.add_(1)
        next(other.model.get_submodule(job.family.vision.projector[0]).parameters()).add_(1)
        features = job.image_features(other)
        features.warm_up(rows)
        assert features.passes == 0
        tower = other.model.get_submodule(job.family.vision.tower)
        next(tower.parameters()).add_(1)
        another = job.image_features(other)
        another.warm_up(rows)
        assert another.passes == len(set(another.keys(rows)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frozen_tower_is_as_exact_as_stock(vision_model: Path, precision: str) -> None:
    vision = family_of(vision_model).vision
    assert vision
    pixels = np.random.default_rng(0).integers(0, 255, (2, 56, 84, 3), dtype=np.uint8)
    read = vision.preprocess(load_image_processor(vision_model), [Image.fromarray(image) for image in pixels], True, {})

    def seen(model: Any) -> torch.Tensor:
        moved = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in read.items()}
        return torch.cat([image.flatten() for image in vision.encode(model.model, moved)]).float()

    def stock(dtype: torch.dtype) -> Any:
        return AutoModelForImageTextToText.from_pretrained(vision_model, dtype=dtype, attn_implementation="sdpa").eval()

    ours = install_kernels(load_model(vision_model, precision=precision))
    theirs = stock(DTYPES[precision])
    assert torch.equal(seen(ours), seen(theirs))  # with gradients it is the stock tower
    with torch.no_grad():
        exact, mine, plain = seen(stock(torch.float32)), seen(ours), seen(theirs)
    if precision == "fp32":
        torch.testing.assert_close(mine, exact, rtol=1e-4, atol=1e-5)
    else:
        assert (mine - exact).norm() <= 1.25 * (plain - exact).norm()  # a few hundred numbers scatter


def test_a_damaged_cache_is_seen_again_and_a_full_one_forgets(job: Job, vision_model: Path) -> None:
    model = install_kernels(load_model(vision_model))
    features = job.image_features(model)
    assert features
    images = sorted({(image,) for _, example in kept(job) for image in example.images})
    before = features.features(images)
    files = sorted((Path(features._folder)).rglob("*.safetensors"))
    assert len(files) == len(images)
    files[0].write_bytes(files[0].read_bytes()[:40])
    assert all(torch.equal(a, b) for a, b in zip(before, features.features(images), strict=True))
    assert features.passes == len(images) + 1
    features._limit = 4 * files[1].stat().st_size
    features.evict()
    left = list(features._folder.rglob("*.safetensors"))
    assert 0 < len(left) < len(images) and sum(path.stat().st_size for path in left) <= features._limit


def test_replies_equal_stock_generation(job: Job, vision_model: Path) -> None:
    stock = AutoModelForImageTextToText.from_pretrained(vision_model, attn_implementation="eager").eval()
    conversations = [conversation for conversation, _ in kept(job) if conversation.images][:6]
    ours = replies(
        install_kernels(load_model(vision_model)),
        job.renderer,
        conversations,
        job.recipe.evaluate,
        features_for=job.image_features,
    )
    for conversation, reply in zip(conversations, ours, strict=True):
        inputs = stock_inputs(vision_model, job, conversation)
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
    assert summary and summary.rows
    weights = json.loads((before.adapter / "adapter_config.json").read_text())
    assert "language_model" in weights["target_modules"]


def test_a_model_that_does_not_see_says_so(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    data = {"source": str(write_rows(tmp_path / "rows", 12)), "limit": None}
    job = Job(write_recipe(task="messages", data=data))
    with pytest.raises(ModelError, match=r"rows.jsonl:\d+: the row has images, and this model takes none"):
        stages.prepare(job)


SIZES = {"wide": (900, 300), "tall": (300, 640), "square": (300, 310)}


def test_pan_and_scan_equals_the_stock_processor(
    write_recipe: WriteRecipe, tmp_path: Path, gemma: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "wide"
    folder.mkdir()
    for name, size in SIZES.items():
        pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    turns = [[{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": name}] for name in SIZES]
    rows = [{"messages": turn, "images": [f"{name}.png"]} for turn, name in zip(turns, SIZES, strict=True)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"source": str(folder / "rows.jsonl"), "limit": None, "part": "train"}
    job = Job(write_recipe(task="messages", model=str(gemma), data=data, vision={"pan_and_scan": True}))
    stages.prepare(job)
    stock = AutoModelForImageTextToText.from_pretrained(gemma, attn_implementation="eager").eval()
    model = install_kernels(load_model(gemma))
    for conversation, example in kept(job):
        inputs = stock_inputs(gemma, job, conversation, do_pan_and_scan=True)
        assert example.input_ids == inputs["input_ids"][0].tolist()
        with torch.no_grad():
            ours, _ = labelled_loss(model, micro_batch([example]), job.image_features(model))
            torch.testing.assert_close(ours, stock_loss(stock, inputs, example.labels), rtol=2e-5, atol=1e-5)
    assert sorted(len(example.image_spans) for _, example in kept(job)) == [1, 3, 4]
    stages.train(job)
    images = [open_rgb(job.run.data / image) for (image,) in ExampleTable(job.run.table("train")).images()]
    reads = load_image_processor(job.run.adapter)  # the adapter says it to whoever loads it
    assert sorted(reads(images)["num_crops"]) == [0, 2, 3]


@pytest.fixture(scope="session")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gemma3.write_tiny_vision(tmp_path_factory.mktemp("models") / "gemma")


def test_upstream_does_not_isolate_packed_rows_with_images(gemma: Path) -> None:
    """transformers 5.23: packing by restarted positions is lost when images are there. Fails when that is mended."""
    torch.manual_seed(0)
    stock = AutoModelForImageTextToText.from_pretrained(gemma, attn_implementation="sdpa").eval()
    image = stock.config.image_token_id
    documents = [
        torch.tensor([[2, 300, image, image, image, image, 301, 302]]),
        torch.tensor([[2, 303, 304, 305, 306]]),
    ]
    pixels = torch.randn(1, 3, 56, 56)
    ids = torch.cat(documents, 1)
    places = torch.cat([torch.arange(d.shape[1]) for d in documents])[None]
    kinds = (ids == image).long()
    with torch.no_grad():
        packed = stock(ids, pixel_values=pixels, position_ids=places, token_type_ids=kinds, use_cache=False).logits
        alone = stock(documents[1], use_cache=False).logits
    assert not torch.allclose(packed[:, -5:], alone, atol=1e-3)


TRAINED = {
    "text": (False, False),
    "projector": (True, False),
    "tower": (True, True),
}
LORA = {"r": 4}
CASES = [
    *((trains, lora, "gemma3", "fp32") for trains in TRAINED for lora in ("none", LORA)),
    *((trains, LORA, family, "bf16") for trains in ("projector", "tower") for family in VISION),
    ("projector", LORA, "qwen3_vl", "fp32"),
    ("projector", LORA, "gemma3", "fp16"),
    ("tower", LORA, "qwen3_vl", "fp16"),
    ("tower", "none", "llava", "bf16"),
]


@pytest.mark.parametrize(("trains", "lora", "family", "precision"), CASES)
def test_what_of_it_is_trained(
    trains: str,
    lora: Any,
    family: str,
    precision: str,
    write_recipe: WriteRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    folder, vision = VISION[family].write_tiny(tmp_path / "model"), VISION[family].vision
    data = {"source": str(write_rows(tmp_path / "rows", 24)), "limit": None}
    train = {"max_length": 512, "max_steps": 2, "learning_rate": 0.01, "precision": precision}
    keys: dict[str, Any] = {"vision": {"trains": trains}, "lora": lora, "train": train, "data": data}
    job = Job(write_recipe(task="messages", model=str(folder), evaluate={"limit": 2}, **keys))
    stages.train(job)
    assert all(line["grad_norm"] > 0 for line in job.run.metrics() if "loss" in line)
    before = dict(load_model(folder, precision=precision).named_parameters())
    after = model_named(job, "tuned")
    after = after if lora == "none" else after.merge_and_unload()
    moved = {name for name, value in after.named_parameters() if not torch.equal(value, before[name])}
    of_projector = {name for name in moved if any(f".{part}." in name for part in vision.projector)}
    of_tower = {name for name in moved if f".{vision.tower}." in name} - of_projector
    assert any("language_model" in name for name in moved)
    assert (bool(of_projector), bool(of_tower)) == TRAINED[trains]
    evaluated = stages.evaluate(job)
    assert evaluated and evaluated["rows"]


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_png(number: int) -> dict[str, Any]:
    """A picture as the Hub's image columns hold one."""
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (number * 7 % 255, 90, 200)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def llava_mix(folder: Path) -> tuple[str, dict[str, Any]]:
    """HuggingFaceH4/llava-instruct-mix-vsft: parts with an index, images in a column of their own."""

    def part(text: str | None) -> dict[str, Any]:
        return {"index": None if text else 0, "text": text, "type": "text" if text else "image"}

    rows = [
        {
            "messages": [
                {"role": "user", "content": [part(f"What is number {number}?"), part(None)]},
                {"role": "assistant", "content": [part("A cup.")]},
                {"role": "user", "content": [part("Which colour?")]},
                {"role": "assistant", "content": [part(f"Colour {number}.")]},
            ],
            "images": [as_png(number)],
        }
        for number in range(20)
    ]
    return "messages", {"source": str(parquet(folder / "train.parquet", rows))}


def amazon(folder: Path) -> tuple[str, dict[str, Any]]:
    """philschmid/amazon-product-descriptions-vlm."""
    fixed = {"Category": "Home | Kitchen", "Selling Price": "$9", "Model Number": None, "About Product": "A cup."}
    own = [{"Uniq Id": f"u{n}", "Product Name": f"Cup {n}", "description": f"A fine cup, {n}."} for n in range(20)]
    rows = [{"image": as_png(number), **row, **fixed} for number, row in enumerate(own)]
    columns = {"name": "Product Name", "category": "Category"}
    return "product", {"source": str(parquet(folder / "train.parquet", rows)), "columns": columns}


def mmiu(folder: Path) -> tuple[str, dict[str, Any]]:
    """FanqingM/MMIU-Benchmark: all.json and several zips, whose members the rows name with a leading ./"""
    for name in ("one", "two"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for number in range(20):
                archive.writestr(f"{name}/{number}.png", as_png(number)["bytes"])
    rows = [
        {
            "task": "t",
            "visual_input_component": "natural image",
            "source": "s",
            "options": "A: yes\nB: no",
            "question": f"Are both the same, {number}?",
            "context": "Choose.\nA: yes\nB: no",
            "output": "A",
            "input_image_path": [f"./one/{number}.png", f"./two/{number}.png"],
        }
        for number in range(20)
    ]
    (folder / "all.json").write_text(json.dumps(rows))
    return "multi_image", {"source": str(folder / "all.json"), "images": ["one.zip", "two.zip"]}


@pytest.mark.parametrize("layout", [llava_mix, amazon, mmiu], ids=lambda layout: layout.__name__)
def test_public_layouts_are_prepared_shown_checked_and_trained(
    layout: Any, write_recipe: WriteRecipe, tmp_path: Path, gemma: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    task, data = layout(tmp_path)
    train = {"max_length": 900, "max_steps": 2}
    recipe = write_recipe(task=task, model=str(gemma), data={"limit": None, **data}, train=train)
    job = Job(recipe)
    kept_rows = stages.prepare(job)["kept"]
    assert sum(kept_rows.values()) == 20
    pairs = stages.examples(job, "train", 2)
    assert all(example.images and example.image_spans for _, example in pairs)
    page = tmp_path / "show.html"
    write_page(page, job.run.data, job.renderer, pairs)
    assert page.read_text().count("data:image/jpeg;base64,") == sum(len(e.images) for _, e in pairs)
    assert all(finding.holds for finding in stages.check(job))
    assert stages.run(job).read_text().count("data:image/jpeg;base64,") > 0


def test_a_broken_image_drops_its_row_and_never_trains_its_text(
    write_recipe: WriteRecipe, tmp_path: Path, gemma: Path
) -> None:
    path = write_rows(tmp_path / "rows", 30)
    whole = [json.loads(line) for line in path.read_text().splitlines()]
    (path.parent / "3.png").write_bytes((path.parent / "3.png").read_bytes()[:60])
    hurt = sum("3.png" in row["images"] for row in whole)
    job = Job(write_recipe(task="messages", model=str(gemma), data={"source": str(path), "limit": None}))
    manifest = stages.prepare(job)
    assert hurt and manifest["dropped"]["bad image"] == hurt
    failing = write_recipe("f", task="messages", data={"source": str(path)}, prepare={"bad_rows": "fail"})
    stopped = Job(failing)
    with pytest.raises(DataError, match=r"rows\.jsonl:\d+: bad image: cannot be decoded"):
        prepare(stopped.recipe, stopped.run)


def test_nf4_leaves_tower_and_projector_as_they_are(
    write_recipe: WriteRecipe, tmp_path: Path, gemma: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    data = {"source": str(write_rows(tmp_path / "rows", 24)), "limit": None}
    train = {"max_length": 512, "max_steps": 2}
    job = Job(write_recipe(task="messages", model=str(gemma), data=data, train=train, quantize="nf4"))
    quantised = {name for name, module in job.base_model().named_modules() if "4bit" in type(module).__name__}
    assert quantised and all("language_model" in name for name in quantised)
    assert stages.train(job)["steps"] == 2


def test_a_resumed_run_never_runs_the_tower_again(
    write_recipe: WriteRecipe, tmp_path: Path, gemma: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
    data = {"source": str(write_rows(tmp_path / "rows", 24)), "limit": None}
    train = {"max_length": 512, "max_steps": 2}
    first, second = (Job(write_recipe(n, task="messages", model=str(gemma), data=data, train=train)) for n in "ab")
    stages.train(first)
    kept = {path: path.stat().st_ino for path in (tmp_path / "cache" / "seen").rglob("*.safetensors")}
    stages.train(second)
    after = {path: path.stat().st_ino for path in (tmp_path / "cache" / "seen").rglob("*.safetensors")}
    assert kept and after == kept  # written anew, a file would be another one
