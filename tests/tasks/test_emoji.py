"""Emoji: what of a cell is the answer, and the rows that are refused."""

from typing import Any

import pytest

from gemtune.tasks import task_of
from tasks.task_rows import made, recipe, refused


def test_emoji_answers_have_no_white_space() -> None:
    conversation = made(task_of(recipe("emoji")), {"text": " I  love it ", "emoji": " ❤️ 👨‍👩‍👧 🇪🇬\n1️⃣"})
    assert [(m.role, m.text) for m in conversation.messages] == [
        ("system", "Translate this text to emoji."),
        ("user", "I  love it"),
        ("assistant", "❤️👨‍👩‍👧🇪🇬1️⃣"),
    ]
    assert conversation.key == "I  love it"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "hi", "emoji": "hello"}, "not emoji"),
        ({"text": "hi", "emoji": "👋!"}, "not emoji"),
        ({"text": "hi", "emoji": " "}, "empty answer"),
        ({"text": "hi", "emoji": None}, "empty answer"),
        ({"text": "", "emoji": "👋"}, "empty prompt"),
        ({"text": float("nan"), "emoji": "👋"}, "empty prompt"),
        ({"text": ["hi"], "emoji": "👋"}, "not text"),
    ],
)
def test_emoji_rows_that_are_refused(row: dict[str, Any], reason: str) -> None:
    assert refused(task_of(recipe("emoji")), row) == reason


@pytest.mark.parametrize(
    "cell", ["😀, 🌊", "😀,🌊", "😀、🌊", "😀 | 🌊", "😀;🌊", "😀/🌊", ["😀", "🌊"], '["😀", "🌊"]', " 😀\n🌊,"]
)
def test_what_stands_between_emoji_is_left_out(cell: Any) -> None:
    assert made(task_of(recipe("emoji")), {"text": "hi", "emoji": cell}).answer == "😀🌊"
