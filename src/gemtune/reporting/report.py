"""Run directory -> report.html and report.md: a view of the files in it, for people; needs no torch."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from gemtune.data.images import thumbnail
from gemtune.errors import RunError
from gemtune.files import read_jsonl, write_text
from gemtune.recipe.schema import recipe_keys
from gemtune.reporting import charts
from gemtune.reporting.fit import verdict
from gemtune.reporting.text import (
    big,
    count,
    duration,
    interval,
    markdown,
    number,
    one_line,
    preview,
    score,
    value_text,
    visible,
)
from gemtune.runs import PARTS, Run

SAMPLES = 12  # answers shown: a few screens, enough to see more than the best ones
REGRESSIONS = 10  # answers shown that became worse
LONGEST = 20_000  # characters of a text kept on the page; the whole one is in eval/*.jsonl
SURE = 0.05  # p value below which a difference is called one


def write_report(run: Run) -> Path:
    """Writes report.html and report.md of a run, as far as it has got, and returns the path of the page."""
    shown = view(run)
    write_text(run.report_markdown, _environment("md").get_template("report.md.jinja").render(shown))
    write_text(run.report_page, _environment("html").get_template("report.html.jinja").render(shown))
    return run.report_page


def summary_lines(run: Run) -> list[str]:
    """The report in a few plain lines for the terminal; they hold the user's text, so print them without markup."""
    shown = view(run)
    lines: list[str] = []
    if shown["scores"]:
        table = [("metric", "base", "tuned", "difference", "")]
        table += [
            (s.title, interval(s.base), interval(s.tuned), interval(s.difference, True), s.p) for s in shown["scores"]
        ]
        widths = [max(len(row[column]) for row in table) for column in range(5)]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        lines += ["", f"{shown['scores'][0].claim} {shown['scores'][0].sentence}"]
    else:
        lines += [f"Not evaluated yet: {shown['commands']['evaluate']}"]
    if shown["fit"]:
        lines += ["", f"fit: {shown['fit'].word}. {shown['fit'].why}", f"     {shown['fit'].advice}"]
    for answer in sample(shown["answers"] or [], 5):
        texts = {"prompt": answer.prompt, "gold": answer.gold, "base": answer.base, "tuned": answer.tuned}
        lines += ["", *(f"  {name:<7} {one_line(text, 90) or '(empty)'}" for name, text in texts.items())]
    return [*map(visible, lines), "", f"report: {run.report_page}"]


