"""Turns: texts, parts and images stay what the row says, where it says."""

from __future__ import annotations

from typing import Any

import pytest

from data.chat_rows import PART, openai, said, seen, sharegpt
from gemtune.data.chat_layouts import to_messages


def test_white_space_is_the_writers() -> None:
    assert said({"prompt": " hi \n", "completion": "\tho "}) == [("user", " hi \n"), ("assistant", "\tho ")]


def test_parts_stay_parts() -> None:
    parts = to_messages(openai(("user", PART), ("assistant", "ho")), "messages")[0].parts
    assert [part.text for part in parts] == ["h", "i"]


TEXT, PICTURE = {"type": "text", "text": "What is it?"}, {"type": "image"}


ANSWERED = ("assistant", [{"type": "text", "text": "A cup."}])


IMAGES: dict[str, tuple[dict[str, Any], list[list[Any]]]] = {
    "llava-instruct-mix: parts with an index": (
        openai(
            (
                "user",
                [{"type": "text", "text": "What is it?", "index": None}, {"type": "image", "index": 0, "text": None}],
            ),
            ANSWERED,
            images=[{"bytes": b"x", "path": None}],
        ),
        [["What is it?", b"x"], ["A cup."]],
    ),
    "TRL: parts and images in order": (
        openai(("user", [PICTURE, PICTURE, TEXT]), ANSWERED, images=["a.png", "b.png"]),
        [["a.png", "b.png", "What is it?"], ["A cup."]],
    ),
    "TRL: plain text, images in front": (
        openai(("system", "Be short."), ("user", "What is it?"), ANSWERED, images=["a.png"]),
        [["Be short."], ["a.png", "What is it?"], ["A cup."]],
    ),
    "ShareGPT: marks in two turns": (
        sharegpt(("human", "<image>Who?"), ("gpt", "A."), ("human", "And <image>?"), ("gpt", "B."), images=["a", "b"]),
        [["a", "Who?"], ["A."], ["And ", "b", "?"], ["B."]],
    ),
    "LLaVA: one image": (
        sharegpt(("human", "<image>\nWho?"), ("gpt", "She."), image="a.jpg"),
        [["a.jpg", "\nWho?"], ["She."]],
    ),
    "OpenAI: image_url": (
        openai(("user", [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}, TEXT]), ANSWERED),
        [["http://x/a.png", "What is it?"], ["A cup."]],
    ),
    "a mark in a row without images is text": (
        openai(("user", "What does <image> mean in HTML?"), ANSWERED),
        [["What does <image> mean in HTML?"], ["A cup."]],
    ),
    "Alpaca": (
        {"instruction": "<image>Name it.", "input": "", "output": "A cup.", "images": ["a.png"]},
        [["a.png", "Name it."], ["A cup."]],
    ),
}


@pytest.mark.parametrize("what", IMAGES)
def test_images_stand_where_the_row_says(what: str) -> None:
    row, wanted = IMAGES[what]
    assert seen(row) == wanted
