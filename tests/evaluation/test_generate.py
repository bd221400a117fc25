"""Replies, and what becomes of one that fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gemtune.data.conversation import Message, Part
from gemtune.evaluation.generate import replies, stream
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Evaluate

WriteRecipe = Callable[..., Path]


class OutOfMemory:
    """A model that says two tokens and then has no memory left."""

    device = torch.device("cpu")

    def generate(self, input_ids: torch.Tensor, streamer: Any, **_: Any) -> None:
        streamer.put(input_ids)
        for token in (200, 201):
            streamer.put(torch.tensor([token]))
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_reply_that_fails_ends_with_its_error(write_recipe: WriteRecipe) -> None:
    job, outcome = Job(write_recipe(), say=lambda text: None), []
    conversation = job.task.asked("hello")

    def read() -> None:
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            list(stream(OutOfMemory(), job.renderer, conversation, job.recipe.evaluate))
        outcome.append("raised")

    reader = Thread(target=read, daemon=True)  # a stream that never ends must not hold the test
    reader.start()
    reader.join(30)
    assert outcome == ["raised"]


def test_a_models_own_way_of_decoding_changes_no_reply(
    write_recipe: WriteRecipe, tiny_model: Path, tmp_path: Path
) -> None:
    """As on the Hub, where Gemma's generation_config.json asks for the 64 likeliest words."""
    theirs = shutil.copytree(tiny_model, tmp_path / "theirs")
    settings = {"do_sample": True, "top_k": 1, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "min_p": 0.9}
    (theirs / "generation_config.json").write_text(json.dumps(settings))
    jobs = [Job(write_recipe(folder.name, model=str(folder)), say=lambda text: None) for folder in (tiny_model, theirs)]
    asked = [jobs[0].task.asked(text) for text in ("hello", "let's go to the beach", "pizza")]
    for temperature in (0.0, 1.5):
        decoding = Evaluate(max_new_tokens=12, temperature=temperature)
        plain, own = (replies(job.base_model(), job.renderer, asked, decoding) for job in jobs)
        assert plain == own


def test_sampling_draws_from_every_word(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    model, drawn = job.base_model(), set[int]()
    torch.manual_seed(0)
    with torch.no_grad():
        model.lm_head.weight.normal_(std=1e-4)  # every word is about as likely, and none quite as another
    generate = model.generate

    def watched(**inputs: Any) -> torch.Tensor:
        out = generate(**inputs)
        drawn.update(out[:, -1].tolist())
        return out

    monkeypatch.setattr(model, "generate", watched)
    decoding = Evaluate(max_new_tokens=1, temperature=1.0, batch_size=200)
    replies(model, job.renderer, [job.task.asked("hello")] * 200, decoding)
    assert len(drawn) > 100  # transformers draws from the 50 likeliest


class OnAGpu:
    """A model that is not on the CPU, whose only word is the stop token."""

    device = torch.device("meta")

    def __init__(self, stop: int):
        self.stop, self.inputs = stop, dict[str, Any]()

    def generate(self, **inputs: Any) -> torch.Tensor:
        self.inputs = inputs
        return torch.full((1, inputs["input_ids"].shape[1] + 1), self.stop)


class Sees:
    """Image features that, as those of Qwen3-VL and Gemma 3 do, mark tokens of the prompts that they are given."""

    def prompt_inputs(self, ids: torch.Tensor, rows: Any) -> dict[str, Any]:
        return {"mm_token_type_ids": (ids == 5).long()}


def test_all_that_generation_takes_is_where_the_model_is(write_recipe: WriteRecipe) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    question = Message("user", (Part(image="a.png", size=(9, 9)), Part("What is it?")))
    asked = replace(job.task.asked("?"), messages=(question, Message("assistant", (Part(""),))))
    model = OnAGpu(job.renderer.stop_ids[0])
    prompts = {"prompt_ids": lambda conversation: [2, 5, 6], "reply": job.renderer.reply}
    renderer: Any = SimpleNamespace(tokenizer=job.tokenizer, stop_ids=job.renderer.stop_ids, **prompts)
    replies(model, renderer, [asked], job.recipe.evaluate, features_for=lambda model: Sees())
    tensors = {name: value for name, value in model.inputs.items() if isinstance(value, torch.Tensor)}
    assert tensors.keys() == {"input_ids", "attention_mask", "mm_token_type_ids"}
    assert {value.device for value in tensors.values()} == {model.device}
