"""What a model card says of a run: its head, and its text. No row of the data is on it, and no path of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from gemtune.files import JsonObject
from gemtune.reporting.comparison import scores_of
from gemtune.reporting.page import fit_of, training_figures
from gemtune.reporting.report import environment
from gemtune.run_files import DataManifest
from gemtune.runs import Run

# What a card says of a task of gemtune's own: use, and what to mind.
USES = {
    "emoji": "It answers a short text in emoji. A text has more than one good answer; it gives one.",
    "sql": "It writes one SQL query for a question about a schema. Run its queries where they can do no harm.",
    "product": "It writes a short product description for a phone's screen from a name, a category and a photo.",
    "multi_image": "It goes on with conversations about one or several images.",
}
# The first word of a format -> how the Hub calls its relation to the base model, and the library that loads it.
KINDS = {
    "adapter": ("adapter", "peft"),
    "model": ("finetune", "transformers"),
    "merged": ("finetune", "transformers"),
    "gguf": ("quantized", "gguf"),
    "onnx": ("quantized", "onnx"),
    "litert": ("quantized", "litert-lm"),
}
GEMMA_TERMS = "https://ai.google.dev/gemma/terms"
NOTICE = """\
Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms

The files beside this notice are modified: the model was fine-tuned with gemtune.
"""


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the card must know of a model beyond its run."""

    repo: str  # user/name on the Hub
    what: str  # adapter, model, or the format of an artifact
    base: str | None  # the base model's id on the Hub; None for a folder of the user's
    revision: str | None
    architecture: str  # its class in transformers
    is_gemma: bool
    sees: bool
    messages: Sequence[JsonObject]  # a question as the run's task asks it

    @property
    def kind(self) -> str:
        return self.what.split("-")[0]


def metadata(run: Run, model: Model) -> JsonObject:
    """The card's head, as the Hub names its keys; `results` are the mean scores of the tuned model."""
    relation, library = KINDS[model.kind]
    task = str(run.recipe["task"])
    head = {
        "license": "gemma" if model.is_gemma else None,
        "base_model": model.base,
        "base_model_relation": relation if model.base else None,
        "library_name": library,
        "pipeline_tag": "image-text-to-text" if model.sees else "text-generation",
        "tags": ["gemtune", *([task] if task in USES else []), *(["lora"] if model.kind == "adapter" else [])],
        "datasets": hub_data(run.data_manifest()) or None,
        "model_name": model.repo.split("/")[-1],
    }
    return {key: value for key, value in head.items() if value is not None}


def results(run: Run) -> dict[str, float]:
    """Score -> its mean over the test rows, of the tuned model; the deciding one first."""
    summary = run.summary()
    return {score.name: round(score.tuned.mean, 4) for score in scores_of(summary)} if summary else {}


def hub_data(data: DataManifest | None) -> list[str]:
    """The ids of the data sets of the Hub among the sources."""
    return [source.source for source in data.sources if source.sha256 is None] if data else []


def text(run: Run, model: Model) -> str:
    """The card below its head."""
    summary, data, task = run.summary(), run.data_manifest(), str(run.recipe["task"])
    return (
        environment("md")
        .get_template("card.md.jinja")
        .render(
            model=model,
            use=USES.get(task, "It does the one task that its rows show."),
            task=task if task.isidentifier() else "of its own",
            summary=summary,
            scores=scores_of(summary) if summary else [],
            fit=fit_of(run),
            data=data,
            sources=_sources(data) if data else [],
            settings=_settings(run),
            figures=training_figures(run),
            versions={name: value for name, value in run.manifest.get("versions", {}).items() if value},
            device=run.manifest.get("device", {}).get("name"),
            terms=GEMMA_TERMS,
        )
    )


def _sources(data: DataManifest) -> list[str]:
    """The names of the sources: a Hub data set's id, or a file without its folders."""
    return [source.source if source.sha256 is None else PurePath(source.source).name for source in data.sources]


def _settings(run: Run) -> list[tuple[str, object]]:
    """The keys of the recipe that decide what was trained, as (key, value)."""
    rate = run.decisions.get("learning_rate")  # where the recipe leaves it open
    recipe, decided = run.recipe, {"learning_rate": rate.value} if rate else {}
    train, lora = {**recipe["train"], **decided}, recipe["lora"]
    adapters = [(f"lora.{key}", lora[key]) for key in ("r", "alpha", "dropout")] if lora else [("lora", "none")]
    keys = ("epochs", "batch_size", "learning_rate", "schedule", "warmup_ratio", "max_length", "seed")
    return [*adapters, ("quantize", recipe["quantize"]), *((f"train.{key}", train[key]) for key in keys)]
