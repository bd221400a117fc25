"""What a report shows of a run: everything that the two templates need, and the same in a few lines for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import median

from markupsafe import Markup

from gemtune.artifact_files import Artifact
from gemtune.data.images import stored_image, thumbnail
from gemtune.files import JsonObject
from gemtune.recipe.schema import recipe_keys
from gemtune.reporting import charts
from gemtune.reporting.alarms import alarm_lines, alarms
from gemtune.reporting.artifacts import HEAD, artifact_lines, artifact_rows, sentence_of
from gemtune.reporting.comparison import answers_of, beside_of, regressions_of, sample, scores_of, summary_lines
from gemtune.reporting.documents import documents_of
from gemtune.reporting.fit import Verdict, verdict
from gemtune.reporting.text import big, count, duration, number, one_line, value_text, visible
from gemtune.run_files import DataManifest, Training
from gemtune.runs import PARTS, Run

SAMPLES = 12  # answers shown: a few screens, enough to see more than the best ones
TERMINAL_SAMPLES = 5
CURVES = 8  # scores that one chart shows; of more, the one that decides
THUMBNAIL, PAGE = 96, 720  # pixels of the longest side: to recognise it by, to read it

Metrics = Sequence[JsonObject]  # the lines of metrics.jsonl


def page_data(run: Run) -> dict[str, object]:
    """Everything the two templates show, read from the run directory; a stage that has not run yet is None."""
    manifest, metrics, training = run.manifest, run.metrics(), run.training
    summary, data = run.summary(), run.data_manifest()
    best_step = training.best_step if training else None
    answers = answers_of(run, summary) if summary else None
    return {
        "name": manifest.get("recipe", {}).get("name") or run.root.name,
        "byline": _byline(manifest),
        "alarms": alarms(run),
        "commands": _commands(run),
        "summary": summary,
        "scores": scores_of(summary) if summary else [],
        "beside": beside_of(summary) if summary else {},
        "pages": documents_of(run, summary),
        "thumbnail": partial(_thumbnail, run, THUMBNAIL),
        "page_image": partial(_thumbnail, run, PAGE),
        "fit": fit_of(run),
        "losses": _loss_chart(metrics, best_step),
        "skill": _skill_chart(metrics, best_step),
        "not_finite": sum(not math.isfinite(loss) for _, loss in _points(metrics, "loss")),
        "answers": answers,
        "samples": sample(answers or [], SAMPLES),
        "regressions": regressions_of(summary, answers or []) if summary else [],
        "artifacts": _artifacts(run.artifacts()),
        "data": _data(data) if data else None,
        "training": training_figures(run) or None,
        "started": bool(metrics),
        "decisions": run.decisions,
        "recipe": _recipe(manifest.get("recipe", {})),
        "versions": manifest.get("versions", {}),
        "device": manifest.get("device", {}),
        "model": manifest.get("model", {}),
    }


def report_lines(run: Run) -> Iterator[str]:
    """The report in a few plain lines for the terminal; they hold the user's text, so print them without markup."""
    summary, fit = run.summary(), fit_of(run)
    yield from alarm_lines(run)
    if summary:
        yield from summary_lines(summary)
    else:
        yield visible(f"Not evaluated yet: {_commands(run)['evaluate']}")
    if fit:
        yield from ("", f"fit: {fit.word}. {fit.why}", f"     {fit.advice}")
    for answer in sample((answers_of(run, summary) if summary else None) or [], TERMINAL_SAMPLES):
        texts = {"prompt": answer.prompt, "gold": answer.gold, "base": answer.base, "tuned": answer.tuned}
        yield ""
        yield from (visible(f"  {name:<7} {one_line(text, 90) or '(empty)'}") for name, text in texts.items())
    if artifacts := run.artifacts():
        yield from ("", *artifact_lines(artifacts))
    yield from ("", f"report: {run.report_page}")


def _commands(run: Run) -> dict[str, str]:
    """Stage -> the command that fills its sections."""
    return {
        "prepare": "gemtune prepare RECIPE.yaml",
        "train": "gemtune train RECIPE.yaml",
        "evaluate": f"gemtune evaluate {run.root}",
        "export": f"gemtune export {run.root} merged",
    }


def fit_of(run: Run) -> Verdict | None:
    """How well a run fits; None before it has any evaluation."""
    metrics, training = run.metrics(), run.training
    if training and training.diverged:
        why, _, move = training.stopped.rpartition("; ")
        return Verdict("diverged", f"The run {why}.", f"Next: {move}.")
    return verdict(metrics, training.best_step if training else None) if metrics else None


def _artifacts(artifacts: Sequence[Artifact]) -> dict[str, object] | None:
    if not artifacts:
        return None
    sentences = [(artifact.format, sentence_of(artifact)) for artifact in artifacts]
    return {"head": HEAD, "rows": artifact_rows(artifacts), "sentences": sentences}


def _thumbnail(run: Run, side: int, image: str) -> str:
    """A small copy of an image of the data directory, or nothing where it is gone."""
    path = stored_image(run.data, image)
    return thumbnail(path, side) if path else ""


# --- curves -----------------------------------------------------------------------------------------------------------


def _points(metrics: Metrics, key: str) -> list[tuple[float, float]]:
    return [(line["step"], math.nan if line[key] is None else line[key]) for line in metrics if key in line]


