"""Adapters are PEFT's: they train, load and answer as with plain PEFT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from gemtune.data.conversation import read_conversations
from gemtune.models.loading import load_model, load_tokenizer
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.pipeline.tuned_models import model_named
from gemtune.rendering.renderer import Renderer
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from models.vision import VISION, write_rows
from training_jobs import adapter, full_logits_loss, trained

WriteRecipe = Callable[..., Path]


def test_the_adapter_loads_with_plain_peft_and_says_the_same(write_recipe: WriteRecipe, tiny_model: Path) -> None:
    job = trained(write_recipe(train={"learning_rate": 3e-3, "epochs": 2}))
    stages.evaluate(job)
    replies = [json.loads(line)["reply"] for line in job.run.replies("tuned").read_text().splitlines()]
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, job.run.adapter).eval()
    assert any("trainable_tokens_delta" in name for name in adapter(job))
    tokenizer = load_tokenizer(job.run.adapter)
    rendered = Renderer(tokenizer, job.family)
    conversations = list(read_conversations(job.run.part("test")))
    by_prompt = {c.messages[-2].text: c for c in conversations}
    asked = [by_prompt[json.loads(line)["prompt"]] for line in job.run.replies("tuned").read_text().splitlines()]
    for conversation, reply in zip(asked, replies, strict=True):
        ids = torch.tensor([rendered.prompt_ids(conversation)])
        # The stop tokens come from the generation_config that was saved beside the adapter.
        stops = json.loads((job.run.adapter / "generation_config.json").read_text())["eos_token_id"]
        out = plain.generate(input_ids=ids, max_new_tokens=8, do_sample=False, eos_token_id=stops, pad_token_id=0)
        assert rendered.reply(out[0, ids.shape[1] :].tolist())[0] == reply
    assert tokenizer.chat_template, "a served adapter needs its template"


def test_adapters_of_the_head_are_trained_as_plain_peft_trains_them(
    write_recipe: WriteRecipe, tiny_model: Path
) -> None:
    lora = {"target_modules": ["q_proj", "lm_head"], "token_rows": "none"}
    job = trained(write_recipe(lora=lora, train={"learning_rate": 1e-3}))
    assert job.run.manifest["decisions"]["head"]["value"] == "logits_to_keep"
    ours = model_named(job, "tuned").requires_grad_(True)
    stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), job.run.adapter)
    stock.requires_grad_(True)
    row = ExampleTable(job.run.table("train"))[0]
    labelled_loss(ours, micro_batch([row]))[0].backward()
    full_logits_loss(stock, row.input_ids, row.spans).backward()
    reference = {name: p.grad for name, p in stock.named_parameters() if ".lora_" in name}
    found = {name: p.grad for name, p in ours.named_parameters() if ".lora_" in name}
    assert any("lm_head.lora_B" in name and weight.any() for name, weight in adapter(job).items())
    assert found.keys() == reference.keys() and any("lm_head" in name for name in found)
    for name, grad in reference.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-3, atol=1e-5)


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
