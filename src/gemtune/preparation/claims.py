"""Which scores a prepared row is counted in: those in which its own answer gets full marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from gemtune.data.conversation import read_conversations
from gemtune.files import JsonObject, write_jsonl
from gemtune.runs import Run
from gemtune.tasks import Task, doubtful_scores, metric_of, reasons_of

SCORED = ("val", "test")  # nothing is generated for train


def write_claims(staged: Run, task: Task, train_doubts: Iterable[JsonObject]) -> tuple[dict[str, int], int]:
    """Scores the answer of every row that will be scored; returns the rows of each score, and of the scores left out.

    The rows that are not counted in a score are listed, each with the reason; then the rows of train whose own answer
    is doubtful.
    """
    counted = Counter[str]()
    unscored = write_jsonl(staged.unscored_file, chain(_left_out(staged, task, counted), train_doubts))
    return dict(counted), unscored


def _left_out(staged: Run, task: Task, counted: Counter[str]) -> Iterator[JsonObject]:
    for part in SCORED:
        for conversation in read_conversations(staged.part(part)):
            scores = task.score(conversation, conversation.answer)
            doubtful = doubtful_scores(task, scores)
            counted.update(name for name in scores if name not in doubtful and metric_of(task, name).reported)
            for name, reason in {**task.unscored(conversation), **reasons_of(doubtful)}.items():
                yield {"part": part, "where": conversation.where, "score": name, "reason": reason}
