"""Which stage a recipe key decides: every key changed, on prepared and on trained runs; nothing stale, no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

import command
from gemtune.files import read_json
from gemtune.models.families import gemma3
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.recipe.loader import load_recipe
from gemtune.recipe.schema import deciders, deciding_stage, recipe_keys
from gemtune.recipe.section import STAGES

# Every key -> another value than the recipe below has: a YAML text, with FOLDER for the folder of the files.
OTHER: dict[str, str] = {
    "name": "u",
    "task": "columns",
    "runs_dir": "FOLDER/elsewhere",
    "model": "FOLDER/other-model",
    "quantize": "nf4",
    "options": "{tone: warm}",
    "export": "[merged]",
    "track": "[tensorboard]",
    "data.source": "FOLDER/more.jsonl",
    "data.format": "jsonl",
    "data.layout": "messages",
    "data.columns": "{prompt: question}",
    "data.bad_rows": "drop",
    "data.encoding": "utf-8",
    "data.hub_config": "en",
    "data.hub_split": "dev",
    "data.images": "[FOLDER/pictures]",
    "data.download_images": "true",
    "data.download_private": "true",
    "data.id": "id",
    "data.limit": "20",
    "data.weight": "2.0",
    "data.train_on_test": "true",
    "data.part": "train",
    "split.val": "0",
    "split.test": "0",
    "split.by": "id",
    "split.seed": "1",
    "prepare.dedupe": "none",
    "prepare.similarity": "0.8",
    "prepare.bad_rows": "fail",
    "prepare.merge_turns": "true",
    "prepare.ignore": "[weight]",
    "prepare.over_length": "shorten",
    "template.system": "Be brief.",
    "template.prompt": "'Q: {question}'",
    "template.answer": "'A: {answer}'",
    "sql.dialect": "postgres",
    "sql.engine": "duckdb",
    "lora.r": "4",
    "lora.alpha": "8",
    "lora.dropout": "0.5",
    "lora.target_modules": "[q_proj]",
    "lora.token_rows": "none",
    "train.epochs": "2",
    "train.max_steps": "2",
    "train.batch_size": "4",
    "train.micro_tokens": "64",
    "train.learning_rate": "1e-3",
    "train.schedule": "linear",
    "train.warmup_ratio": "0.5",
    "train.weight_decay": "0.1",
    "train.max_grad_norm": "0.5",
    "train.max_length": "64",
    "train.logging_steps": "2",
    "train.eval_steps": "1",
    "train.save_steps": "1",
    "train.keep_checkpoints": "3",
    "train.early_stopping": "1",
    "train.best_by": "metric",
    "train.train_on": "last",
    "train.precision": "auto",
    "train.device": "auto",
    "train.seed": "1",
    "evaluate.metric": "exact",
    "evaluate.limit": "2",
    "evaluate.max_new_tokens": "3",
    "evaluate.temperature": "0.5",
    "evaluate.top_p": "0.5",
    "evaluate.batch_size": "2",
    "evaluate.seed": "1",
    "vision.pan_and_scan": "true",
    "vision.trains": "projector",
    "vision.learning_rate": "1e-4",
    "vision.cache_gb": "1.0",
    "scale.workers": "auto",
    "scale.engine": "ray",
    "scale.address": "auto",
    "pages.source": "FOLDER/pdfs",
    "pages.folder": "FOLDER/distilled",
    "pages.select": "{a.pdf: 1-2}",
    "pages.passwords": "{a.pdf: SECRET}",
    "pages.dpi": "300",
    "pages.least_side": "0",
    "pages.steps": "[gray]",
    "pages.groups": "[[a.pdf, b.pdf]]",
    "pages.workers": "1",
    "teacher.provider": "gemini",
    "teacher.url": "http://localhost:8000/v1",
    "teacher.model": "large",
    "teacher.replies": "FOLDER/replies.jsonl",
    "teacher.key": "SECRET",
    "teacher.temperature": "0.5",
    "teacher.max_tokens": "100",
    "teacher.samples": "2",
    "teacher.agreement": "0.5",
    "teacher.structured": "json",
    "teacher.concurrency": "1",
    "teacher.requests_per_minute": "10",
    "teacher.tokens_per_minute": "1000",
    "teacher.timeout": "10.0",
    "teacher.attempts": "2",
    "teacher.input_price": "1.0",
    "teacher.output_price": "1.0",
    "teacher.budget": "1.0",
    "teacher.budget_tokens": "1000",
    "teacher.batch": "true",
    "privacy.findings": "skip",
    "privacy.unscanned": "skip",
    "privacy.ocr": "false",
    "privacy.names": "FOLDER/names.txt",
    "privacy.patterns": "{case: '[0-9]+'}",
    "privacy.regions": "[EG]",
    "documents.tasks": "[content]",
    "documents.prompts": "{content: Read.}",
    "documents.teacher_prompts": "{content: Read.}",
    "documents.folding": "none",
    "documents.fold_hamza": "true",
}
WITH = {"teacher.samples": "temperature: 0.5", "teacher.budget": "input_price: 1.0, output_price: 1.0"}
BEFORE_ROWS = ("pages", "teacher", "privacy")  # sections of `distill`, which no later stage looks at


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe over a tiny vision-language model, its rows, one wide picture, and a run of it that is trained."""
    folder = tmp_path_factory.mktemp("keys")
    gemma3.write_tiny_vision(folder / "model")
    gemma3.write_tiny_vision(folder / "other-model", seed=1)
    (folder / "pictures").mkdir()
    Image.radial_gradient("L").resize((700, 300)).save(folder / "wide.png")
    shutil.copyfile(folder / "wide.png", folder / "pictures" / "wide.png")
    lines = []
    for number in range(40):
        row = {"id": number, "question": f"question {number}", "prompt": f"question {number}", "answer": "a red cup"}
        user = {"role": "user", "content": f"<image>question {number}, {'long ' * (number % 5)}"}
        turns = [user, {"role": "assistant", "content": "a red cup"}] * (1 + number % 2)
        lines.append(json.dumps({**row, "messages": turns, "images": ["wide.png"] * (1 + number % 2)}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    (folder / "more.jsonl").write_text("\n".join(lines[:30]))
    recipe = {
        "name": "t",
        "task": "messages",
        "model": str(folder / "model"),
        "runs_dir": str(folder / "runs"),
        "data": {"source": "rows.jsonl"},
        "train": {"max_steps": 1, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu"},
        "evaluate": {"limit": 3, "max_new_tokens": 4},
    }
    (folder / "t.yaml").write_text(yaml.safe_dump(recipe))
    stages.train(a_job(folder))
    return folder


def override(key: str, folder: Path) -> str:
    section, _, name = key.partition(".")
    value = OTHER[key].replace("FOLDER", str(folder))
    if section == "pages" and name != "source":  # the one key that the section cannot be without
        return f"pages={{source: {folder}/pdfs, {name}: {value}}}"
    if key in WITH:
        return f"{section}=[{{{name}: {value}, {WITH[key]}}}]"
    path = f"{section}.0.{name}" if section in ("data", "teacher") else key
    return f"{path}={value}"


def a_job(folder: Path, *overrides: str) -> Job:
    return Job(folder / "t.yaml", overrides, say=lambda text: None)


def prepared(folder: Path, *overrides: str) -> dict[str, str]:
    """The data directory after `gemtune prepare`: path -> digest."""
    stages.prepare(job := a_job(folder, *overrides))
    return {name: digest for name, digest in command.tree(job.run.data).items() if name != "manifest.json"}


def test_every_key_decides_a_stage_and_is_changed_here() -> None:
    assert deciding_stage().keys() == recipe_keys().keys() == OTHER.keys()
    assert set(deciding_stage().values()) == set(STAGES)


@pytest.mark.parametrize("key", OTHER)
def test_the_deciders_of_its_stage_alone_change(key: str, place: Path) -> None:
    before, after = load_recipe(place / "t.yaml"), load_recipe(place / "t.yaml", [override(key, place)])
    changed = {stage for stage in STAGES if deciders(before, stage) != deciders(after, stage)}
    assert changed == {deciding_stage()[key]}


NOT_OF_THIS_TASK = {"options"}  # `messages` takes none and refuses them
PREPARED = [key for key, stage in deciding_stage().items() if stage in ("data", "tokens")]


@pytest.mark.parametrize("key", [key for key in PREPARED if key not in NOT_OF_THIS_TASK])
def test_prepared_data_is_never_stale(key: str, place: Path, tmp_path: Path) -> None:
    """Prepared, then prepared with another value: the same bytes as with that value from the start."""
    there, fresh = f"runs_dir={tmp_path}/there", f"runs_dir={tmp_path}/fresh"
    prepared(place, there)
    assert prepared(place, there, override(key, place)) == prepared(place, fresh, override(key, place))


@pytest.mark.parametrize(
    "key", [key for key in OTHER if not key.startswith(BEFORE_ROWS)] + ["pages.dpi", "teacher.model"]
)
def test_a_trained_run_refuses_or_stays(
    key: str, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a trained run a key that decides what was trained is refused and nothing changes; any other is accepted."""
    runs = tmp_path / "runs"
    shutil.copytree(place / "runs", runs)
    stage = deciding_stage()[key]
    value = override(key, tmp_path if key == "runs_dir" else place)
    before = command.tree(runs)
    answer = command.gemtune(capfd, "train", place / "t.yaml", f"runs_dir={runs}", value)
    if stage in ("data", "tokens", "training"):
        assert "runs/t was begun with another recipe" in command.refusal(answer)
        assert command.tree(runs) == before
    else:
        assert answer.code == 0, answer.err
    if key not in ("name", "runs_dir"):
        assert command.tree(runs / "t" / "adapter") == command.tree(place / "runs" / "t" / "adapter")


def test_pan_and_scan_after_prepare_is_read_again(place: Path, tmp_path: Path) -> None:
    """The wide picture has four crops then: 20 image tokens a row in place of 4, and training sees as many features."""
    job = a_job(place, f"runs_dir={tmp_path}", "train.max_length=512")
    before = stages.prepare(job)["lengths"]["train"]["tokens"]
    job = a_job(place, f"runs_dir={tmp_path}", "train.max_length=512", "vision.pan_and_scan=true")
    assert stages.train(job)["steps"] == 1
    assert read_json(job.run.data_manifest_file)["lengths"]["train"]["tokens"] > before
