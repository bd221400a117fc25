"""documents: a row becomes a question about a page; rows of the pipeline and rows written by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gemtune.tasks import counted_scores, task_of
from gemtune.tasks.documents.schemas import SCHEMAS
from tasks.task_rows import made, recipe, refused

ANSWER = '{"elements": [{"type": "paragraph", "markdown": "نص الصفحة الأولى"}]}'
ROW = {
    "document": "a/12.pdf",
    "number": 3,
    "group": "a/12.pdf",
    "task": "content",
    "image": "images/ab/ab.png",
    "prompt": "Read this page.",
    "answer": ANSWER,
    "schema": SCHEMAS["content"],
    "ocr": "نص الصفحه الاولي",
}


def test_the_page_is_asked_first_and_the_answer_is_the_teachers() -> None:
    page = made(task_of(recipe("documents")), ROW)
    assert [part.image or part.text for part in page.messages[0].parts] == ["images/ab/ab.png", "Read this page."]
    assert (page.answer, page.group, page.meta["number"]) == (ANSWER, "a/12.pdf", 3)


@pytest.mark.parametrize("column", ["image", "prompt", "answer"])
def test_a_row_that_lacks_a_column_is_refused(column: str) -> None:
    assert refused(task_of(recipe("documents")), {**ROW, column: ""})


def test_rows_by_hand_need_no_more_than_image_prompt_and_answer() -> None:
    task = task_of(recipe("documents"))
    plain = made(task, {"image": "p.png", "prompt": "Read.", "answer": "# عنوان\nنص"})
    assert plain.meta == {"task": "content", "schema": None}
    assert task.score(plain, "# عنوان\nنص")["cer"] == 0.0
    assert task.doubts(plain) == {}, "it need not be JSON"
    own = made(task, {"image": "p.png", "prompt": "Read.", "answer": {"a": "س"}, "schema": '{"type": "object"}'})
    assert (own.answer, own.meta["task"]) == ('{"a": "س"}', "page")
    assert task.score(own, '{"a": "س"}')["field_f1"] == 1.0


@pytest.mark.parametrize("schema", ["{", [1], 3, {"type": "objekt"}, '{"type": 1}', {"$ref": "http://127.0.0.1:9/"}])
def test_a_schema_that_is_none_is_refused(schema: Any) -> None:
    assert refused(task_of(recipe("documents")), {**ROW, "schema": schema}) == "bad schema"


def test_a_teacher_that_differs_from_the_truth_still_counts() -> None:
    task = task_of(recipe("documents"))
    page = made(task, {**ROW, "reference": "نص الصفحة الثانية"})
    scores = counted_scores(task, page, ANSWER)
    assert {"similarity", "cer", "cer_capped", "word_f1", "chrf", "json_valid"} <= scores.keys()
    assert 0 < scores["cer"] < 1
    assert task.doubts(page) == {}


def test_what_is_wrong_with_an_answer_itself_is_a_doubt() -> None:
    task = task_of(recipe("documents"))
    cut = made(task, {**ROW, "answer": ANSWER[:-3]})
    assert set(task.doubts(cut)) == {"json_valid", "schema_valid"}
    stuck = made(task, {**ROW, "answer": json.dumps({"elements": [{"type": "title", "markdown": "a b " * 200}]})})
    assert set(task.doubts(stuck)) == {"loop"}


def test_teacher_and_ocr_are_beside_where_they_can_be_judged() -> None:
    task = task_of(recipe("documents"))
    assert set(task.replies_beside(made(task, ROW))) == {"ocr"}
    both = task.replies_beside(made(task, {**ROW, "reference": "نص الصفحة الأولى"}))
    assert both["teacher"][0] == ANSWER and both["teacher"][1]["cer"] == 0.0
    text, scores = both["ocr"]
    assert (text, scores["cer"]) == (ROW["ocr"], 0.0)
    assert not {"json_valid", "unsupported"} & scores.keys()
    fields = {**ROW, "task": "fields", "answer": '{"a": "b"}', "schema": None}
    assert task.replies_beside(made(task, fields)) == {}
    true_fields = task.replies_beside(made(task, {**fields, "reference": '{"a": "c"}'}))
    assert true_fields["teacher"][1]["field_f1"] == 0.0


def test_of_fields_a_page_of_text_tells_only_what_the_teacher_made_up() -> None:
    task = task_of(recipe("documents"))
    answer = json.dumps({"issuer": "وزارة التربية والتعليم", "subject": "طلب إجازة مرضية عاجلة"}, ensure_ascii=False)
    row = {**ROW, "task": "letter", "answer": answer, "schema": None, "reference": "وزارة التربية والتعليم في القاهرة"}
    [(text, scores)] = task.replies_beside(made(task, row)).values()
    assert (text, scores) == (answer, {"unsupported": 0.5, "statements_without_source": 1.0, "statements": 2.0})


def test_the_folding_of_the_recipe_is_that_of_the_score_that_decides() -> None:
    row = {**ROW, "answer": "مسؤول", "schema": None}
    for options, rate in (({}, 0.2), ({"fold_hamza": True}, 0.0), ({"folding": "none"}, 0.2)):
        task = task_of(recipe("documents", documents=options))
        assert task.score(made(task, row), "مسوول")["cer"] == pytest.approx(rate)


def test_a_layer_that_can_be_trusted_is_beside_and_the_teacher_is_not_held_to_its_own_answer() -> None:
    task = task_of(recipe("documents"))
    beside = task.replies_beside(made(task, {**ROW, "layer": "نص الصفحة الأولى"}))
    assert beside["layer"][1].keys() >= {"similarity", "cer"} and "teacher" not in beside
