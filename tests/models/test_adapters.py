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


@pytest.mark.parametrize("lora", ["none", {"r": 4}], ids=["full", "lora"])
@pytest.mark.parametrize("trains", TRAINED)
def test_what_of_it_is_trained(trains: str, lora: Any, vision_job: Callable[..., Job], gemma: Path) -> None:
    job = vision_job(vision={"trains": trains}, lora=lora)
    stages.train(job)
    before = dict(load_model(gemma).named_parameters())
    after = model_named(job, "tuned")
    after = after if lora == "none" else after.merge_and_unload()
    moved = {name for name, value in after.named_parameters() if not torch.equal(value, before[name])}
    projector, tower = TRAINED[trains]
    assert any("language_model" in name for name in moved)
    assert any("multi_modal_projector" in name for name in moved) == projector
    assert any("vision_tower" in name for name in moved) == tower
    evaluated = stages.evaluate(job)
    assert evaluated and evaluated["rows"]
