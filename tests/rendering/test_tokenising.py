"""Tables that are up to date stay; rows that do not fit are shortened or left out; lengths are told as numpy does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.data.conversation import read_conversations
from gemtune.models.hub import tokenizer_fingerprint
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.rendering.tokenising import _statistics, fit, write_tables
from models.vision import WriteRecipe


@pytest.fixture
def job(write_recipe: WriteRecipe) -> Job:
    job = Job(write_recipe())
    stages.prepare(job)
    return job


def test_tables_that_are_up_to_date_ask_for_no_renderer_and_others_do(job: Job) -> None:
    def asked() -> None:
        raise AssertionError("the renderer was asked for")

    def write(key: str) -> None:
        write_tables(job.run, asked, job.family, job.task, job.recipe, key)  # type: ignore[arg-type]

    write(tokenizer_fingerprint(job.folder))
    with pytest.raises(AssertionError, match="was asked for"):
        write("of another tokenizer")


def test_what_fits_is_itself_and_what_does_not_is_shortened_or_left_out(job: Job) -> None:
    row = next(iter(read_conversations(job.run.part("train"))))
    length = len(job.renderer.example(row).input_ids)
    for room, expected in ((length, row), (length - 1, None)):
        recipe = job.recipe.model_copy(update={"train": job.recipe.train.model_copy(update={"max_length": room})})
        assert fit(row, job.renderer, job.task, recipe) == expected


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_lengths_are_told_from_how_often_each_occurs(lengths: list[int]) -> None:
    told = _statistics(Counter(lengths))
    median, p95 = np.percentile(lengths, [50, 95])
    assert told["median"] == int(median)
    assert abs(told["p95"] - p95) <= 1 and told["tokens"] == sum(lengths) and told["rows"] == len(lengths)
