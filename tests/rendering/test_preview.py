"""The coloured datum: every token is shown, what is green is what is trained, and no text acts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemtune.data.conversation import Conversation, Message
from gemtune.models.families import family_of, gemma3
from gemtune.models.loading import load_tokenizer
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.rendering.preview import terminal_text, tokens, write_page
from gemtune.rendering.renderer import Renderer
from models.vision import WriteRecipe, write_rows

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e{{ 7*7 }}"


@pytest.fixture
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load_tokenizer(tiny_model), family_of(tiny_model))


def conversation(question: str, answer: str, where: str = "t.jsonl:1") -> Conversation:
    return Conversation((Message.of("user", question), Message.of("assistant", answer)), "t", "k", "g", where)


def test_every_token_is_shown_and_the_answer_is_green(renderer: Renderer) -> None:
    example = renderer.example(conversation("coffee time", "☕ 🎂"))
    pieces = tokens(renderer, example)
    assert len(pieces) == len(example.input_ids)
    assert "".join(text for text, trained in pieces if trained) == "☕ 🎂<end_of_turn>"
    assert "coffee time" in "".join(text for text, trained in pieces if not trained)
    text = terminal_text(renderer, example)
    assert text.plain == "".join(piece for piece, _ in pieces)
    assert "".join(text.plain[s.start : s.end] for s in text.spans if "green" in str(s.style)) == "☕ 🎂<end_of_turn>"


def test_a_hostile_text_is_shown_and_does_not_act(renderer: Renderer, tmp_path: Path) -> None:
    hostile = conversation(HOSTILE, HOSTILE, where=HOSTILE)
    write_page(tmp_path / "show.html", tmp_path, renderer, [(hostile, renderer.example(hostile))])
    page = (tmp_path / "show.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "\x1b" not in page and "\u202e" not in page
    assert re.sub("<[^>]*>", "", page).count("7*7") == 3, "the place, the question and the answer"


def test_an_image_is_one_piece_with_its_number_of_tokens(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    model = gemma3.write_tiny_vision(tmp_path / "model")
    data = {"source": str(write_rows(tmp_path / "rows", 12)), "limit": None}
    job = Job(write_recipe(task="messages", model=str(model), data=data, train={"max_length": 512}))
    stages.prepare(job)
    for row, example in stages.examples(job, "train", 6):
        pieces = [text for text, _ in tokens(job.renderer, example)]
        assert [text for text in pieces if "image tokens" in text] == ["[4 image tokens]"] * len(row.images)
        assert len(pieces) == len(example.input_ids) - 3 * len(row.images)