def view(run: Run) -> dict[str, Any]:
    """Everything the two templates show, read from the run directory; a stage that has not run yet is None."""
    manifest, metrics = run.manifest, run.metrics()
    training = manifest.get("training")
    best_step = (training or {}).get("best_step")
    summary = run.summary()
    scores = _scores(summary) if summary else []
    answers = _answers(run, summary["metric"], _direction(summary)) if summary else None
    return {
        "name": manifest.get("recipe", {}).get("name") or run.root.name,
        "byline": _byline(manifest),
        "commands": {
            "prepare": "gemtune prepare RECIPE.yaml",
            "train": "gemtune train RECIPE.yaml",
            "evaluate": f"gemtune evaluate {run.root}",
        },
        "summary": summary,
        "scores": scores,
        "thumbnail": partial(_thumbnail, run),
        "fit": verdict(metrics, best_step) if metrics else None,
        "losses": _loss_chart(metrics, best_step),
        "skill": _skill_chart(metrics, best_step),
        "not_finite": sum(not math.isfinite(loss) for _, loss in _points(metrics, "loss")),
        "answers": answers,
        "samples": sample(answers or [], SAMPLES),
        "regressions": _regressions(summary, answers or []),
        "data": _data(run),
        "training": _training(training, metrics) if training else None,
        "started": bool(metrics),
        "decisions": manifest.get("decisions", {}),
        "recipe": _recipe(manifest.get("recipe", {})),
        "versions": manifest.get("versions", {}),
        "device": manifest.get("device", {}),
        "model": manifest.get("model", {}),
    }


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """One metric of the base and the tuned model on the same test rows."""

    name: str
    rows: int
    base: dict[str, float]
    tuned: dict[str, float]
    difference: dict[str, Any]
    direction: Literal["higher", "lower"] = "higher"  # which end is better

    @property
    def title(self) -> str:
        """The name, with its direction where it is not the usual one."""
        return self.name if self.direction == "higher" else f"{self.name} (lower is better)"

    @property
    def p(self) -> str:
        """The p value in words; empty when the summary has none."""
        value = self.difference.get("p_value")
        if value is None or not math.isfinite(value):
            return ""
        return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """Which model is ahead, when both the interval and the p value say that it is no accident."""
        p_value = self.difference.get("p_value")
        if p_value is None or p_value < SURE:
            if self.difference["low"] > 0:
                return "better" if self.direction == "higher" else "worse"
            if self.difference["high"] < 0:
                return "worse" if self.direction == "higher" else "better"
        return "undecided"

    @property
    def claim(self) -> str:
        if self.outcome == "undecided":
            return f"{count(self.rows)} test rows show no sure difference in {self.title} between tuned and base."
        return f"The tuned model is {self.outcome} than the base model in {self.title}."

    @property
    def sentence(self) -> str:
        p = f"; {self.p}" if self.p else ""
        rows = f"{count(self.rows)} test row{'' if self.rows == 1 else 's'}"
        return f"Tuned {interval(self.tuned)} against base {interval(self.base)} on {rows}{p}."

    def bars(self, labels: bool = False) -> Markup:
        sides = [
            (kind, side["mean"], side["low"], side["high"])
            for kind, side in (("tuned", self.tuned), ("base", self.base))
        ]
        return charts.intervals(sides, f"{self.name}: {self.sentence}", labels)

    @property
    def outcomes(self) -> Markup:
        counts = [(name, int(self.difference[name])) for name in ("wins", "ties", "losses")]
        return charts.shares(counts, ", ".join(f"{number} {name}" for name, number in counts))


def _scores(summary: dict[str, Any]) -> list[Score]:
    """The deciding metric first, the others by name."""
    names = sorted(summary["metrics"], key=lambda name: (name != summary["metric"], name))
    return [Score(name, summary["rows"], **summary["metrics"][name]) for name in names]


def _direction(summary: dict[str, Any]) -> Literal["higher", "lower"]:
    """Which end of the deciding score is better; a summary without a word of it was written when it was the higher."""
    return "lower" if summary["metrics"][summary["metric"]].get("direction") == "lower" else "higher"


def _thumbnail(run: Run, image: str) -> str:
    """A small copy of an image of the data directory, or nothing where it is gone."""
    path = run.data / image
    return thumbnail(path, 96) if path.is_file() else ""


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """One test row with the replies of both models; the scores are of the deciding metric."""

    where: str
    prompt: str
    gold: str
    base: str
    tuned: str
    difference: float
    base_score: float | None = None
    tuned_score: float | None = None
    base_cut: bool = False
    tuned_cut: bool = False
    images: tuple[str, ...] = ()  # paths in the data directory
    direction: Literal["higher", "lower"] = "higher"  # which end of the score is better

    @property
    def gain(self) -> float:
        """How much better tuned is than base."""
        return self.difference if self.direction == "higher" else -self.difference

    @property
    def outcome(self) -> Literal["wins", "ties", "losses"]:
        return "wins" if self.gain > 0 else "losses" if self.gain < 0 else "ties"


