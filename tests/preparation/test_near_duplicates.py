"""Near duplicates: real ones are found, rows of their own stay; both kinds are in labelled_pairs.jsonl."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gemtune.data.conversation import read_conversations
from gemtune.preparation.prepare import prepare
from gemtune.recipe.schema import Recipe
from gemtune.runs import PARTS as SPLIT
from gemtune.runs import Run
from preparation.prepared_rows import misspelt, phrase

Rows = list[dict[str, Any]]

PAIRS = [json.loads(line) for line in Path(__file__).with_name("labelled_pairs.jsonl").read_text("utf-8").splitlines()]


def prepared(folder: Path, rows: Rows, **sections: Any) -> tuple[Run, dict[int, str]]:
    """A run of some rows, and the details of those that are dropped as near duplicates, by number from 1."""
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    value = {"task": "columns", "runs_dir": str(folder), "data": str(folder / "t.jsonl"), **sections}
    recipe = Recipe.model_validate(value)
    run = Run.of(recipe)
    prepare(recipe, run)
    lines = map(json.loads, run.dropped_file.read_text("utf-8").splitlines())
    return run, {
        int(line["where"].split(":")[1]): line["detail"] for line in lines if line["reason"] == "near duplicate"
    }


def groups(run: Run) -> dict[int, str]:
    return {int(c.where.split(":")[1]): c.group for part in SPLIT for c in read_conversations(run.part(part))}


# ---- both kinds, labelled


def test_precision_and_recall_on_the_labelled_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All pairs are rows of one data set: to drop the second row of a pair as a copy of its first is right."""
    _, dropped = prepared(tmp_path, [pair[side] for pair in PAIRS for side in ("a", "b")])
    firsts = {2 * number + 2: f"t.jsonl:{2 * number + 1}" for number, pair in enumerate(PAIRS) if pair["same"]}
    right = {row for row, detail in dropped.items() if row in firsts and detail.endswith(f"with {firsts[row]}")}
    precision, recall = len(right) / len(dropped), len(right) / len(firsts)
    with capsys.disabled():
        print(f"\nnear duplicates on {len(PAIRS)} pairs: precision {precision:.3f}, recall {recall:.3f}")
    assert not [PAIRS[(row - 1) // 2] for row in dropped.keys() - right]
    assert recall >= 0.95


def test_the_labels_are_the_same_one_pair_at_a_time(tmp_path: Path) -> None:
    """In a set of its own a pair has no other rows to tell what is usual."""
    filler = [{"prompt": f"{phrase(random.Random(i), 4, 8)} {i}", "answer": f"answer {i}"} for i in range(8)]
    wrong = []
    for pair in PAIRS:
        _, dropped = prepared(tmp_path, [*filler, pair["a"], pair["b"]])
        wrong += [pair] if dropped and not pair["same"] else []
    assert not wrong


# ---- what many rows share says nothing


@pytest.mark.parametrize("answers", [["yes", "no"], [f"answer {number}" for number in range(300)]])
def test_questions_about_one_passage_stay(tmp_path: Path, answers: list[str]) -> None:
    draw, rows = random.Random(0), []
    for _ in range(60):
        passage = " ".join("".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(2, 9))) for _ in range(400))
        asked = [f"{passage}\n{word} {phrase(draw, 2, 4)}?" for word in ("Who", "When", "Where", "Why", "How")]
        rows += [{"prompt": question, "answer": draw.choice(answers)} for question in asked]
    run, dropped = prepared(tmp_path, rows)
    assert not dropped and sum(run.prepared_data().kept.values()) == 300


def test_rows_under_one_long_instruction_stay(tmp_path: Path) -> None:
    draw, rows = random.Random(1), []
    for _ in range(30):
        instruction = ". ".join(phrase(draw, 10, 15) for _ in range(20))
        inputs = {phrase(draw, 1, 4): None for _ in range(60)}
        rows += [
            {"prompt": f"{instruction}\n{text}", "answer": draw.choice(["good", "bad"])} for text in [*inputs][:33]
        ]
    _, dropped = prepared(tmp_path, rows)
    assert not dropped and len(rows) == 990


# ---- copies are found


def test_misspelt_copies_are_found(tmp_path: Path) -> None:
    draw = random.Random(2)
    rows = [
        {"prompt": f"Tell me about {phrase(draw, 4, 12)}?", "answer": f"{phrase(draw, 2, 5)} {i}"} for i in range(300)
    ]
    copies = [{**row, "prompt": misspelt(draw, row["prompt"])} for row in rows]
    _, dropped = prepared(tmp_path, [*rows, *copies])
    assert {*dropped} == {*range(301, 601)}


def test_of_many_copies_one_stays_and_each_line_names_a_row_that_does(tmp_path: Path) -> None:
    draw = random.Random(3)
    rows = []
    for number in range(20):
        question, answer = f"Tell me about {phrase(draw, 6, 9)} {number}", f"{phrase(draw, 3, 5)} {number}"
        rows += [{"prompt": question + "?" * marks, "answer": answer} for marks in range(40)]
    draw.shuffle(rows)
    run, dropped = prepared(tmp_path, rows)
    kept = groups(run)
    assert len(kept) == 20 and len(dropped) == 780
    assert {int(detail.rsplit(":", 1)[1]) for detail in dropped.values()} == {*kept}


# ---- other answers


def test_rows_with_other_answers_are_one_group_whatever_their_order(tmp_path: Path) -> None:
    questions = [
        "What should one see in Kyoto on a rainy day in spring?",
        "what should one see in kyoto on a rainy day in spring",
        "What should one see in Kyoto on a rainy day in sprnig?",
    ]
    rows = [{"prompt": question, "answer": f"place {number}"} for number, question in enumerate(questions)]
    rows += [{"prompt": f"{phrase(random.Random(i), 5, 9)} {i}", "answer": f"answer {i}"} for i in range(60)]
    run, dropped = prepared(tmp_path, rows)
    found = groups(run)
    assert not dropped and found[1] == found[2] == found[3]
    assert len({*found.values()}) == 61 == sum(run.prepared_data().groups.values())
    turned, _ = prepared(tmp_path, rows[::-1])
    assert {len(rows) + 1 - row: group for row, group in groups(turned).items()} == found


def test_with_a_column_to_split_by_groups_are_the_users(tmp_path: Path) -> None:
    rows = [{"prompt": "How many are there" + "?" * n, "answer": str(n), "g": f"g{n % 9}"} for n in range(45)]
    run, dropped = prepared(tmp_path, rows, split={"by": "g", "val": 0, "test": 0.3})
    assert not dropped and len({*groups(run).values()}) == 9
    leaks = [json.loads(line) for line in run.leaks_file.read_text("utf-8").splitlines()]
    assert len(leaks) == run.prepared_data().groups["test"] and {leak["similarity"] for leak in leaks} == {1.0}


def test_nothing_is_deleted_where_nothing_is_to_be(tmp_path: Path) -> None:
    rows = [pair[side] for pair in PAIRS for side in ("a", "b", "b")]
    run, dropped = prepared(tmp_path, rows, prepare={"dedupe": "none"})
    assert not dropped and sum(run.prepared_data().kept.values()) == len(rows)


# ---- how candidates are found


# ---- how two questions are read


def test_short_inputs_that_are_no_words_are_no_misspelt_ones(tmp_path: Path) -> None:
    draw = random.Random(5)
    inputs = {"".join(draw.choices("acgt", k=8)): None for _ in range(900)}
    _, dropped = prepared(tmp_path, [{"prompt": f"Classify: {text}", "answer": draw.choice("ab")} for text in inputs])
    assert not dropped
