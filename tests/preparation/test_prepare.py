"""Rows to a data directory: nothing is lost unseen, groups stay together, growth moves no row."""

import csv
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemtune.data.conversation import read_conversations
from gemtune.errors import DataError, GemtuneError, RecipeError
from gemtune.metrics.text import normalise_text
from gemtune.preparation.prepare import prepare
from gemtune.run_files import DataManifest
from gemtune.runs import PARTS, Run
from preparation.prepared_rows import Rows, a_run, dropped, leaked, pairs, parts_of, write

# ---- properties

TEXTS = st.one_of(
    st.sampled_from(
        ["", "How far is it?", "how  far is it?", "How far is it??", "What is the time in Rome right now?"]
    ),
    st.text(alphabet="abc ", max_size=6),
    st.text(max_size=12),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"prompt": TEXTS, "answer": st.sampled_from(["", "a", "b", "c"]), "g": st.sampled_from("xyz")}
    )
    | st.fixed_dictionaries({"prompt": TEXTS, "answer": st.just("a"), "g": st.just("x"), "id": st.integers(0, 3)}),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(
    ROWS,
    st.sampled_from(["none", "exact", "near"]),
    st.sampled_from([None, "g"]),
    st.sampled_from([0, 0.1, 0.3, 1, 4]),
    st.sampled_from([0, 0.2, 2]),
)
def test_every_row_is_kept_or_dropped_once(rows: Rows, dedupe: str, by: str | None, val: float, test: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        split, keep = {"by": by, "val": val, "test": test}, {"dedupe": dedupe}
        recipe, run = a_run(Path(name), rows, split=split, prepare=keep)
        try:
            manifest = prepare(recipe, run)
        except DataError as error:
            assert "no row is left to train on" in str(error)
            assert not run.data.exists()
            return
        assert manifest.rows_read == len(rows)
        assert sum(manifest.kept.values()) + sum(manifest.dropped.values()) == len(rows)
        assert Counter(reason for _, reason in dropped(run)) == manifest.dropped
        kept = {part: list(read_conversations(run.part(part))) for part in PARTS}
        assert {part: len(found) for part, found in kept.items()} == manifest.kept
        everywhere = [c.where for found in kept.values() for c in found] + [where for where, _ in dropped(run)]
        assert sorted(everywhere) == sorted(f"t.jsonl:{i + 1}" for i in range(len(rows)))
        groups = {part: {c.group for c in found} for part, found in kept.items()}
        assert {part: len(found) for part, found in groups.items()} == manifest.groups
        assert not groups["train"] & groups["val"] and not groups["train"] & groups["test"]
        assert not groups["val"] & groups["test"]


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 59), st.sampled_from([None, "g"]), st.integers(0, 3))
def test_order_and_growth_move_nobody(draw: random.Random, count: int, by: str | None, seed: int) -> None:
    rows = [{**row, "g": f"group {i // 3}"} for i, row in enumerate(pairs(60))]
    shuffled = draw.sample(rows, len(rows))
    split = {"by": by, "seed": seed, "val": 0.2, "test": 0.2}
    with tempfile.TemporaryDirectory() as name:
        runs = []
        for label, some in (("all", rows), ("shuffled", shuffled), ("some", shuffled[:count])):
            recipe, run = a_run(Path(name), some, label, split=split)
            try:
                prepare(recipe, run)
            except DataError:
                continue  # a few rows may all be held out
            runs.append(parts_of(run))
        assert runs[0] == runs[1]
        assert all(found.items() <= runs[0].items() for found in runs[2:])


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 20), st.integers(1, 20))
def test_a_number_of_rows_is_met_whatever_the_order(draw: random.Random, val: int, test: int) -> None:
    rows = pairs(50)
    with tempfile.TemporaryDirectory() as name:
        runs = []
        for label, some in (("all", rows), ("shuffled", draw.sample(rows, len(rows)))):
            recipe, run = a_run(Path(name), some, label, split={"val": val, "test": test})
            assert prepare(recipe, run).kept == {"train": 50 - val - test, "val": val, "test": test}
            runs.append(parts_of(run))
        assert runs[0] == runs[1]


# ---- the split


