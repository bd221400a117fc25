"""A run's weights as artifacts: whole or not there, verified, and not made twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import command
from exporting.tuned_models import stock
from gemtune.errors import GemtuneError, RunError
from gemtune.exporting.formats import FORMATS
from gemtune.exporting.plain import PlainRuntime
from gemtune.exporting.runtime import Choice
from gemtune.files import write_json
from gemtune.models.families import write_tiny
from gemtune.models.loading import load_image_processor
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.tuned_models import plain_model
from gemtune.training.checkpoint import damage
from models.vision import write_rows
from run_folders import OTHERS, others_in, place_others
from training_jobs import trained

WriteRecipe = Callable[..., Path]
STEPS = {"train": {"epochs": 1, "eval_steps": 4, "early_stopping": None, "learning_rate": 3e-3, "max_steps": 8}}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(stock(folder).state_dict())


@pytest.mark.parametrize("lora", ["none", {"r": 4}])
@pytest.mark.parametrize("checkpoint", ["base", "best", "last", "4", "step-8"])
def test_every_checkpoint_is_exported_as_it_answers(checkpoint: str, lora: object, write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(lora=lora, **STEPS))
    (artifact,) = stages.export(job, ["merged"], checkpoint, limit=4)
    name = {"base": "base", "best": "tuned", "last": "step-8", "4": "step-4"}.get(checkpoint, checkpoint)
    model = plain_model(job, name)
    reference = (model.merge_and_unload() if hasattr(model, "merge_and_unload") else model).state_dict()
    merged = weights(job.run.artifact("merged"))
    assert merged.keys() == reference.keys()
    for key, value in reference.items():
        torch.testing.assert_close(merged[key], value, rtol=1e-6, atol=1e-6)
    assert artifact.weights == name and artifact.verification and artifact.verification.passed
    assert artifact.verification.agreement.prompts == 4 and artifact.verification.part == "test"
    assert artifact.logits_difference is not None and artifact.logits_difference < 1e-4
    assert [note.to_json() for note in job.run.artifacts()] == [artifact.to_json()] and damage(
        job.run.artifact("merged")
    ) is None


def test_a_run_ends_with_the_artifacts_of_its_recipe(write_recipe: WriteRecipe) -> None:
    job = Job(write_recipe(export=["merged"], train={"max_steps": 2}), say=lambda text: None)
    page = stages.run(job)
    assert [artifact.format for artifact in job.run.artifacts()] == ["merged"]
    assert "gemtune export" not in page.read_text() and "passed" in page.read_text()
    with pytest.raises(GemtuneError, match="no format 'mergd' to export to; did you mean 'merged'"):
        stages.run(Job(write_recipe("other", export=["mergd"]), say=lambda text: None))
    assert not (job.run.root.parent / "other").exists()


def test_what_is_there_is_not_made_again_and_other_weights_take_its_place(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(**STEPS))
    stages.export(job, ["merged"], limit=2)
    before = command.tree(job.run.root)
    said: list[str] = []
    stages.export(Job(job.run.root, say=said.append), ["merged"], limit=2)
    assert command.tree(job.run.root) == before and not said
    stages.export(Job(job.run.root, say=said.append), ["merged"], limit=3)  # verified on more rows, not written again
    (note,) = job.run.artifacts()
    assert note.verification and note.verification.agreement.prompts == 3 and not said
    stages.export(Job(job.run.root, say=said.append), ["merged"], "4", limit=2)
    assert [artifact.weights for artifact in job.run.artifacts()] == ["step-4"] and len(said) == 1
    (job.run.artifact("merged") / "model.safetensors").write_bytes(b"x")
    stages.export(Job(job.run.root, say=said.append), ["merged"], "4", limit=2)
    assert damage(job.run.artifact("merged")) is None and len(said) == 2


KILLED = """
import os, signal, sys
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
def tick(what, done, total):
    if what == sys.argv[2] and done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