def _loss_chart(metrics: Metrics, best_step: int | None) -> Markup:
    curves = [
        charts.Curve("train, as logged", "train", _points(metrics, "loss")),
        charts.Curve("train rows, in eval mode (probe)", "probe", _points(metrics, "probe_loss"), dots=True),
        charts.Curve("val", "val", _points(metrics, "eval_loss"), dots=True),
    ]
    ends = [(curve.name, curve.drawn[0][1], curve.drawn[-1][1]) for curve in curves if curve.drawn]
    words = "; ".join(f"{name} from {number(first)} to {number(last)}" for name, first, last in ends)
    drawn = [curve for curve in curves if curve.points]
    description = f"Nats per labelled token over steps: {words}."
    return charts.line_chart(drawn, "losses", "Loss curves", description, _mark(metrics, best_step))


def _skill_chart(metrics: Metrics, best_step: int | None) -> Markup:
    """The task's score over steps, where the run was told to look at it (train.best_by=metric)."""
    names = sorted({key for line in metrics for key in line if key.startswith("eval_") and key != "eval_loss"})
    if len(names) > CURVES:
        names = ["eval_score"]
    curves = [
        charts.Curve(f"{name.removeprefix('eval_')}, val", "val", _points(metrics, name), dots=True) for name in names
    ]
    mark = None if best_step is None else (best_step, f"kept, step {best_step}")
    description = "Scores of the replies to val rows over steps."
    return charts.line_chart(curves, "skill", "Score on val", description, mark, charts.linear_axis(0.0, 1.0))


def _mark(metrics: Metrics, best_step: int | None) -> tuple[float, str] | None:
    """The step that was kept, with its val loss."""
    if best_step is None:
        return None
    losses = {line["step"]: line["eval_loss"] for line in metrics if line.get("eval_loss") is not None}
    loss = f": val {number(losses[best_step])}" if best_step in losses else ""
    return best_step, f"kept, step {best_step}{loss}"


# --- data, training, recipe -------------------------------------------------------------------------------------------


def _data(data: DataManifest) -> dict[str, object]:
    """The data manifest with its arithmetic done: rows read = dropped + kept."""
    dropped = dict(sorted(data.dropped.items(), key=lambda reason: -reason[1]))
    kept_total, dropped_total = sum(data.kept.values()), sum(dropped.values())
    parts = [*data.kept.items(), ("dropped", dropped_total)]
    return {
        **vars(data),
        "dropped": dropped,
        "kept_total": kept_total,
        "dropped_total": dropped_total,
        "adds_up": data.rows_read == kept_total + dropped_total,
        "bar": charts.shares(parts, ", ".join(f"{name} {rows}" for name, rows in parts)),
        "lengths": {part: data.lengths.of(part) for part in PARTS} if data.lengths else {},
        "max_length": data.lengths.max_length if data.lengths else None,
    }


def training_figures(run: Run) -> list[tuple[str, str]]:
    """The figures of a finished training as (label, value); none before it has ended."""
    training = run.training
    if training is None:
        return []
    speeds = [line["tokens_per_s"] for line in run.metrics() if line.get("tokens_per_s")]
    figures = [
        ("steps", count(training.steps)),
        ("epochs", number(training.epochs)),
        ("time", duration(training.seconds)),
        ("tokens per second", number(median(speeds)) if speeds else ""),
        ("workers", count(training.workers) if training.workers > 1 else ""),
        ("exchanged a step", _exchange(training)),
        ("peak memory", f"{number(training.peak_memory_gb)} GB"),
        ("tokens", count(training.tokens)),
        ("labelled tokens", count(training.labelled_tokens)),
        ("step kept", count(training.best_step)),
        ("val loss of that step", number(training.best_eval_loss)),
        ("stopped", training.stopped),
    ]
    return [(label, value) for label, value in figures if value]


def _exchange(training: Training) -> str:
    """What workers sum with each other, and its share of the time; nothing for one.

    >>> times = {"seconds": 40.0, "exchange_seconds": 2.0, "exchange_bytes": 15_200_000, "workers": 2}
    >>> others = dict.fromkeys(("steps", "planned_steps", "epochs", "tokens", "labelled_tokens", "peak_memory_gb"), 0)
    >>> _exchange(Training(**others, **times, best_step=None, best_eval_loss=None, stopped=""))
    '15.2 MB, 5.0 % of the time'
    """
    if training.workers == 1:
        return ""
    share = training.exchange_seconds / max(training.seconds, 1e-9)
    return f"{training.exchange_bytes / 1e6:.1f} MB, {100 * share:.1f} % of the time"


def _byline(manifest: Mapping[str, JsonObject]) -> list[str]:
    """Task, model, sizes and device, as far as they are known."""
    recipe, model, device = (manifest.get(section, {}) for section in ("recipe", "model", "device"))
    sizes = [
        f"{big(model[key])} {word}"
        for key, word in (("parameters", "weights"), ("trainable", "trained"))
        if model.get(key)
    ]
    task = f"task {recipe['task']}" if recipe.get("task") else ""
    name = model.get("name") or recipe.get("model") or ""
    return [words for words in (task, name, ", ".join(sizes), device.get("name") or "") if words]


def _recipe(recipe: JsonObject) -> dict[str, list[tuple[str, str]]]:
    """The resolved recipe as dotted keys: those that were set, and those left at their default."""
    defaults = {name: default for name, (_, default, _) in recipe_keys().items()}
    keys: dict[str, list[tuple[str, str]]] = {"set": [], "default": []}
    for key, value in _flat(recipe):
        plain = re.sub(r"\.\d+", "", key)
        group = "default" if plain in defaults and defaults[plain] == value else "set"
        keys[group].append((key, value_text(value)))
    return keys


def _flat(value: object, at: str = "") -> Iterator[tuple[str, object]]:
    """Dotted key -> value of everything in a recipe that has no keys of its own."""
    dot = at + "." if at else ""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{dot}{key}")
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{dot}{index}")
    elif at:
        yield at, value
