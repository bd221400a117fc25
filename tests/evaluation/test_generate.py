"""Replies, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from gemtune.evaluation.generate import stream
from gemtune.pipeline.job import Job

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
