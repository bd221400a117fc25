"""The summary of replies: directions, scores of a corpus, the deciding metric, the rows that became worse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemtune.data.conversation import Conversation, Message
from gemtune.errors import RunError
from gemtune.evaluation.evaluate import corpus_scores, summarise, write_replies_beside
from gemtune.files import read_jsonl, write_jsonl
from gemtune.metrics.statistics import Metric, Ratio
from gemtune.metrics.text import cer
from gemtune.recipe.schema import Recipe
from gemtune.run_files import Evaluation, Summary
from gemtune.runs import EvaluationFolder
from gemtune.tasks import Row, Task, metric_of

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


def test_an_error_rate_is_of_the_corpus_and_lower_is_better(tmp_path: Path) -> None:
    task = Typing(recipe())
    summary = summarise(replies(tmp_path, task), recipe(), task)
    rate = summary.metrics["cer"]
    assert summary.metric == "cer" and list(summary.metrics) == ["cer", "same"]  # counts are not reported
    assert (rate.direction, summary.metrics["same"].direction) == ("lower", "higher")
    assert rate.base.mean == 6 / 24 and rate.tuned.mean == 5 / 24  # not the means of rows
    assert rate.base.low <= 6 / 24 <= rate.base.high
    assert rate.difference.mean == pytest.approx(-1 / 24)
    assert (rate.difference.wins, rate.difference.losses, rate.difference.ties) == (2, 1, 1)
    (worse,) = summary.regressions
    assert (worse.where, worse.tuned, worse.difference) == ("t.csv:4", "", 1.0)


def test_the_scores_of_a_corpus_while_training() -> None:
    task = Typing(recipe())
    conversations = [task.conversation({"text": text}, "t.csv:2") for text in GOLD]
    assert corpus_scores(task, conversations, BASE) == {"same": 0.5, "cer": 6 / 24}


def test_a_score_that_is_not_there_to_combine_is_one_line(tmp_path: Path) -> None:
    task = Careless(recipe())
    folder = replies(tmp_path, task)
    with pytest.raises(RunError, match="score 'cer' is combined from 'edits', which not every row has"):
        summarise(folder, recipe(), task)
    with pytest.raises(RunError, match="combined from 'edits'"):
        corpus_scores(task, [task.conversation({"text": "a"}, "t.csv:2")], ["b"])


def test_replies_scored_by_other_scores_are_one_line(tmp_path: Path) -> None:
    task = Typing(recipe())
    folder = replies(tmp_path, task)
    first, *others = read_jsonl(folder.replies("tuned"))
    scores = {"sane" if name == "same" else name: score for name, score in first["scores"].items()}
    write_jsonl(folder.replies("tuned"), [{**first, "scores": scores, "seal": None}, *others])  # of an earlier task
    with pytest.raises(RunError, match=r"tuned\.jsonl:1: scored by .*sane.*, in base\.jsonl by .*same.*: remove both"):
        summarise(folder, recipe(), task)


def test_a_count_decides_nothing(tmp_path: Path) -> None:
    task = Typing(recipe())
    folder = replies(tmp_path, task)
    with pytest.raises(RunError, match=r"no score 'edits'; it has same, cer"):
        summarise(folder, recipe(metric="edits"), task)
    assert summarise(folder, recipe(metric="same"), task).metric == "same"


def test_a_score_is_higher_is_better_unless_the_task_says_otherwise() -> None:
    assert metric_of(Typing(recipe()), "same") == Metric() == metric_of(Task(recipe()), "cer")
    assert metric_of(Typing(recipe()), "cer") is RATE


class Picky(Typing):
    """Rows of less than three letters are scored by `same` alone, and `short` calls a long answer wrong."""

    metric = "close"
    metrics: Mapping[str, Metric] = {}

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold = conversation.answer
        close = {"close": 1 - min(1.0, cer(reply, gold))} if len(gold) > 2 else {}
        return {**close, "same": float(reply == gold), "short": float(len(reply) < 9)}


def test_a_score_that_some_rows_have_is_of_those_rows_and_does_not_decide(tmp_path: Path) -> None:
    task = Picky(recipe())
    summary = summarise(replies(tmp_path, task), recipe(), task)
    assert summary.metric == "same" and list(summary.metrics) == ["same", "short", "close"]
    assert summary.scored == {"same": 4, "short": 4, "close": 3}
    assert summary.metrics["close"].base.mean == pytest.approx((0.5 + 0.5 + 1) / 3)
    chosen = recipe(metric="close")
    assert summarise(replies(tmp_path, task), chosen, task).metric == "close"


def test_a_score_counts_where_the_rows_own_answer_is_right_by_it() -> None:
    task = Picky(recipe())
    conversations = [task.conversation({"text": text}, "t.csv:2") for text in GOLD]
    scores = corpus_scores(task, conversations, GOLD)
    assert scores == {"same": 1.0, "close": 1.0, "short": 1.0}  # of the long answer, `short` is not asked


# ---- groups, and replies of others than models


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


def test_rows_of_a_group_are_resampled_together(tmp_path: Path) -> None:
    task = Typing(recipe())
    alone = summarise(grouped(tmp_path / "alone", ["a", "b", "c", "d"]), recipe(), task)
    pairs = summarise(grouped(tmp_path / "pairs", ["a", "a", "b", "b"]), recipe(), task)
    assert (alone.groups, pairs.groups) == (0, 2)
    for name in ("cer", "same"):
        assert pairs.metrics[name].base.mean == alone.metrics[name].base.mean
        assert pairs.metrics[name].difference.wins == alone.metrics[name].difference.wins
    assert pairs.metrics["same"].difference.p_value == 1.0 and pairs.metrics["same"].difference.method == "permutation"
    assert alone.metrics["same"].difference.method == "mcnemar"


def test_one_group_of_all_rows_or_none_leaves_each_row_alone(tmp_path: Path) -> None:
    task = Typing(recipe())
    expected = summarise(grouped(tmp_path / "rows", ["a", "b", "c", "d"]), recipe(), task).metrics
    for number, groups in enumerate((["a"] * 4, [""] * 4)):
        summary = summarise(grouped(tmp_path / str(number), groups), recipe(), task)
        assert (summary.groups, summary.metrics) == (0, expected)


def test_others_are_compared_on_the_rows_and_scores_that_they_have(tmp_path: Path) -> None:
    task = Witnessed(recipe())
    folder = replies(tmp_path, task)
    conversations = [task.conversation({"text": text}, f"t.csv:{n}") for n, text in enumerate(GOLD, 2)]
    write_replies_beside(folder, conversations, task)
    assert [row.reply for row in folder.evaluations("scanner")] == ["abcd"] * 3
    assert not folder.replies("clerk").exists()
    summary = summarise(folder, recipe(), task)
    [compared] = summary.beside.values()
    assert compared.keys() == {"same", "cer"}
    assert (compared["same"].base.mean, compared["same"].difference.ties) == (1.0, 1), "of the one row that has both"
    assert compared["cer"].base.mean == pytest.approx(10 / 22) and compared["cer"].tuned.mean == pytest.approx(3 / 22)
    assert Summary.from_json(json.loads(folder.summary_file().read_text()), "s").beside == summary.beside


def test_what_others_said_of_rows_that_are_gone_is_removed(tmp_path: Path) -> None:
    task = Witnessed(recipe())
    folder = replies(tmp_path, task)
    write_replies_beside(folder, [task.conversation({"text": "abcd"}, "t.csv:2")], task)
    assert folder.replies("scanner").exists()
    write_replies_beside(folder, [task.conversation({"text": "ab"}, "t.csv:2")], task)
    assert not folder.replies("scanner").exists() and summarise(folder, recipe(), task).beside == {}
