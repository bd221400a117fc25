"""Task: a row becomes a Conversation, a reply becomes scores; prompt and metric of a use case live side by side."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gemtune.data.conversation import Conversation, Message
from gemtune.errors import RecipeError, RowError
from gemtune.recipe.schema import Recipe

Row = dict[str, Any]


class Task:
    """What a use case is: subclass it in a file of your own and name it `file.py:Class` in the recipe.

    A subclass sets `columns` and `metric` and writes `conversation` and `score`; the other methods have defaults.
    There is one task object a data source, so that `layout` is that source's.
    """

    metric: str = "exact"  # the score that decides; a key of what `score` returns, higher is better
    columns: tuple[str, ...] = ()  # the columns every row must have
    unanswered: Mapping[str, str] = MappingProxyType({})  # the answer's columns -> what stands in for them

    def __init__(self, recipe: Recipe, layout: str = "auto"):
        self.recipe = recipe
        self.layout = layout

    def conversation(self, row: Row, where: str) -> Conversation:
        """The row as a conversation that ends in the wanted answer; RowError when it cannot be one.

        `prepare` replaces its `group` and `weight` by what the recipe says.
        """
        raise RecipeError(f"task {self.recipe.task}: {type(self).__name__} has no method that makes a conversation")

    def question(self, row: Row, where: str) -> Conversation:
        """A row to be answered as a conversation; its answer may be missing and means nothing."""
        return self.conversation({**row, **{c: v for c, v in self.unanswered.items() if not text_of(row, c)}}, where)

    def asked(self, prompt: str) -> Conversation:
        """What somebody types as a conversation to be answered."""
        messages = (Message.of("user", prompt), Message.of("assistant", ""))
        return Conversation(messages, self.recipe.task, key=prompt, group=prompt, where="prompt")

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        """The scores of a reply to the conversation without its last message, each from 0 to 1.

        Rows may differ in what they are scored by. The first score every row has decides where not all have `metric`.
        """
        raise RecipeError(f"task {self.recipe.task}: {type(self).__name__} has no method that scores a reply")

    def apart(self, conversation: Conversation) -> str:
        """What two rows must share to be compared as near duplicates (`sql`: the database); by default nothing."""
        return ""

    def shorten(self, conversation: Conversation, share: float) -> Conversation | None:
        """The conversation with about `share` of its prompt's length, or None where the task has no way to cut it."""
        return None


def text_of(row: Row, column: str) -> str:
    """A column's value as text without white space around it; nothing, NULL and NaN are the empty text.

    >>> text_of({"text": " hi ", "n": 3, "gone": None}, "text"), text_of({"n": 3}, "n"), text_of({}, "gone")
    ('hi', '3', '')
    """
    value = row.get(column)
    if value is None or value != value:
        return ""
    if isinstance(value, dict | list | tuple | bytes):
        raise RowError("not text", f"column '{column}' holds a {type(value).__name__}; wanted text")
    return str(value).strip()
