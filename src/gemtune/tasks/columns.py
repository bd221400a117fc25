"""columns: any table; the recipe's template says how its columns become a prompt and an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gemtune.data.conversation import Conversation, Message, validated
from gemtune.errors import RecipeError
from gemtune.metrics.text import cer, chrf, exact, token_f1
from gemtune.recipe.schema import Recipe
from gemtune.tasks.base import Row, Task, text_of

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


class Columns(Task):
    """Columns named in `template`; scored by how close the reply's text comes to the row's.

    >>> template = {"prompt": "Describe {name} as JSON, like {{...}}", "answer": "{text}"}
    >>> task = Columns(Recipe(name="c", task="columns", data=[{"source": "c.csv"}], template=template))
    >>> task.columns, task.conversation({"name": "a cup", "text": "{}"}, "c.csv:2").messages[0].text
    (('name', 'text'), 'Describe a cup as JSON, like {...}')
    """

    metric = "exact"

    def __init__(self, recipe: Recipe, layout: str = "auto"):
        super().__init__(recipe, layout)
        named = {key: list(_placeholders(key, wording or "")) for key, wording in recipe.template}
        if not named["answer"]:
            raise RecipeError("template.answer names no column, so all rows would teach the same; write {column} in it")
        self.unanswered = dict.fromkeys(named["answer"], "?")
        self.columns = tuple(dict.fromkeys(name for names in named.values() for name in names))

    def conversation(self, row: Row, where: str) -> Conversation:
        template = self.recipe.template
        prompt, answer = filled(template.prompt, row), filled(template.answer, row)
        system = (Message.of("system", filled(template.system, row)),) if template.system else ()
        messages = (*system, Message.of("user", prompt), Message.of("assistant", answer))
        return Conversation(validated(messages), "columns", key=prompt, group=prompt, where=where)

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold = conversation.answer
        return {
            "exact": exact(reply, gold),
            "token_f1": token_f1(reply, gold),
            "chrf": chrf(reply, gold),
            "cer_similarity": max(0.0, 1.0 - cer(reply, gold)),
        }


def filled(wording: str, row: Row) -> str:
    """The wording with each {column} replaced by the row's text; {{ and }} are braces.

    >>> filled("{a} in {{{b}}}", {"a": "x{b}", "b": 2})
    'x{b} in {2}'
    """
    doubled = {"{{": "{", "}}": "}"}
    return _BRACES.sub(lambda found: doubled.get(found[0]) or text_of(row, found[1]), wording)


def _placeholders(key: str, wording: str) -> Iterator[str]:
    for found in _BRACES.finditer(wording):
        if found[0] in "{}":
            raise RecipeError(
                f"template.{key}: a single '{found[0]}' at character {found.start() + 1}; write {{column}} for a "
                "column, and {{ or }} for a brace itself"
            )
        if found[1]:
            yield found[1]
