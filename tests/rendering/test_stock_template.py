"""The chat template that came with a model: its ids are transformers' own, and its faults are one line."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from gemtune.models.loading import load_tokenizer
from gemtune.rendering.stock_template import MOST_TEXT, render, stock_ids
from gemtune.worker import WorkerError

STOCK = (files("trl") / "chat_templates" / "gemma3.jinja").read_text(encoding="utf-8")
TURNS = [{"role": "user", "content": "coffee time ☕"}, {"role": "assistant", "content": "good morning"}]


def test_ids_are_those_of_transformers(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = STOCK
    conversations = [TURNS, TURNS[:1], [*TURNS, *TURNS]]
    plain = [tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"] for turns in conversations]
    assert stock_ids(tokenizer, conversations) == plain


def test_a_template_that_fails_says_why(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = STOCK
    with pytest.raises(WorkerError, match="Conversation roles must alternate"):
        stock_ids(tokenizer, [TURNS[:1] * 2])


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ 'a' * " + str(MOST_TEXT + 1) + " }}", f"it writes more than {MOST_TEXT:,} characters"),
        ("{{ messages[0].content / 2 }}", "unsupported operand"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_a_fault_is_one_short_line(template: str, fault: str) -> None:
    answer = render({"template": template, "conversations": [TURNS], "special_tokens": {}})
    assert str(answer["fault"]).startswith(fault) and "\n" not in str(answer["fault"])
