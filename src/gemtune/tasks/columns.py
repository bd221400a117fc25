"""columns: any table; the recipe's template says how its columns become a prompt and an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gemtune.data.conversation import Conversation, Message, validate
from gemtune.errors import RecipeError
from gemtune.metrics.text import cer, chrf, exact, token_f1
from gemtune.recipe.schema import Recipe, Template
from gemtune.tasks.base import Row, Task, text_of

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


class Columns(Task):
    """Columns named in `template`; scored by how close the reply's text comes to the row's.

    >>> template = {"prompt": "Describe {name} as JSON, like {{...}}", "answer": "{text}"}
    >>> task = Columns(Recipe(name="c", task="columns", data=[{"source": "c.csv"}], template=template))
    >>> task.columns, task.conversation({"name": "a cup", "text": "{}"}, "c.csv:2").messages[0].text
    (('name', 'text'), 'Describe a cup as JSON, like {...}')
    """

    section = "template"
    options: Template
    metric = "exact"

    def __init__(self, recipe: Recipe, layout: str = "auto"):
        super().__init__(recipe, layout)
        columns_of = {key: list(_placeholders(key, wording or "")) for key, wording in self.options}
        if not columns_of["answer"]:
            raise RecipeError(
                "template.answer names no column, so every row would teach the same answer; write {column} in it"
            )
        asked = {*columns_of["system"], *columns_of["prompt"]}
        self.unanswered = dict.fromkeys((name for name in columns_of["answer"] if name not in asked), "?")
        self.columns = tuple(dict.fromkeys(name for names in columns_of.values() for name in names))

    def conversation(self, row: Row, where: str) -> Conversation:
        template = self.options
        prompt, answer = fill_template(template.prompt, row), fill_template(template.answer, row)
        system = (Message.of("system", fill_template(template.system, row)),) if template.system else ()
        messages = (*system, Message.of("user", prompt), Message.of("assistant", answer))
        return Conversation(validate(messages), "columns", key=prompt, group=prompt, where=where)

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold = conversation.answer
        return {
            "exact": exact(reply, gold),
            "token_f1": token_f1(reply, gold),
            "chrf": chrf(reply, gold),
            "cer_similarity": max(0.0, 1.0 - cer(reply, gold)),
        }


def fill_template(wording: str, row: Row) -> str:
    """The wording with each {column} replaced by the row's text; {{ and }} are braces.

    >>> fill_template("{a} in {{{b}}}", {"a": "x{b}", "b": 2})
    'x{b} in {2}'
    """
    doubled = {"{{": "{", "}}": "}"}
    return _BRACES.sub(lambda brace: doubled.get(brace[0]) or text_of(row, brace[1]), wording)


def _placeholders(key: str, wording: str) -> Iterator[str]:
    for brace in _BRACES.finditer(wording):
        if brace[0] in "{}":
            raise RecipeError(
                f"template.{key}: a single '{brace[0]}' at character {brace.start() + 1}; write {{column}} for a "
                "column, and {{ or }} for a brace itself"
            )
        if brace[1]:
            yield brace[1]