stages.export(Job(sys.argv[1], tick=tick), ["merged"], limit=2)
"""


@pytest.mark.parametrize(("what", "done", "is_there"), [("tensors", 20, False), ("merged replies", 1, True)])
def test_kill_9_leaves_no_half_artifact_and_the_next_call_finishes(
    what: str, done: int, is_there: bool, write_recipe: WriteRecipe
) -> None:
    job = trained(write_recipe(train={"max_steps": 2}))
    ended = subprocess.run([sys.executable, "-c", KILLED, str(job.run.root), what, str(done)], capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    folder = job.run.artifact("merged")
    assert folder.exists() == is_there and (not is_there or damage(folder) is None)
    assert is_there == bool(job.run.formats()) and all(note.verification is None for note in job.run.artifacts())
    (artifact,) = stages.export(Job(job.run.root, say=lambda text: None), ["merged"], limit=2)
    assert artifact.verification and artifact.verification.passed
    assert [path.name for path in job.run.export.iterdir()] == ["merged"]


def test_only_what_gemtune_wrote_is_replaced(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(**STEPS))
    stages.export(job, ["merged"], limit=2)
    place_others(job.run.root)
    stages.export(Job(job.run.root, say=lambda text: None), ["merged"], "4", limit=2)
    assert others_in(job.run.root) == OTHERS
    stages.train(Job(write_recipe(**STEPS), fresh=True, say=lambda text: None))
    assert others_in(job.run.root) == OTHERS and not job.run.artifacts()
    assert {path.name for path in job.run.artifact("merged").iterdir()} == {"notes.txt"}


class Stammers(PlainRuntime):
    """A runtime whose first word is another one."""

    def decode(self, prompt: Sequence[int], limit: int, images: Sequence[Path] = ()) -> list[Choice]:
        first, *rest = super().decode(prompt, limit, images)
        return [Choice(first.token + 1, first.margin), *rest]


def test_an_artifact_that_answers_otherwise_stays_and_is_marked(
    write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FORMATS, "broken", replace(FORMATS["merged"], runtime=Stammers.of))
    job = trained(write_recipe(train={"max_steps": 2}))
    kept, broken = stages.export(job, ["merged", "broken"], limit=3)
    assert kept.verification and kept.verification.passed
    assert (
        broken.verification
        and not broken.verification.passed
        and "lead of the likeliest token moved" in broken.verification.why
    )
    assert broken.verification.agreement.tokens_agreed == 0 and job.run.artifact("broken").is_dir()
    assert broken.verification.reference == kept.verification.runtime
    answer = command.gemtune(capfd, "export", job.run.root, "merged", "broken", "--limit", "3")
    assert answer.code == 4 and "FAILED" in answer.out
    assert answer.err.startswith("gemtune: broken does not answer as the model it was made from: the lead of the")
    answer = command.gemtune(capfd, "export", job.run.root, "merged", "--limit", "3", "--json")
    assert answer.code == 0 and json.loads(answer.out)[0]["verification"]["passed"] is True


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("5", r"step-5: no such folder; there are step-4, step-8"),
        ("newest", r"checkpoint 'newest': wanted base, best, last or a step; the run has the steps 8, 4"),
        ("-4", r"checkpoint '-4': wanted"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_one_line(checkpoint: str, words: str, write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(**STEPS))
    with pytest.raises(RunError, match=words):
        stages.export(job, ["merged"], checkpoint)
    assert not job.run.export.exists()


def test_without_a_format_those_of_the_recipe_are_made(
    write_recipe: WriteRecipe, capfd: pytest.CaptureFixture[str]
) -> None:
    job = trained(write_recipe(train={"max_steps": 1}))
    answer = command.gemtune(capfd, "export", job.run.root)
    assert answer.code == 2 and "no format to export to; give some of merged" in answer.err
    recipe = write_recipe(train={"max_steps": 1}, export=["merged"])
    answer = command.gemtune(capfd, "export", recipe, "--limit", "1")
    assert answer.code == 0 and f"wrote {job.run.artifact('merged')}" in answer.out


def test_a_run_without_weights_is_one_line(write_recipe: WriteRecipe) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    stages.prepare(job)
    with pytest.raises(RunError, match=r"adapter: no such folder; `gemtune train` writes it"):
        stages.export(job, ["merged"])
    with pytest.raises(RunError, match="the run has no checkpoints"):
        stages.export(job, ["merged"], "last")
    (artifact,) = stages.export(job, ["merged"], "base", limit=2)
    assert artifact.modules == "41 tensors as they are" and artifact.verification and artifact.verification.passed


def test_a_run_on_a_quantised_base_is_merged_into_its_own_weights(write_recipe: WriteRecipe) -> None:
    """And compared with the adapter on those, not on the quantised ones it was trained on."""
    job = trained(write_recipe(quantize="nf4", **STEPS))
    (artifact,) = stages.export(job, ["merged"], limit=4)
    assert artifact.verification and artifact.verification.passed
    assert artifact.logits_difference is not None and artifact.logits_difference < 1e-4
    reference = plain_model(job, "tuned").merge_and_unload().state_dict()
    for key, value in weights(job.run.artifact("merged")).items():
        torch.testing.assert_close(value, reference[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "vision"),
    [("gemma3-vision", {"pan_and_scan": True}), ("gemma3-vision", {"trains": "tower"}), ("qwen3-vl", {})],
)
def test_a_vision_run_answers_about_images_as_before(family: str, vision: dict[str, object], tmp_path: Path) -> None:
    """In what stock transformers makes of the images, with the settings that the run was trained with."""
    rows = {"source": str(write_rows(tmp_path / "rows", 40))}
    recipe = {"name": "t", "task": "messages", "data": rows, "model": str(write_tiny(family, tmp_path / "model"))}
    train = {"precision": "fp32", "device": "cpu", "max_length": 4096, "max_steps": 2, "learning_rate": 1e-2}
    recipe |= {"train": train, "evaluate": {"max_new_tokens": 5}, "vision": vision, "runs_dir": str(tmp_path / "runs")}
    path = tmp_path / "t.yaml"
    write_json(path, recipe)
    job = trained(path)
    (artifact,) = stages.export(job, ["merged"], limit=4)
    found = artifact.verification
    assert found and found.passed and found.agreement.prompts_cut_alike == found.agreement.prompts
    assert artifact.logits_difference is not None and artifact.logits_difference < 1e-3
    saved = load_image_processor(job.run.artifact("merged")).to_dict()
    assert bool(saved.get("do_pan_and_scan")) == bool(vision.get("pan_and_scan"))


def test_a_merged_model_loads_without_gemtune(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(train={"max_steps": 2}))
    stages.export(job, ["merged"], limit=1)
    model = AutoModelForCausalLM.from_pretrained(job.run.artifact("merged"))
    assert model.config.architectures == ["Gemma3ForCausalLM"]
