"""messages: rows that already are conversations, in any of the usual layouts."""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType

from gemtune.data.chat_layouts import ALPACA, PAIRS, layout_of, to_messages
from gemtune.data.chat_turns import Reading
from gemtune.data.conversation import Conversation
from gemtune.data.row_fields import second_answers
from gemtune.errors import DataError, RowError
from gemtune.metrics.text import chrf, exact
from gemtune.recipe.schema import Recipe
from gemtune.tasks.base import Row, Task


class Messages(Task):
    """Conversations as they come; scored by how close the reply's text comes to the last answer that is trained.

    >>> task = Messages(Recipe(name="m", task="messages", data=[{"source": "m.jsonl"}]))
    >>> row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    >>> task.conversation(row, "m.jsonl:1").key
    'hi'
    """

    metric = "chrf"  # minds the order of words, in any script
    unanswered = MappingProxyType({pair.answer: "?" for pair in (*ALPACA, *PAIRS)})

    def __init__(self, recipe: Recipe, layout: str = "auto"):
        super().__init__(recipe, layout)
        self.reading = Reading(frozenset(recipe.prepare.ignore), recipe.prepare.merge_turns)
        self._last_read = ""

    def conversation(self, row: Row, where: str) -> Conversation:
        return self._conversation(row, where, self.reading)

    def question(self, row: Row, where: str) -> Conversation:
        """The row's last question, whatever it says of the answer to it."""
        return self._conversation(row, where, replace(self.reading, asks=True))

    def _conversation(self, row: Row, where: str, reading: Reading) -> Conversation:
        messages = to_messages(row, self._layout_of(row, where, reading), reading)
        prompts = (part for message in messages if message.role == "user" for part in message.parts)
        key = "\n".join(part.text for part in prompts if part.text)
        return Conversation(messages, "messages", key=key, group=key, where=where)

    def _layout_of(self, row: Row, where: str, reading: Reading) -> str:
        """The recipe's layout, or the row's; a file whose first row has none cannot be read."""
        if self.layout != "auto":
            return self.layout
        try:
            layout = layout_of(row, reading)
        except DataError as error:
            if _file_of(where) != _file_of(self._last_read):
                raise DataError(f"{where}: {error}") from error
            if second_answers(row):
                raise RowError("preference data", str(error)) from error
            raise RowError("no layout", str(error)) from error
        self._last_read = where
        return layout

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold = conversation.answer
        return {"exact": exact(reply, gold), "chrf": chrf(reply, gold)}


def _file_of(where: str) -> str:
    """
    >>> _file_of("a/b.jsonl:12"), _file_of("b.json[3]")
    ('a/b.jsonl', 'b.json')
    """
    return re.split(r"[:\[]\d+\]?$", where)[0]