def _answers(run: Run, metric: str, direction: Literal["higher", "lower"]) -> list[Answer] | None:
    files = run.replies("base"), run.replies("tuned")
    if not all(path.is_file() for path in files):
        return None
    base, tuned = (list(read_jsonl(path)) for path in files)
    if [row["where"] for row in base] != [row["where"] for row in tuned]:
        raise RunError(
            f"{run.eval}: base.jsonl and tuned.jsonl hold different rows; `gemtune evaluate {run.root}` again"
        )
    return [
        Answer(
            *(b["where"], b["prompt"], b["gold"], b["reply"], t["reply"], t["scores"][metric] - b["scores"][metric]),
            *(b["scores"][metric], t["scores"][metric], b["cut"], t["cut"], tuple(b.get("images", ())), direction),
        )
        for b, t in zip(base, tuned, strict=True)
    ]


def sample(answers: Sequence[Answer], wanted: int, seed: int = 0) -> list[Answer]:
    """A seeded draw: half wins, a quarter ties, a quarter losses where there are as many; the clearest wins first."""
    draw = random.Random(seed)  # noqa: S311 (a sample to look at)
    groups: dict[str, list[Answer]] = {"wins": [], "losses": [], "ties": []}
    for answer in answers:
        groups[answer.outcome].append(answer)
    for group in groups.values():
        draw.shuffle(group)
    taken = {"wins": math.ceil(wanted / 2), "losses": max(wanted // 4, 1), "ties": wanted // 4}
    chosen = [answer for name, group in groups.items() for answer in group[: taken[name]]]
    left = [answer for name, group in groups.items() for answer in group[taken[name] :]]
    return sorted((chosen + left)[:wanted], key=lambda answer: -answer.gain)


def _regressions(summary: dict[str, Any] | None, answers: Sequence[Answer]) -> list[Answer]:
    """The answers that became worse, the worst first, with their scores where the replies are at hand."""
    known = {(answer.where, answer.prompt): answer for answer in answers}
    names = ("where", "prompt", "gold", "base", "tuned", "difference")
    direction = _direction(summary) if summary else "higher"
    rows = (summary or {}).get("regressions", [])
    worse = [Answer(**{name: row[name] for name in names}, direction=direction) for row in rows]
    worse.sort(key=lambda answer: answer.gain)
    return [known.get((answer.where, answer.prompt), answer) for answer in worse[:REGRESSIONS]]


# --- curves, data, training, recipe -----------------------------------------------------------------------------------


def _points(metrics: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(line["step"], math.nan if line[key] is None else line[key]) for line in metrics if key in line]


def _loss_chart(metrics: list[dict[str, Any]], best_step: int | None) -> Markup:
    curves = [
        charts.Curve("train, as logged", "train", _points(metrics, "loss")),
        charts.Curve("train rows, in eval mode (probe)", "probe", _points(metrics, "probe_loss"), dots=True),
        charts.Curve("val", "val", _points(metrics, "eval_loss"), dots=True),
    ]
    said = [
        f"{curve.name} from {number(curve.drawn[0][1])} to {number(curve.drawn[-1][1])}"
        for curve in curves
        if curve.drawn
    ]
    description = f"Nats per labelled token over steps: {'; '.join(said)}."
    return charts.line_chart(
        [c for c in curves if c.points], "losses", "Loss curves", description, _mark(metrics, best_step)
    )


def _skill_chart(metrics: list[dict[str, Any]], best_step: int | None) -> Markup:
    """The task's score over steps, where the run was told to look at it (train.best_by=metric)."""
    names = sorted({key for line in metrics for key in line if key.startswith("eval_") and key != "eval_loss"})
    curves = [charts.Curve(f"{name[5:]}, val", "val", _points(metrics, name), dots=True) for name in names]
    mark = None if best_step is None else (best_step, f"kept, step {best_step}")
    said = "Scores of the replies to val rows over steps."
    return charts.line_chart(curves, "skill", "Score on val", said, mark, charts.linear_axis(0.0, 1.0))


def _mark(metrics: list[dict[str, Any]], best_step: int | None) -> tuple[float, str] | None:
    if best_step is None:
        return None
    losses = {line["step"]: line["eval_loss"] for line in metrics if line.get("eval_loss") is not None}
    loss = f": val {number(losses[best_step])}" if best_step in losses else ""
    return best_step, f"kept, step {best_step}{loss}"


def _data(run: Run) -> dict[str, Any] | None:
    """The data manifest with its arithmetic done: rows read = dropped + kept."""
    data = run.data_manifest()
    if data is None:
        return None
    kept = {part: data["kept"].get(part, 0) for part in PARTS}
    dropped = dict(sorted(data["dropped"].items(), key=lambda reason: -reason[1]))
    parts = [*kept.items(), ("dropped", sum(dropped.values()))]
    return {
        **data,
        "kept": kept,
        "dropped": dropped,
        "kept_total": sum(kept.values()),
        "dropped_total": sum(dropped.values()),
        "adds_up": data["rows_read"] == sum(kept.values()) + sum(dropped.values()),
        "bar": charts.shares(parts, ", ".join(f"{name} {number}" for name, number in parts)),
        "lengths": {part: data["lengths"][part] for part in PARTS if part in data["lengths"]},
        "max_length": data["lengths"].get("max_length"),
    }


def _training(training: dict[str, Any], metrics: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The figures of a finished training as (label, value)."""
    speeds = [line["tokens_per_s"] for line in metrics if line.get("tokens_per_s")]
    peaks = [line["peak_memory_gb"] for line in metrics if line.get("peak_memory_gb")]
    figures = [
        ("steps", count(training.get("steps"))),
        ("epochs", number(training.get("epochs"))),
        ("time", duration(training.get("seconds"))),
        ("tokens per second", number(median(speeds)) if speeds else ""),
        ("peak memory", f"{number(max(peaks))} GB" if peaks else ""),
        ("tokens", count(training.get("tokens"))),
        ("of them trained on", count(training.get("labelled_tokens"))),
        ("step kept", count(training.get("best_step"))),
        ("val loss there", number(training.get("best_eval_loss"))),
        ("stopped by", str(training.get("stopped") or "").replace("_", " ")),
    ]
    return [(label, value) for label, value in figures if value]


def _byline(manifest: dict[str, Any]) -> list[str]:
    recipe, model, device = (manifest.get(section, {}) for section in ("recipe", "model", "device"))
    sizes = [
        f"{big(model[key])} {word}"
        for key, word in (("parameters", "weights"), ("trainable", "trained"))
        if model.get(key)
    ]
    said = [f"task {recipe['task']}" if recipe.get("task") else "", model.get("name") or recipe.get("model") or ""]
    return [words for words in (*said, ", ".join(sizes), device.get("name") or "") if words]


def _recipe(recipe: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The resolved recipe as dotted keys: those that were set, and those left at their default."""
    defaults = {name: default for name, (_, default, _) in recipe_keys().items()}
    keys: dict[str, list[tuple[str, str]]] = {"set": [], "default": []}
    for key, value in _flat(recipe):
        plain = re.sub(r"\.\d+", "", key)
        group = "default" if plain in defaults and defaults[plain] == value else "set"
        keys[group].append((key, value_text(value)))
    return keys


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    dot = at + "." if at else ""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{dot}{key}")
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{dot}{index}")
    elif at:
        yield at, value


def _environment(kind: Literal["html", "md"]) -> jinja2.Environment:
    """Templates in which every value is made harmless on its way out, without being asked to."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gemtune.reporting"),
        autoescape=kind == "html",  # noqa: S701 (Markdown has its own escaping: finalize)
        finalize=markdown
        if kind == "md"
        else lambda value: value if isinstance(value, Markup) else visible(value_text(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": interval,
        "score": score,
        "count": count,
        "number": number,
        "preview": preview,
        "one_line": one_line,
        "value_text": value_text,
    }
    environment.globals["LONGEST"] = LONGEST
    return environment
