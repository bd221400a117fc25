"""multi_image: a question about several images, answered by the letter of a choice or in words (MMIU's layout)."""

from __future__ import annotations

import re
from types import MappingProxyType

from gemtune.data.cells import unpacked
from gemtune.data.conversation import Conversation, Message, Part, validate
from gemtune.data.images import reference_of
from gemtune.errors import RowError
from gemtune.metrics.text import exact, token_f1
from gemtune.tasks.base import Row, Task, text_of

IMAGES = ("input_image_path", "images", "image")  # the columns that may hold them; the first one that is there counts
_LETTER = r"(?<![A-Za-z'])[A-H](?![A-Za-z'])"
_CHOICE = re.compile(rf"((?i:\bnot|n't|\bneither|\bnor|\bexcept|\bwithout)\W{{1,3}})?({_LETTER})")
_SEVERAL = re.compile(rf"{_LETTER}\W{{0,3}}(?:,|/|&|\bor\b|\band\b|\+)\W{{0,3}}{_LETTER}")


class MultiImage(Task):
    """Columns `question`, `output`, and the images as a list; `context`, where a row has it, is the system message.

    Scored by the letter chosen where the answer is one, otherwise by the words in common.

    >>> from gemtune.recipe.schema import Recipe
    >>> task = MultiImage(Recipe(name="m", task="multi_image", data=[{"source": "m.json"}]))
    >>> row = {"question": "Which is red?", "context": "A: first B: second", "output": "B",
    ...        "input_image_path": ["./a.png", "./b.png"]}
    >>> choice_of_two = task.conversation(row, "m.json[1]")
    >>> len(choice_of_two.images), task.score(choice_of_two, "(B)."), task.score(choice_of_two, "A")["accuracy"]
    (2, {'accuracy': 1.0, 'chose': 1.0}, 0.0)
    """

    metric = "accuracy"
    columns = ("question", "output")
    unanswered = MappingProxyType({"output": "?"})

    def conversation(self, row: Row, where: str) -> Conversation:
        column = next((name for name in IMAGES if row.get(name)), None)
        if column is None:
            raise RowError("missing image", f"none of the columns {', '.join(IMAGES)} holds one")
        cell = unpacked(row[column])
        values = cell if isinstance(cell, list) else [cell]
        images = tuple(Part(image=reference_of(value, f"{column}[{n}]")) for n, value in enumerate(values, 1))
        question, context = text_of(row, "question"), text_of(row, "context")
        system = (Message.of("system", context),) if context else ()
        prompt = Message("user", (*images, Part(text=question)))
        messages = (*system, prompt, Message.of("assistant", text_of(row, "output")))
        key = f"{context}\n{question}".strip()
        return Conversation(validate(messages), "multi_image", key=key, group=key, where=where)

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold = conversation.answer
        if choice(gold) is None or choice(gold) != gold.strip(" ().:"):
            return {"accuracy": exact(reply, gold), "token_f1": token_f1(reply, gold)}
        return {"accuracy": float(choice(reply) == choice(gold)), "chose": float(choice(reply) is not None)}


def choice(reply: str) -> str | None:
    """The letter a reply chooses: the first capital from A to H that stands by itself and is not ruled out.

    >>> choice("Answer: C, because B is blue"), choice("(D)"), choice("Cups"), choice("I think B.")
    ('C', 'D', None, 'B')
    >>> choice("A or B"), choice("not B"), choice("It is not A but B")
    (None, None, 'B')
    """
    if _SEVERAL.search(reply):
        return None
    return next((found[2] for found in _CHOICE.finditer(reply) if not found[1]), None)
