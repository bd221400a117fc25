"""product: a product's name, category and photo become a short description for mobile search."""

from __future__ import annotations

from types import MappingProxyType

from gemtune.data.conversation import Conversation, Message, Part, validate
from gemtune.data.images import reference_of
from gemtune.metrics.text import chrf, distinct_bigrams, rouge_l, words
from gemtune.tasks.base import Row, Task, text_of

SYSTEM = "You are an expert product description writer."
PROMPT = """\
Create a short product description based on the provided product, its category and its image. Return the description \
only. It should be optimised for search and for a small screen.

Product: {name}
Category: {category}"""
MOBILE = 160  # characters that a search result shows on a phone


class Product(Task):
    """Columns `name`, `category`, `image`, `description`, and `attributes` where a row has them.

    Scored by closeness to the row's description, by whether it fits a phone's screen, names the product and its
    attributes (`red; ceramic`), and does not repeat itself.

    >>> from gemtune.recipe.schema import Recipe
    >>> task = Product(Recipe(name="p", task="product", data=[{"source": "p.csv"}]))
    >>> row = {"name": "Red mug", "category": "Kitchen", "image": "a.png", "description": "A red mug."}
    >>> conversation = task.conversation(row, "p.csv:2")
    >>> conversation.images[0].image, task.score(conversation, "A red mug.")["rouge_l"]
    ('a.png', 1.0)
    """

    metric = "chrf"
    columns = ("name", "category", "image", "description")
    unanswered = MappingProxyType({"description": "?"})

    def conversation(self, row: Row, where: str) -> Conversation:
        name, category = text_of(row, "name"), text_of(row, "category")
        image = Part(image=reference_of(row.get("image"), "column 'image'"))
        prompt = Message("user", (image, Part(text=PROMPT.format(name=name, category=category))))
        messages = (Message.of("system", SYSTEM), prompt, Message.of("assistant", text_of(row, "description")))
        meta = {"name": name, "attributes": _attributes(row)}
        key = f"{name}\n{category}"
        return Conversation(validate(messages), "product", key=key, group=name, where=where, meta=meta)

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold, vocabulary = conversation.answer, set(words(reply))
        scores = {
            "chrf": chrf(reply, gold),
            "rouge_l": rouge_l(reply, gold),
            "fits_mobile": float(0 < len(reply) <= MOBILE),
            "names_it": _share([word in vocabulary for word in words(conversation.meta["name"])]),
            "no_repetition": distinct_bigrams(reply),
        }
        attributes = conversation.meta["attributes"]
        if attributes:
            scores["attribute_recall"] = _share([vocabulary >= set(words(attribute)) for attribute in attributes])
        return scores


def _attributes(row: Row) -> list[str]:
    cell = row.get("attributes")
    attributes = cell if isinstance(cell, list) else text_of(row, "attributes").split(";")
    return [str(attribute).strip() for attribute in attributes if str(attribute).strip()]


def _share(hits: list[bool]) -> float:
    return sum(hits) / len(hits) if hits else 1.0