def test_the_shares_are_about_met_and_a_seed_is_another_split(tmp_path: Path) -> None:
    rows = pairs(2000)
    recipe, run = a_run(tmp_path, rows, prepare={"dedupe": "exact"})
    kept = prepare(recipe, run).kept
    assert 150 < kept["val"] < 250 and 150 < kept["test"] < 250
    other, other_run = a_run(tmp_path, rows, "other", prepare={"dedupe": "exact"}, split={"seed": 1})
    prepare(other, other_run)
    assert parts_of(run) != parts_of(other_run)


def test_a_number_takes_whole_groups(tmp_path: Path) -> None:
    rows = [{**row, "g": i // 7} for i, row in enumerate(pairs(70))]
    recipe, run = a_run(tmp_path, rows, split={"by": "g", "test": 10, "val": 1})
    manifest = prepare(recipe, run)
    assert manifest.kept == {"train": 49, "val": 7, "test": 14}
    assert manifest.groups == {"train": 7, "val": 1, "test": 2}
    assert next(read_conversations(run.part("test"))).group in {str(i) for i in range(10)}


def test_a_missing_split_column_stops_and_an_empty_one_drops(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, pairs(5), split={"by": "product"})
    with pytest.raises(DataError, match=r"t\.jsonl:1: column 'product' is missing"):
        prepare(recipe, run)
    rows = [{**row, "product": f"p{i}" if i else None} for i, row in enumerate(pairs(20))]
    recipe, run = a_run(tmp_path, rows, split={"by": "product"})
    assert prepare(recipe, run).dropped == {"no group": 1}


def test_a_missing_task_column_stops_with_advice(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, [{"prompt": "?", "reply": "!"}])
    with pytest.raises(DataError, match=r"column 'answer' is missing.*data\.columns"):
        prepare(recipe, run)


def test_sources_with_a_part_go_there_with_their_weight(tmp_path: Path) -> None:
    rows = pairs(30)
    names = {"auto": rows[:20], "train": rows[20:24], "val": rows[24:27], "test": rows[27:]}
    data = [
        {
            "source": str(write(tmp_path / f"{part}.jsonl", some)),
            "part": part,
            "weight": 0.5 if part == "train" else 1.0,
        }
        for part, some in names.items()
    ]
    recipe, run = a_run(tmp_path, [], data=data, split={"val": 0, "test": 0})
    manifest = prepare(recipe, run)
    assert manifest.kept == {"train": 24, "val": 3, "test": 3}
    assert [source.rows for source in manifest.sources] == [20, 4, 3, 3]
    assert Counter(c.weight for c in read_conversations(run.part("train"))) == {1.0: 20, 0.5: 4}


# ---- repeats


def test_a_column_called_id_is_a_column_like_any_other(tmp_path: Path) -> None:
    rows = [{**row, "id": i % 8} for i, row in enumerate(pairs(30))]
    for dedupe in ("none", "exact", "near"):
        recipe, run = a_run(tmp_path, rows, dedupe, prepare={"dedupe": dedupe})
        assert prepare(recipe, run).dropped == {}


def test_rows_may_be_split_by_their_id(tmp_path: Path) -> None:
    rows = [{**row, "id": i % 8} for i, row in enumerate(pairs(40))]
    recipe, run = a_run(tmp_path, rows, split={"by": "id", "val": 0.3, "test": 0})
    manifest = prepare(recipe, run)
    assert manifest.dropped == {} and sum(manifest.groups.values()) == 8


def test_two_files_may_both_count_from_zero(tmp_path: Path) -> None:
    rows = pairs(20)
    for name, some in (("a", rows[:10]), ("b", rows[10:])):
        write(tmp_path / f"{name}.jsonl", [{**row, "id": i} for i, row in enumerate(some)])
    recipe, run = a_run(tmp_path, [], data=[{"source": str(tmp_path / "[ab].jsonl"), "id": "id"}])
    assert prepare(recipe, run).dropped == {}


# ---- leaks


def test_what_is_on_both_sides_is_reported(tmp_path: Path) -> None:
    rows = pairs(12)
    near = rows[3]["prompt"].replace("ce", "ec").replace("in", "ni").replace("el", "le").replace("en", "ne")
    assert near != rows[3]["prompt"]
    test = [rows[2], {"prompt": near, "answer": "else"}, {"prompt": "something of its own", "answer": "x"}]
    data = [
        {"source": str(write(tmp_path / "a.jsonl", rows)), "part": "train"},
        {"source": str(write(tmp_path / "b.jsonl", test)), "part": "test"},
        {"source": str(write(tmp_path / "c.jsonl", [{**rows[2], "answer": "another"}])), "part": "val"},
    ]
    recipe, run = a_run(tmp_path, [], data=data, prepare={"similarity": 0.8})
    manifest = prepare(recipe, run)
    found = {(leak["part_a"], leak["where_a"], leak["part_b"], leak["where_b"]): leak for leak in leaked(run)}
    assert set(found) == {
        ("test", "b.jsonl:1", "train", "a.jsonl:3"),
        ("test", "b.jsonl:1", "val", "c.jsonl:1"),
        ("test", "b.jsonl:2", "train", "a.jsonl:4"),
        ("val", "c.jsonl:1", "train", "a.jsonl:3"),
    }
    assert manifest.leaks == 4 and manifest.audited_similarity == 0.8
    exact = found["test", "b.jsonl:1", "train", "a.jsonl:3"]
    assert exact["similarity"] == 1.0 and exact["key_a"] == exact["key_b"] == rows[2]["prompt"]
    assert 0.8 <= found["test", "b.jsonl:2", "train", "a.jsonl:4"]["similarity"] < 1


def test_the_same_question_in_two_groups_is_a_leak(tmp_path: Path) -> None:
    rows = [{"prompt": "How many are there?", "answer": str(i), "g": f"g{i}"} for i in range(40)]
    recipe, run = a_run(tmp_path, rows, split={"by": "g", "val": 0, "test": 0.3})
    manifest = prepare(recipe, run)
    assert manifest.leaks == manifest.kept["test"] > 0


def test_a_clean_split_has_no_leaks(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, [{"prompt": str(i) * 9, "answer": "x"} for i in range(30)])
    assert prepare(recipe, run).leaks == 0 and leaked(run) == []


# ---- bad rows


def test_bad_rows_are_dropped_or_stop_the_run(tmp_path: Path) -> None:
    rows = [*pairs(10), {"prompt": "?", "answer": ""}, {"prompt": "half \ud83d", "answer": "x"}]
    recipe, run = a_run(tmp_path, rows)
    assert prepare(recipe, run).dropped == {"empty answer": 1, "bad unicode": 1}
    recipe, run = a_run(tmp_path, rows, "strict", prepare={"bad_rows": "fail"})
    with pytest.raises(DataError, match=r"^strict\.jsonl:11: empty answer: .* prepare\.bad_rows: drop"):
        prepare(recipe, run)


@pytest.mark.parametrize(
    ("rows", "split", "said"),
    [
        (
            [{"prompt": "?", "answer": ""}] * 3,
            {},
            "3 read, 3 of them dropped as 'empty answer', the first at t.jsonl:1",
        ),
        (pairs(3), {"test": 10}, "all 3 that can be used are val or test .*lower them or add rows"),
    ],
)
def test_nothing_to_train_on_says_why(tmp_path: Path, rows: Rows, split: dict[str, Any], said: str) -> None:
    recipe, run = a_run(tmp_path, rows, split=split)
    with pytest.raises(DataError, match=said):
        prepare(recipe, run)


# ---- the directory


def files(run: Run) -> Iterator[tuple[str, int, bytes]]:
    for path in sorted(run.data.iterdir()):
        yield path.name, path.stat().st_mtime_ns, path.read_bytes()


def test_the_manifest_is_what_was_written_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, pairs(30))
    manifest = prepare(recipe, run)
    assert json.loads(run.data_manifest_file.read_text()) == manifest.to_json()
    assert DataManifest.from_json(manifest.to_json(), run.data_manifest_file) == manifest
    before = list(files(run))
    assert [name for name, *_ in before] == [
        "dropped.jsonl", "leaks.jsonl", "manifest.json", "test.jsonl", "train.jsonl", "unscored.jsonl", "val.jsonl",
    ]  # fmt: skip
    assert prepare(recipe, run) == manifest and list(files(run)) == before


def test_preparing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, pairs(200))
    prepare(recipe, run)
    before = [(name, data) for name, _, data in files(run)]
    run.data_manifest_file.unlink()
    prepare(recipe, run)
    assert [(name, data) for name, _, data in files(run)] == before


