"""Vision-language models: ids, masks, features and losses beside stock transformers; one image, many and none."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from gemtune.data.images import open_rgb
from gemtune.errors import DataError, ModelError
from gemtune.evaluation.generate import replies
from gemtune.models.families import chat_template, config_of, family_of
from gemtune.models.families.base import image_token_id
from gemtune.models.loading import load_model, load_tokenizer
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.preparation.prepare import prepare
from gemtune.rendering.preview import write_page
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from models.stock_templates import STOCK
from models.vision import WORDS, WriteRecipe, kept, stock_inputs, stock_loss, write_rows


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
