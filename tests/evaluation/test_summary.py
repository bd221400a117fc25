"""The summary of replies: directions, scores of a corpus, the deciding metric, the rows that became worse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from evaluation.typed_texts import BASE, GOLD, RATE, Careless, Typing, Witnessed, grouped, recipe, replies
from gemtune.data.conversation import Conversation
from gemtune.errors import RunError
from gemtune.evaluation.evaluate import write_replies_beside
from gemtune.evaluation.summary import corpus_scores, summarise
from gemtune.files import read_jsonl, write_jsonl
from gemtune.metrics.statistics import Metric
from gemtune.metrics.text import cer
from gemtune.run_files import Summary
from gemtune.tasks import Task, metric_of


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