@pytest.mark.parametrize(
    "change",
    [{"split": {"seed": 1}}, {"prepare": {"dedupe": "none"}}, {"template": {"prompt": "Q: {prompt}"}}, {"rows": 31}],
)
def test_what_it_is_made_from_prepares_again(tmp_path: Path, change: dict[str, Any]) -> None:
    recipe, run = a_run(tmp_path, pairs(30))
    first = prepare(recipe, run)
    count = change.pop("rows", 30)
    recipe, run = a_run(tmp_path, pairs(count), **change)
    second = prepare(recipe, run)
    assert second.fingerprint != first.fingerprint and second.rows_read == count
    recipe, run = a_run(tmp_path, pairs(count), **change, train={"train_on": "last"})
    before = list(files(run))
    assert prepare(recipe, run) == second and list(files(run)) == before


def test_a_failure_leaves_the_old_data_and_nothing_else(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, pairs(30))
    prepare(recipe, run)
    before, around = list(files(run)), sorted(run.root.iterdir())
    (tmp_path / "t.jsonl").write_text(json.dumps(pairs(1)[0]) + "\n{broken\n")
    with pytest.raises(GemtuneError, match=r"t\.jsonl:2"):
        prepare(recipe, run)
    assert list(files(run)) == before and sorted(run.root.iterdir()) == around
    (run.root / ".prepare-left").mkdir()
    write(tmp_path / "t.jsonl", pairs(40))
    with run.lock():
        prepare(recipe, run)
    (run.root / ".lock").unlink()
    assert sorted(run.root.iterdir()) == around


