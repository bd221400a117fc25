"""Replies, and what becomes of one that fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

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


def test_sampling_draws_from_every_word(write_recipe: WriteRecipe) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    model = job.base_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()  # every word is as likely
    decoding = Evaluate(max_new_tokens=64, temperature=1.0, batch_size=8)
    answered = replies(model, job.renderer, [job.task.asked("hello")] * 8, decoding)
    words = {token for reply in answered for token in job.tokenizer(reply.text)["input_ids"]}
    assert len(words) > 60  # transformers draws from 50
