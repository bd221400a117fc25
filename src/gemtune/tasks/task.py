"""Task: a row becomes a Conversation, a reply becomes scores; prompt and metric of a use case live side by side."""

from __future__ import annotations

from typing import Any

from gemtune.config import Recipe
from gemtune.conversation import Conversation
from gemtune.errors import RecipeError

Row = dict[str, Any]


class Task:
    """What a use case is: subclass it in a file of your own and name it `file.py:Class` in the recipe."""

    metric: str = "exact"  # the score that decides; a key of what `score` returns, higher is better
    columns: tuple[str, ...] = ()  # the columns every row must have

    def __init__(self, recipe: Recipe):
        self.recipe = recipe

    def conversation(self, row: Row, where: str) -> Conversation:
        """The row as a conversation that ends in the wanted answer; RowError when it cannot be one."""
        raise RecipeError(f"task {self.recipe.task}: {type(self).__name__} does not say how a row becomes a conversation")

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        """The scores of a reply to the conversation without its last message, each from 0 to 1."""
        raise RecipeError(f"task {self.recipe.task}: {type(self).__name__} does not say how a reply is scored")

    def shorten(self, conversation: Conversation, share: float) -> Conversation | None:
        """The conversation with about `share` of its prompt's length, or None where the task has no way to cut it."""
        return None

