"""The tokens that stand for an image are as many as the stock processor writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from gemtune.cli.output import prepared_lines
from gemtune.data.images import open_rgb
from gemtune.models.loading import load_image_processor, load_model
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from models.vision import WriteRecipe, kept, stock_inputs, stock_loss

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


def test_the_lengths_say_how_finely_images_are_seen(job: Job) -> None:
    lengths = job.run.prepared_data().token_lengths.train
    rows = [(conversation, example) for conversation, example in kept(job) if conversation.images]
    sizes = [part.size or (0, 0) for conversation, _ in rows for part in conversation.images]
    tokenizer = job.renderer.image_tokenizer
    assert tokenizer is not None
    tokens = np.array([np.isin(example.input_ids, [tokenizer.token_id]).sum() for _, example in rows])
    characters = np.array([len(conversation.answer) for conversation, _ in rows]) / tokens
    assert lengths.images == len(sizes) > 0
    assert lengths.image_pixels == int(np.median([width * height for width, height in sizes]))
    assert lengths.image_tokens == int(np.median(tokens)) > 0
    assert lengths.characters == pytest.approx(np.median(characters), abs=0.005)
    assert lengths.characters < lengths.most_characters == pytest.approx(np.percentile(characters, 95), abs=0.005)
    seen = {tokenizer.sizes(conversation.images)[0].split(" to ")[1] for conversation, _ in rows}
    areas = [int(width) * int(height) for width, height in (size.split("x") for size in seen)]
    assert min(areas) <= lengths.seen_pixels <= max(areas)
    assert any(f"{lengths.images} images of" in line for line in prepared_lines(job.run))
