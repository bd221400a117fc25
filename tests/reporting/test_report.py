"""report.html and report.md: every number of the inputs is shown, nothing of the user's text ever acts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gemtune.errors import RunError
from gemtune.files import write_json
from gemtune.reporting import report
from gemtune.reporting.page import report_lines
from gemtune.runs import Run
from reporting.made_run import HOSTILE, STAGES, Page, cells_of, make_run, page_of, reply_lines

SECTIONS = (
    "result",
    "fit",
    "metrics",
    "losses",
    "answers",
    "regressions",
    "artifacts",
    "data",
    "training",
    "decisions",
    "recipe",
    "versions",
)


def test_the_headline_says_the_numbers_of_the_summary(full: Run) -> None:
    scores = json.loads(full.summary_file.read_text(encoding="utf-8"))["metrics"]["f1"]
    base, tuned = (f"{s['mean']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for s in (scores["base"], scores["tuned"]))
    page = page_of(full)
    assert f"Tuned {tuned} against base {base} on 161 test rows; p < 0.0001." in page.text("result")
    assert "The tuned model is better than the base model in f1." in page.text("result")
    difference = scores["difference"]
    for words in (
        f"tuned better on {difference['wins']}",
        f"same on {difference['ties']}",
        f"worse on {difference['losses']}",
    ):
        assert words in page.text("result")
    assert f"+{difference['mean']:.3f}" in page.text("result")


def test_every_metric_is_in_the_table_the_deciding_one_first(full: Run) -> None:
    metrics = json.loads(full.summary_file.read_text(encoding="utf-8"))["metrics"]
    text = page_of(full).text("metrics")
    for name, metric in metrics.items():
        assert name in text
        for side in ("base", "tuned"):
            assert f"{metric[side]['mean']:.3f} {metric[side]['low']:.3f} to {metric[side]['high']:.3f}" in text
    assert text.index("f1") < text.index("exact") < text.index("only_emoji")
    assert "Cut at that limit: 54 of base, 0 of tuned." in text


def test_the_sections_stand_in_order_and_links_reach_them(full: Run) -> None:
    page = page_of(full)
    assert tuple(value for tag, name, value in page.attributes if (tag, name) == ("section", "id")) == SECTIONS
    assert {value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href")} <= set(SECTIONS)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_the_page_asks_for_nothing_and_runs_nothing(full: Run, hostile: Run) -> None:
    for run in (full, hostile):
        page = page_of(run)
        policy = next(value for tag, name, value in page.attributes if name == "content" and "default-src" in value)
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        assert not page.tags & {"script", "img", "iframe", "object", "embed", "form", "base", "image", "foreignobject"}
        assert not [
            name for _, name, _ in page.attributes if name.startswith("on") or name in {"src", "style", "xlink:href"}
        ]
        assert all(v.startswith("#") or v == "data:," for _, name, v in page.attributes if name == "href")
        style = page.texts[""][[t.startswith("\n:root") for t in page.texts[""]].index(True)]
        assert "url(" not in style and "@import" not in style


def test_hostile_text_changes_nothing_but_text(full: Run, hostile: Run) -> None:
    page = page_of(hostile)
    assert page.tags - page_of(full).tags <= {"details", "summary"}
    raw = hostile.report_page.read_text(encoding="utf-8")
    assert "<script" not in raw and "</style>" not in raw.replace("</style>", "", 1) and "onerror=alert(1)>" not in raw
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", raw)
    assert "<script>alert(1)</script>" in page.text("answers") and "{{ 7*7 }}" in page.text("answers")
    assert "␀␇␛[31mred⟨U+202E⟩flip⟨U+2066⟩" in page.text("decisions")


def test_every_text_of_the_user_has_its_own_direction(hostile: Run) -> None:
    page = page_of(hostile)
    said = [own for own, text in page.isolated if "alert(1)" in text]
    assert len(said) > 50
    assert all(said)


def test_long_texts_fold_and_very_long_ones_end(tmp_path: Path) -> None:
    run = make_run(tmp_path, "evaluate", text="word " * 6000)
    raw = report.write_report(run).read_text(encoding="utf-8")
    assert raw.count('<details class="passage">') >= 12 * 4
    assert "The rest of 30,000 characters is in eval/." in raw
    longest = max(len(text) for text in Page(raw).texts["answers"])
    assert longest == report.LONGEST


def test_a_lone_surrogate_in_a_reply_does_not_stop_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path, "evaluate")
    base, tuned = reply_lines("half an emoji: \ud83d")
    for name, rows in (("base", base), ("tuned", tuned)):
        run.replies(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert "half an emoji: \ufffd" in page_of(run).text("answers")
    "\n".join(report_lines(run)).encode("utf-8")


@pytest.mark.parametrize("text", [None, HOSTILE])
def test_markdown_tables_stay_whole(tmp_path: Path, text: str | None) -> None:
    run = make_run(tmp_path, *STAGES, text=text)
    report.write_report(run)
    markdown = run.report_markdown.read_text(encoding="utf-8")
    tables = cells_of(markdown)
    assert [len(table[0]) for table in tables] == [5, 6, 6, 2, 2, 3, 2, 2]
    assert all(len(row) == len(table[0]) for table in tables for row in table)
    assert [len(table) for table in tables[:3]] == [4, 13, 4]
    assert not re.search(r"https?://|www\.", markdown), "GitHub would make a link of it"
    if text:
        assert tables[5][1][1].startswith("<script>alert(1)</script></style>") and tables[5][1][1].endswith(
            "⟨U+2066⟩ \\"
        )


def test_replies_of_different_rows_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, "evaluate")
    rows = run.replies("base").read_text(encoding="utf-8").splitlines(keepends=True)
    run.replies("base").write_text("".join(rows[1:]), encoding="utf-8")
    with pytest.raises(RunError, match=r"different rows; `gemtune evaluate"):
        report.write_report(run)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, "evaluate")
    write_json(run.summary_file, {"version": 2})
    with pytest.raises(RunError, match=r"summary\.json: not a version 1 file"):
        report.write_report(run)


def test_the_same_run_gives_the_same_bytes(full: Run) -> None:
    first = report.write_report(full).read_bytes(), full.report_markdown.read_bytes()
    assert first == (report.write_report(full).read_bytes(), full.report_markdown.read_bytes())
