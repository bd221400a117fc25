"""messages: rows that already are conversations, in any of the usual layouts."""

from __future__ import annotations

from gemtune.data.chat_layouts import layout_of, to_messages
from gemtune.data.conversation import Conversation
from gemtune.errors import DataError
from gemtune.metrics.text import chrf, exact, token_f1
from gemtune.tasks.base import Row, Task

# By layout: the column of the answer (or of all turns), and the placeholder for a missing answer.
UNANSWERED: dict[str, tuple[str, str | dict[str, str]]] = {
    "messages": ("messages", {"role": "assistant", "content": "?"}),
    "sharegpt": ("conversations", {"from": "gpt", "value": "?"}),
    "alpaca": ("output", "?"),
    "prompt_completion": ("completion", "?"),
}


class Messages(Task):
    """Conversations as they come; scored by how close the reply's text comes to the last answer.

    >>> from gemtune.recipe.schema import Recipe
    >>> task = Messages(Recipe(name="m", task="messages", data=[{"source": "m.jsonl"}]))
    >>> row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    >>> task.conversation(row, "m.jsonl:1").key
    'hi'
    """

    metric = "token_f1"

    def conversation(self, row: Row, where: str) -> Conversation:
        messages = to_messages(row, self._layout_of(row, where))
        prompts = (part for message in messages if message.role == "user" for part in message.parts)
        key = "\n".join(part.text for part in prompts if part.text)
        return Conversation(messages, "messages", key=key, group=key, where=where)

    def question(self, row: Row, where: str) -> Conversation:
        layout = self._layout_of(row, where)
        column, answer = UNANSWERED[layout]
        if not isinstance(answer, dict):
            return self.conversation({**row, column: row.get(column) or answer}, where)
        turns = row[column]
        if not isinstance(turns, list):
            return self.conversation(row, where)  # which says what is wrong
        last = turns[-1] if turns and isinstance(turns[-1], dict) else {}
        is_answered = last.get("role", last.get("from")) in ("assistant", "gpt", "model")
        return self.conversation(row if is_answered else {**row, column: [*turns, answer]}, where)

    def _layout_of(self, row: Row, where: str) -> str:
        """The source's layout: the recipe's, or else what the first row is written in."""
        if self.layout == "auto":
            try:
                self.layout = layout_of(row)
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
        return self.layout

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold = conversation.answer
        return {"exact": exact(reply, gold), "token_f1": token_f1(reply, gold), "chrf": chrf(reply, gold)}
