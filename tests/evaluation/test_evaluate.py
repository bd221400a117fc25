"""Replies on disk: those of others than models, a line for each row that they have answered."""

from __future__ import annotations

from pathlib import Path

from evaluation.typed_texts import Witnessed, recipe, replies
from gemtune.evaluation.evaluate import write_replies_beside
from gemtune.evaluation.summary import summarise


def test_a_reply_beside_the_models_is_a_line_like_theirs(tmp_path: Path) -> None:
    task = Witnessed(recipe())
    folder = replies(tmp_path, task)
    rows = [task.conversation({"text": text}, f"t.csv:{n}") for n, text in ((2, "abcd"), (3, "ab"))]
    write_replies_beside(folder, rows, task)
    [line] = folder.evaluations("scanner")
    assert (line.where, line.group, line.gold, line.reply) == ("t.csv:2", "abcd", "abcd", "abcd")
    assert line.scores["cer"] == 0.0 and not line.cut
    before = folder.replies("scanner").read_bytes()
    write_replies_beside(folder, rows, task)
    assert folder.replies("scanner").read_bytes() == before


def test_what_others_said_of_rows_that_are_gone_is_removed(tmp_path: Path) -> None:
    task = Witnessed(recipe())
    folder = replies(tmp_path, task)
    write_replies_beside(folder, [task.conversation({"text": "abcd"}, "t.csv:2")], task)
    assert folder.replies("scanner").exists()
    write_replies_beside(folder, [task.conversation({"text": "ab"}, "t.csv:2")], task)
    assert not folder.replies("scanner").exists() and summarise(folder, recipe(), task).beside == {}
