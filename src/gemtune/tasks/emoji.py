"""emoji: a short text becomes the emoji that say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import emoji

from gemtune.data.cells import unpacked
from gemtune.data.conversation import Conversation, Message, validate
from gemtune.errors import RowError
from gemtune.metrics.emoji import emoji_and_words, emoji_clusters, is_only_emoji
from gemtune.metrics.text import overlap
from gemtune.tasks.base import Row, Task, text_of

SYSTEM = "Translate this text to emoji."
_SEPARATORS = re.compile(r"[\s,;|/、，\u200b\u2060\ufeff]+")  # what people write between emoji, seen or not


class Emoji(Task):
    """Columns `text` and `emoji`; scored by the emoji the reply and the row have in common.

    >>> from gemtune.recipe.schema import Recipe
    >>> task = Emoji(Recipe(name="e", task="emoji", data=[{"source": "e.csv"}]))
    >>> [m.text for m in task.conversation({"text": "let's swim", "emoji": "🏊 🌊"}, "e.csv:2").messages]
    ['Translate this text to emoji.', "let's swim", '🏊🌊']
    """

    metric = "f1"
    columns = ("text", "emoji")
    unanswered = MappingProxyType({"emoji": "❓"})

    def conversation(self, row: Row, where: str) -> Conversation:
        text, answer = text_of(row, "text"), _SEPARATORS.sub("", _written(row))
        if answer and not _is_emoji(answer):
            raise RowError("not emoji", f"column 'emoji' holds {answer[:40]!r}; wanted emoji and nothing else")
        messages = (Message.of("system", SYSTEM), Message.of("user", text), Message.of("assistant", answer))
        return Conversation(validate(messages), "emoji", key=text, group=text, where=where)

    def asked(self, prompt: str) -> Conversation:
        return self.question({"text": prompt}, "prompt")

    def doubts(self, conversation: Conversation) -> Mapping[str, str]:
        """None: `conversation` takes emoji alone, which get full marks; asking again takes a fifth of the time."""
        return {}

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        """As `emoji_scores`, but words between the emoji are wrong ones: a chatty reply is no right answer."""
        pieces, gold = emoji_and_words(reply), emoji_clusters(conversation.answer)
        scores = {"valid": float(is_only_emoji(reply)), "exact": float(pieces == gold)}
        return {**scores, **overlap(pieces, gold)}


def _is_emoji(answer: str) -> bool:
    return _is_short_emoji(answer) if len(answer) < 64 else is_only_emoji(answer) and emoji.purely_emoji(answer)


@lru_cache(maxsize=4096)  # the same answers come again and again
def _is_short_emoji(answer: str) -> bool:
    return is_only_emoji(answer) and emoji.purely_emoji(answer)


def _written(row: Row) -> str:
    """The cell's text; a list of emoji, or the text of one, is its emoji."""
    cell = unpacked(row.get("emoji"))
    is_list = isinstance(cell, list) and all(isinstance(value, str) for value in cell)
    return "".join(cell) if is_list else text_of(row, "emoji")  # type: ignore[arg-type]