def test_a_changed_task_file_prepares_again(tmp_path: Path) -> None:
    task = (
        "from gemtune.tasks import Task\nfrom gemtune.tasks.columns import Columns\n"
        "class Mine(Columns):\n    def conversation(self, row, where):\n"
        "        return super().conversation({{**row, 'answer': '{0}'}}, where)\n"
    )
    (tmp_path / "mine.py").write_text(task.format("one"))
    recipe, run = a_run(tmp_path, pairs(20), task=f"{tmp_path / 'mine.py'}:Mine")
    prepare(recipe, run)
    assert next(read_conversations(run.part("train"))).answer == "one"
    (tmp_path / "mine.py").write_text(task.format("two!"))
    prepare(recipe, run)
    assert next(read_conversations(run.part("train"))).answer == "two!"
    (tmp_path / "mine.py").unlink()
    with pytest.raises(RecipeError, match="no such file"):
        prepare(recipe, run)


def test_progress_counts_rows(tmp_path: Path) -> None:
    recipe, run = a_run(tmp_path, pairs(600))
    told: list[int] = []
    prepare(recipe, run, told.append)
    assert told == [256, 512, 600]


def test_the_layout_of_a_source_reaches_the_task(tmp_path: Path) -> None:
    row = {"instruction": "Add {} and one.", "output": "A", "prompt": "Take {} away.", "completion": "B"}
    rows = [{key: value.format(i) for key, value in row.items()} for i in range(12)]
    source = str(write(tmp_path / "two.jsonl", rows))
    for layout, answer in (("auto", "A"), ("prompt_completion", "B")):
        recipe, run = a_run(tmp_path, [], layout, task="messages", data=[{"source": source, "layout": layout}])
        prepare(recipe, run)
        assert next(read_conversations(run.part("train"))).answer == answer


def test_csv_rows_and_renamed_columns(tmp_path: Path) -> None:
    with (tmp_path / "e.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(
            [["message", "label"], *([f"day {i} at the sea", "🌊☀️"] for i in range(20)), ["x", "no"]]
        )
    data = [{"source": str(tmp_path / "e.csv"), "columns": {"text": "message", "emoji": "label"}}]
    recipe, run = a_run(tmp_path, [], task="emoji", data=data, prepare={"dedupe": "exact"})
    manifest = prepare(recipe, run)
    assert manifest.dropped == {"not emoji": 1} and dropped(run) == [("e.csv:22", "not emoji")]
    assert {normalise_text(key) for key in parts_of(run)} == {f"day {i} at the sea" for i in range(20)}
