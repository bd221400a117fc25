"""Duplicates are dropped with the row that is kept; rows that differ in what counts stay."""

import json
from pathlib import Path

import pytest

from gemtune.data.conversation import read_conversations
from gemtune.errors import DataError
from gemtune.preparation.prepare import prepare
from gemtune.runs import PARTS
from preparation.prepared_rows import a_run, dropped, pairs, write


def test_repeats_are_dropped_and_other_answers_stay_in_one_group(tmp_path: Path) -> None:
    rows = [
        {"prompt": "What is the capital of France?", "answer": "Paris"},
        {"prompt": "What is the capital of France?", "answer": "Paris"},
        {"prompt": "What is  the capital of FRANCE?", "answer": "paris"},
        {"prompt": "What is the capital of France?", "answer": "Paris, of course"},
        {"prompt": "Please tell me in one short word: what is the capital of France?", "answer": "Paris"},
        {"prompt": "Please tell me in one short word: what is the captial of France??", "answer": "It is Paris"},
        {"prompt": "Please tell me, in one short word: what is the capital of FRANCE?", "answer": "Paris"},
        *pairs(5),
    ]
    wanted = {
        "near": [("t.jsonl:2", "duplicate"), ("t.jsonl:3", "near duplicate"), ("t.jsonl:7", "near duplicate")],
        "exact": [("t.jsonl:2", "duplicate")],
        "none": [],
    }
    for dedupe, gone in wanted.items():
        recipe, run = a_run(tmp_path, rows, prepare={"dedupe": dedupe}, split={"val": 0.3, "test": 0.3, "seed": 2})
        prepare(recipe, run)
        assert dropped(run) == gone
        groups = {c.where: c.group for part in PARTS for c in read_conversations(run.part(part))}
        assert groups["t.jsonl:1"] == groups["t.jsonl:4"] != groups["t.jsonl:5"] == groups["t.jsonl:6"]
    assert json.loads(run.dropped_file.read_text() or "null") is None


def test_a_dropped_line_names_the_row_that_is_kept(tmp_path: Path) -> None:
    rows = [*pairs(8), {**pairs(8)[7], "prompt": pairs(8)[7]["prompt"] + "?"}]
    recipe, run = a_run(tmp_path, rows)
    prepare(recipe, run)
    line = json.loads(run.dropped_file.read_text())
    assert line["where"] == "t.jsonl:9" and line["detail"].endswith("with t.jsonl:8")


def test_the_same_question_about_two_databases_is_kept(tmp_path: Path) -> None:
    question = "How many of the singers who were born before the year 1990 have given more than ten concerts in France?"
    rows = [
        {"question": question, "schema": f"CREATE TABLE singer{i} (x)", "sql": "SELECT 1", "db_id": f"d{i}"}
        for i in range(9)
    ]
    recipe, run = a_run(tmp_path, rows, task="sql")
    assert prepare(recipe, run).dropped == {}


def test_an_id_that_two_different_rows_have_is_refused_where_the_recipe_names_it(tmp_path: Path) -> None:
    rows = [{**row, "no": i % 8} for i, row in enumerate(pairs(10))]
    rows += [rows[0], {**rows[9], "no": 77}]
    data = {"source": str(write(tmp_path / "n.jsonl", rows)), "id": "no"}
    recipe, run = a_run(tmp_path, [], data=data)
    assert prepare(recipe, run).dropped == {"duplicate id": 2, "duplicate": 1}
    assert dropped(run) == [("n.jsonl:9", "duplicate id"), ("n.jsonl:10", "duplicate id"), ("n.jsonl:11", "duplicate")]
    recipe, run = a_run(tmp_path, [], "none", data=data, prepare={"dedupe": "none"})
    assert prepare(recipe, run).dropped == {}
    recipe, run = a_run(tmp_path, [], "strict", data=data, prepare={"bad_rows": "fail"})
    with pytest.raises(DataError, match=r"n\.jsonl:9: duplicate id: n\.jsonl:1 has this id"):
        prepare(recipe, run)
    recipe, run = a_run(tmp_path, [], "other", data={**data, "id": "number"})
    with pytest.raises(DataError, match=r"n\.jsonl:1: column 'number' is missing"):
        prepare(recipe, run)
