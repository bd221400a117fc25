"""A task that types texts again, and replies to it: of two models, and of a scanner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gemtune.data.conversation import Conversation, Message
from gemtune.files import write_jsonl
from gemtune.metrics.statistics import Metric, Ratio
from gemtune.metrics.text import cer
from gemtune.recipe.schema import Recipe
from gemtune.run_files import Evaluation
from gemtune.runs import EvaluationFolder
from gemtune.tasks import Row, Task

RATE = Metric(higher_is_better=False, combine=Ratio("edits", "characters"))


class Typing(Task):
    """Text is typed again; its error rate is over the corpus, and lower is better."""

    metric = "cer"
    metrics: Mapping[str, Metric] = {
        "cer": RATE,
        "edits": Metric(reported=False),
        "characters": Metric(reported=False),
    }

    def conversation(self, row: Row, where: str) -> Conversation:
        text = str(row["text"])
        turns = (Message.of("user", text), Message.of("assistant", text))
        return Conversation(turns, "typing", text, text, where)

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold = conversation.answer
        rate = cer(reply, gold)
        return {"same": float(reply == gold), "cer": rate, "edits": rate * len(gold), "characters": float(len(gold))}


class Careless(Typing):
    """Does not return what its error rate is made of."""

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        return {"cer": cer(reply, conversation.answer)}


def recipe(**evaluate: Any) -> Recipe:
    value = {"name": "t", "task": "typing.py:Typing", "data": [{"source": "t.csv"}], "evaluate": evaluate}
    return Recipe.model_validate(value)


GOLD = ["abcd", "abcdefgh", "ab", "abcdefghij"]
BASE = ["ab", "abcd", "ab", "abcdefghij"]  # 2, 4, 0, 0 edits
TUNED = ["abcd", "abcde", "", "abcdefghij"]  # 0, 3, 2, 0 edits


def replies(path: Path, task: Task) -> EvaluationFolder:
    """A folder with the replies of both models."""
    folder = EvaluationFolder(path)
    for name, texts in (("base", BASE), ("tuned", TUNED)):
        conversations = [task.conversation({"text": text}, f"t.csv:{n}") for n, text in enumerate(GOLD, 2)]
        lines = [evaluation(c, text, task) for c, text in zip(conversations, texts, strict=True)]
        write_jsonl(folder.replies(name), [line.to_json() for line in lines])
    return folder


def evaluation(c: Conversation, text: str, task: Task) -> Evaluation:
    row = {"where": c.where, "key": c.key, "prompt": c.key, "images": [], "gold": c.answer}
    return Evaluation(**row, reply=text, scores=task.score(c, text), cut=False, evaluation="0")


class Witnessed(Typing):
    """A scanner and a clerk have typed some of the texts, too."""

    beside = ("clerk", "scanner")

    def replies_beside(self, conversation: Conversation) -> Mapping[str, tuple[str, dict[str, float]]]:
        if len(conversation.answer) < 3:
            return {}
        scores = self.score(conversation, "abcd")
        told = scores if len(conversation.answer) == 4 else scores.keys() - {"same"}
        return {"scanner": ("abcd", {name: scores[name] for name in scores if name in told})}


def grouped(path: Path, groups: list[str]) -> EvaluationFolder:
    folder = replies(path, Typing(recipe()))
    for name in ("base", "tuned"):
        rows = [
            replace(row, group=group, seal=None) for row, group in zip(folder.evaluations(name), groups, strict=True)
        ]
        write_jsonl(folder.replies(name), [row.to_json() for row in rows])
    return folder
