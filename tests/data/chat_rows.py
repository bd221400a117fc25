"""Rows of conversations, and the messages that are read of one."""

from __future__ import annotations

from typing import Any

from gemtune.data.chat_layouts import layout_of, to_messages


def said(row: dict[str, Any], layout: str | None = None) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in to_messages(row, layout or layout_of(row))]


def seen(row: dict[str, Any]) -> list[list[Any]]:
    """The parts of every message: text, or an image's reference."""
    return [[part.text or part.image for part in m.parts] for m in to_messages(row, layout_of(row))]


def openai(*turns: Any, **columns: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": turn[0], "content": turn[1]} if isinstance(turn, tuple) else turn for turn in turns]
    } | columns


def sharegpt(*turns: tuple[str, Any], **columns: Any) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": text} for role, text in turns]} | columns


HI = [("user", "hi"), ("assistant", "ho")]


BRIEF = [("system", "be brief"), *HI]


PART = [{"type": "text", "text": "h"}, {"type": "text", "text": "i", "image_url": None}]
