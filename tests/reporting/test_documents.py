"""Pages in a report: tables by document, replies beside the page with what differs marked, hostile text harmless."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemtune.data.conversation import read_conversations
from gemtune.evaluation.evaluate import write_replies_beside
from gemtune.evaluation.summary import summarise
from gemtune.files import write_json, write_jsonl
from gemtune.preparation.prepare import prepare
from gemtune.recipe.schema import Recipe
from gemtune.reporting.documents import differences, documents_of, readable
from gemtune.reporting.page import report_lines
from gemtune.run_files import Evaluation
from gemtune.runs import Run
from gemtune.tasks import task_of
from reporting.made_run import HOSTILE, page_of


def content(text: str) -> str:
    return json.dumps({"elements": [{"type": "paragraph", "markdown": text}]}, ensure_ascii=False)


def rows(folder: Path, document: str, text: str) -> list[dict[str, Any]]:
    """Two pages of a document, each with both tasks."""
    made = []
    for number in (1, 2):
        image = folder / f"{document}-{number}.png"
        Image.new("L", (60, 80), 40 * number + ord(document[0])).save(image)
        page = {"document": document, "number": number, "group": document, "image": str(image), "prompt": "Read."}
        text_of_page = f"{text} صفحة {number}"
        made.append({**page, "task": "content", "answer": content(text_of_page), "ocr": f"{text_of_page} خطأ"})
        made[-1]["reference"] = text_of_page
        made.append({**page, "task": "fields", "answer": json.dumps({"classification": {"title": text_of_page}})})
    return made


def documents_run(
    folder: Path,
    text: str = "يسر الشركة أن تدعوكم إلى الاجتماع السنوي",
    tuned: tuple[str, str] = ("السنوي", "السنوى"),
) -> Run:
    names = ["a.pdf", "b/c.pdf", "d.pdf"]
    write_jsonl(folder / "rows.jsonl", (row for name in names for row in rows(folder, name.replace("/", "-"), text)))
    source = {"source": str(folder / "rows.jsonl")}
    recipe = Recipe.model_validate(
        {
            "name": "pages",
            "task": "documents",
            "data": [source],
            "split": {"by": "group", "val": 0, "test": ["a.pdf", "b-c.pdf"]},
        }
    )
    run = Run(folder / "run")
    prepare(recipe, run)
    write_json(run.manifest_file, {"version": 1, "recipe": recipe.model_dump(mode="json")})
    task, evaluation = task_of(recipe), run.evaluation()
    conversations = list(read_conversations(run.part("test")))
    for name, change in (("base", ("الشركة", "المدرسة")), ("tuned", tuned)):
        lines = []
        for row in conversations:
            reply = row.answer.replace(*change)
            line = {"where": row.where, "key": row.key, "group": row.group, "prompt": "Read.", "gold": row.answer}
            line |= {"images": row.image_paths, "reply": reply, "cut": False, "evaluation": "0"}
            lines.append(Evaluation(**line, scores=task.score(row, reply)).to_json())
        evaluation.root.mkdir(exist_ok=True)
        write_jsonl(evaluation.replies(name), lines)
    write_replies_beside(evaluation, conversations, task)
    summarise(evaluation, recipe, task)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return documents_run(tmp_path_factory.mktemp("pages"))


def test_every_document_and_page_has_its_scores(run: Run) -> None:
    shown = documents_of(run, run.summary())
    assert shown is not None and shown.who == ["base", "tuned", "teacher", "ocr"]
    documents = [line for line in shown.lines if not line.is_page]
    assert len(documents) == 2 and {line.pages for line in documents} == {2}
    assert len(shown.lines) == 6
    for line in shown.lines:
        assert min(line.scores["cer"][who] for who in ("base", "ocr")) > line.scores["cer"]["tuned"] == 0.0
        assert line.scores["cer"]["teacher"] == 0.0
        assert line.scores["field_f1"].keys() == {"base", "tuned"}
    assert [name for name, _ in shown.foldings[:4]] == ["CER, base", "CER, tuned", "CER, teacher", "CER, ocr"]
    assert shown.foldings[1][1][0] > shown.foldings[1][1][2] == 0.0, "the final ya is folded"


def test_the_page_shows_image_truth_and_replies(run: Run) -> None:
    page = page_of(run)
    text = page.text("pages")
    for words in ("True text", "Base", "Tuned", "Teacher", "Ocr", "الشركة", "المدرسة", "classification.title"):
        assert words in text
    assert sum(value.startswith("data:image/jpeg") for tag, name, value in page.attributes if name == "src") >= 8
    assert "mark" in page.tags
    assert "Tuned against ocr" in page.text("metrics") and "2 groups" in page.text("metrics")


def test_terminal_and_markdown_say_it_too(run: Run) -> None:
    lines = "\n".join(report_lines(run))
    assert "Against ocr in similarity: tuned 1.000" in lines
    page_of(run)
    markdown = run.report_markdown.read_text(encoding="utf-8")
    assert "Tuned against ocr" in markdown and markdown.count(".pdf | 2 |") == 2


def test_no_text_of_a_page_acts(tmp_path: Path) -> None:
    run = documents_run(tmp_path, HOSTILE.replace("\0", ""))
    page = page_of(run)
    assert not page.tags & {"script", "a href"} and page.text("pages")
    assert all(name not in ("onerror", "onclick") for _, name, _ in page.attributes)
    acting = {"\u202e", "\u2066", "\x1b", "\x07"}
    html = run.report_page.read_text(encoding="utf-8")
    assert not acting & set(html)
    for own, text in page.isolated:
        assert own or "quoted" not in text, "text of a page has a direction of its own"


def test_other_tasks_and_runs_that_are_not_evaluated_have_no_pages(full: Run, run: Run) -> None:
    assert documents_of(full, full.summary()) is None and documents_of(run, None) is None
    assert "pages" not in page_of(full).texts


@pytest.mark.parametrize(
    ("truth", "reply", "missing", "extra"),
    [
        ("a b c", "a b c", [], []),
        ("a b c", "a x c", ["b"], ["x"]),
        ("a b c d", "a d", ["b c"], []),
        ("a", "", ["a"], []),
        ("", "a b", [], ["a b"]),
        ("", "", [], []),
        ("القاهرة ، ١٢", "القاهره 12", [], []),
        ("# a\n\n- b", "a\nb", [], []),
        ("  a\n", " b ", ["a"], ["b"]),
    ],
)
def test_words_that_differ_are_marked(truth: str, reply: str, missing: list[str], extra: list[str]) -> None:
    sides = differences(truth, reply)
    assert [[text for mark, text in side if mark == "differs"] for side in sides] == [missing, extra]
    for side, text in zip(sides, (truth, reply), strict=True):
        assert "".join(piece for _, piece in side).strip() == text.strip(), "nothing is lost"


def test_fields_are_a_line_each() -> None:
    reply = '{"a": {"b": "x", "c": null}, "d": [1, {"e": true}], "f": []}'
    assert readable(reply, is_content=False) == "a.b: x\nd[1]: 1\nd[2].e: true"
    assert readable("no JSON", is_content=False) == "no JSON"


def test_facts_are_counted_and_those_that_tuned_has_wrong_are_listed(tmp_path: Path) -> None:
    text = "الإجمالي ١٬٢٥٠٫٠٠ رقم INV-2024-00170 حتى 5/3/2024"
    run = documents_run(tmp_path, text, tuned=("5/3/2024", "6/3/2024"))
    pages = documents_of(run, run.summary())
    assert pages and pages.facts
    assert {line.kind: (line.true, line.right["tuned"][0]) for line in pages.facts.kinds} == {
        "amount": (4, 4),
        "date": (4, 0),
        "id": (4, 4),
    }
    assert [(miss.written, miss.has["base"], miss.has["tuned"]) for miss in pages.facts.misses] == [
        ("5/3/2024", True, False)
    ] * 4
    shown = page_of(run).text("pages")
    assert "right to the digit" in shown and "What tuned has wrong: 4" in shown
