"""Rows on disk with their hashes in memory: what comes back is what was kept, and a hash tells what it is to tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemtune.data.conversation import Conversation, Message
from gemtune.errors import DataError, RowError
from gemtune.preparation.row_store import HASHES, RowStore
from gemtune.recipe.schema import Recipe


def recipe(**keys: object) -> Recipe:
    return Recipe.model_validate({"name": "t", "task": "columns", "data": "t.jsonl", **keys})


def row(question: str, answer: str = "a", group: str = "g", where: str = "t.jsonl:1") -> Conversation:
    messages = (Message.of("user", question), Message.of("assistant", answer))
    return Conversation(messages, "columns", key=question, group=group, where=where)


# What is changed of a row -> the hashes that then differ.
CHANGES: dict[str, tuple[dict[str, object], set[str]]] = {
    "nothing": ({}, set()),
    "the pool": ({"pool": 1}, {"pool", "answer", "content"}),
    "the scope": ({"scope": "a database"}, {"scope", "question", "answer"}),
    "the group": ({"row": row("What is it?", group="h")}, {"group"}),
    "the answer": ({"row": row("What is it?", "b")}, {"answer", "content"}),
    "case and signs of the question": ({"row": row("what is IT")}, {"content"}),
    "a word of the question": ({"row": row("What is she?")}, {"question", "content"}),
    "the row's id": ({"identity": "8"}, {"id"}),
    "the line": ({"row": row("What is it?", where="t.jsonl:9")}, set()),
    "the file": ({"row": row("What is it?", where="u.jsonl:1")}, {"id"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_hash_differs_where_what_it_tells_differs(change: str, tmp_path: Path) -> None:
    changed, names = CHANGES[change]
    with RowStore(tmp_path, recipe()) as store:
        for values in ({}, changed):
            settings = {"row": row("What is it?"), "pool": 0, "scope": "", "identity": "7", **values}
            store.add(settings.pop("row"), **settings)  # type: ignore[arg-type]
        assert {name for name in HASHES if len(np.unique(store.hashes(name))) == 2} == names


def test_the_seed_alone_moves_a_group(tmp_path: Path) -> None:
    groups = []
    for seed in (0, 0, 1):
        with RowStore(tmp_path, recipe(split={"seed": seed})) as store:
            store.add(row("What is it?"), 0, "", "")
            groups.append(store.hashes("group").tolist())
    assert groups[0] == groups[1] != groups[2]


def test_a_conversation_is_kept_whole_and_written_with_its_new_group(tmp_path: Path) -> None:
    kept = row("Was ist 'das'? 🏖️\u2028", 'Ein "Strand"\n')
    with RowStore(tmp_path, recipe()) as store:
        store.add(kept, 0, "", "")
        assert Conversation.from_json(store.conversation(0)) == kept
        assert (store.question(0), store.answer(0), store.where(0)) == (kept.key, kept.answer, kept.where)
        assert store.line(0) == store.conversations[0]
        store.regroup(0, 5, "others")
        assert '"group": "others"' in store.line(0) and store.hashes("group").tolist() == [5]


def test_a_bad_row_is_dropped_with_its_reason_or_stops(tmp_path: Path) -> None:
    error = RowError("empty answer", "nothing in it")
    with RowStore(tmp_path, recipe()) as store:
        store.refuse("t.jsonl:3", error)
        assert store.reasons == {"empty answer": 1} and len(store) == 0
        assert list(store.drops()) == [{"where": "t.jsonl:3", "reason": "empty answer", "detail": "nothing in it"}]
    with (
        RowStore(tmp_path, recipe(prepare={"bad_rows": "fail"})) as store,
        pytest.raises(DataError, match=r"t\.jsonl:3: empty answer: nothing in it; mend the row, or set"),
    ):
        store.refuse("t.jsonl:3", error)
