"""Scores of a page: what each sees, which a page has, and that they do not depend on the reply."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gemtune.metrics.arabic import FOLDINGS
from gemtune.tasks.documents.schemas import SCHEMAS
from gemtune.tasks.documents.scores import METRICS, OF_A_FORM, Truth, score_reply

TABLE = "<table><tr><th>البند</th><th>المبلغ</th></tr><tr><td>إيجار</td><td>١٢٠٠</td></tr></table>"


def content(*parts: str) -> str:
    return json.dumps({"elements": [{"type": "paragraph", "markdown": part} for part in parts]}, ensure_ascii=False)


PAGE = content("# إشعار", "يسر الشركة أن تدعوكم إلى الاجتماع السنوي يوم الأحد.", "- أولاً\n- ثانياً", TABLE)


def scored(reply: str, answer: str = PAGE, task: str = "content", **meta: Any) -> dict[str, float]:
    schema = SCHEMAS.get(task)
    return score_reply(reply, Truth.of({"task": task, "schema": schema, **meta}, answer))


def test_the_page_of_tasks_names_every_score() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
    table = page.split("<!-- scores: documents -->\n")[1].split("\n\n")[0]
    named = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    shown = [name for name, metric in METRICS.items() if metric.reported]
    assert sorted(named) == sorted([*shown, *OF_A_FORM])


REPLIES = [
    "",
    "{}",
    "[]",
    "null",
    "nonsense",
    PAGE,
    PAGE[:40],
    content(),
    content("x"),
    "[" * 5_000,
    content("كلمة " * 500),
]
FIELDS = json.dumps({"classification": {"kind": "letter", "title": "إشعار"}, "dates": [], "confidence": 0.9})


@pytest.mark.parametrize("answer", [PAGE, content(), content("---"), "plain", "# Title only", FIELDS, "not json"])
@pytest.mark.parametrize("task", ["content", "fields", "invoice"])
@pytest.mark.parametrize("reference", ["", "سطر واحد", FIELDS])
def test_a_page_has_the_same_scores_whatever_the_reply(answer: str, task: str, reference: str) -> None:
    meta = {"reference": reference} if reference else {}
    names = {tuple(scored(reply, answer, task, **meta)) for reply in REPLIES}
    assert len(names) == 1
    for reply in REPLIES:
        for name, score in scored(reply, answer, task, **meta).items():
            bounded = METRICS.get(name) is None or not (METRICS[name].combine or not METRICS[name].reported)
            assert score >= 0 and (score <= 1 or name == "cer_macro" or not bounded), name


def test_a_right_reply_gets_full_marks_and_an_empty_one_none() -> None:
    right, empty = scored(PAGE), scored("")
    for name in right:
        metric = METRICS.get(name)
        if metric is None or metric.reported:
            assert right[name] == (1.0 if metric is None or metric.higher_is_better else 0.0), name
    assert empty["similarity"] == empty["word_f1"] == empty["chrf"] == empty["table_teds"] == empty["heading_f1"] == 0.0
    assert empty["cer"] == empty["wer"] == 1.0


def test_each_folding_forgives_its_own() -> None:
    reply = scored(content("يَسُرّ الشركه ان تدعوكم, الى الإجتماع"), content("يسر الشركة أن تدعوكم، إلى الاجتماع"))
    assert reply["cer_none"] > reply["cer_punctuation"] > reply["cer_all"] == 0.0
    assert reply["cer_none"] > reply["cer_arabic"] > 0.0
    assert reply["cer"] == reply["cer_arabic"] and set(FOLDINGS) == {name[4:] for name in reply if name[:4] == "wer_"}


def test_a_corpus_has_edits_over_characters() -> None:
    one = scored(content("abcd"), content("abce"))
    assert (one["edits"], one["characters"], one["cer"]) == (1, 4, 0.25)
    wild = scored(content("x" * 50), content("abcde"))
    assert (wild["cer_macro"], wild["cer_capped"], wild["similarity"]) == (10.0, 1.0, 0.0)


def test_an_empty_page_has_no_error_rate_and_should_stay_empty() -> None:
    invented = "The Art of War begins with the laying of plans"
    blank, filled = scored(content(), content()), scored(content(invented), content())
    assert "cer" not in blank and blank["blank"] == blank["similarity"] == 1.0
    assert filled["blank"] == filled["similarity"] == 0.0 and filled["unsupported"] == 1.0


def test_tables_missed_and_made_up_count() -> None:
    assert scored(content(TABLE))["table_teds"] == 1.0
    assert scored(content(TABLE, TABLE))["table_teds"] == 0.5
    assert scored(content("| البند | المبلغ |\n|---|---|\n| إيجار | 1200 |"))["table_teds"] == 1.0
    assert scored(content("no table"))["table_teds"] == 0.0


def test_a_plain_reference_has_the_text_and_the_teacher_the_structure() -> None:
    truth = "إشعار يسر الشركة أن تدعوكم إلى الاجتماع السنوي يوم الأحد. أولاً ثانياً البند المبلغ إيجار 1200"
    taught = scored(PAGE, reference=truth)
    assert taught["cer"] == 0.0 and taught["structure"] == 1.0
    assert scored(PAGE, reference="# عنوان آخر")["heading_f1"] == 0.0


def test_a_source_of_any_kind_supports_a_statement() -> None:
    extra = content("يسر الشركة أن تدعوكم", "ملاحظة بخط اليد في الهامش")
    assert scored(extra)["unsupported"] == 0.5
    for name in ("ocr", "layer"):
        assert scored(extra, **{name: "ملاحظه بخط اليد فى الهامش"})["unsupported"] == 0.0


def test_a_loop_is_seen_inside_of_json_and_when_cut() -> None:
    stuck = content("كلمة " * 300)
    assert scored(stuck)["loop"] == scored(stuck[:-5])["loop"] == 1.0
    assert scored(PAGE)["loop"] == 0.0


def test_a_fence_is_no_json_but_reads_as_well() -> None:
    fenced = scored(f"```json\n{PAGE}\n```")
    assert fenced["json_valid"] == fenced["schema_valid"] == 0.0 and fenced["cer"] == 0.0


INVOICE = {"type": "object", "properties": {"total": {"type": "number"}, "due": {"type": "string", "format": "date"}}}


def test_fields_are_of_the_schema_and_of_a_reference_in_json() -> None:
    answer = json.dumps({"total": 12, "due": "2024-03-05"})
    scores = scored('{"total": "12.0", "due": null}', answer, "invoice", schema=INVOICE)
    assert scores["field_precision"] == 1.0 and scores["field_recall"] == 0.5 and scores["field_f1_number"] == 1.0
    assert (scores["field_f1_date"], scores["schema_valid"], scores["similarity"]) == (0.0, 0.0, pytest.approx(2 / 3))
    assert {name for name in scores if "_f1" in name} == {"field_f1", "field_f1_number", "field_f1_date"}
    teacher = scored(answer, answer, "invoice", schema=INVOICE, reference='{"total": 13, "due": "2024-03-05"}')
    assert teacher["field_f1"] == 0.5


def test_values_that_no_source_has_are_unsupported() -> None:
    answer = json.dumps({"subject": "دعوة إلى اجتماع سنوي"}, ensure_ascii=False)
    reply = json.dumps({"subject": "طلب إجازة مرضية عاجلة جدا"}, ensure_ascii=False)
    page = "شركة النور: دعوة إلى اجتماع سنوي"
    assert scored(reply, answer, "letter", reference=page)["unsupported"] == 1.0
    assert scored(answer, answer, "letter", reference=page)["unsupported"] == 0.0
    dated = json.dumps({"subject": "دعوة إلى اجتماع سنوي", "on": "2024-03-05"}, ensure_ascii=False)
    assert scored(dated, dated, "letter", reference=page)["unsupported"] == 0.0, "no page writes a date so"
