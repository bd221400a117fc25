"""A run's page: its prompt is the training prompt, its model the artifact, and its proof what the artifact answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exporting.gguf_models import write_text_model
from gemtune.errors import GemtuneError
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.files import read_json
from gemtune.models.families import write_tiny
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.web_page import GGUF, write_page
from training_jobs import trained
from web_packages import package_in


def test_the_page_asks_and_proves_what_the_run_does(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model")
    job = trained(write_recipe(model=str(model), train={"max_steps": 1}))
    stages.export(job, [GGUF], limit=2)
    folder = write_page(job, tmp_path, [package_in(tmp_path)], certain=0.02)  # the tiny model is sure of nothing
    site = read_json(folder / "site.json")
    files = {"tuned": next(job.run.artifact(GGUF).glob("*.gguf")), "base": tmp_path / "base.gguf"}
    write_language_model(model, files["base"], "q8_0")
    for name, file in files.items():
        parts = [(folder / part["file"]).read_bytes() for part in site["models"][name]["parts"]]
        assert b"".join(parts) == file.read_bytes()
    assert files["tuned"].read_bytes() != files["base"].read_bytes()
    assert not list(job.run.artifact(GGUF).parent.glob(".*.tmp"))
    assert site["sampling"] == {"limit": 8, "temperature": 0.0, "topP": 1.0} and site["name"] == "t"
    assert site["base"] == "model", "a folder's place on this machine is nobody's business"
    assert len(site["examples"]) == 4
    for name, file in files.items():
        assert site["models"][name]["golden"]
        with LlamaCpp(file) as runtime:
            for text in site["examples"]:
                prompt = site["prompt"]["before"] + text + site["prompt"]["after"]
                ids = [job.tokenizer.bos_token_id, *runtime.tokenize(prompt)]
                assert ids == job.renderer.prompt_ids(job.task.asked(text)), "llama.cpp writes the first token itself"
            for golden in site["models"][name]["golden"]:
                ids = [job.tokenizer.bos_token_id, *runtime.tokenize(golden["prompt"])]
                choices = runtime.decode(ids, golden["tokens"])
                assert all(choice.margin > 0.01 for choice in choices)
                assert job.tokenizer.decode([choice.token for choice in choices]).startswith(golden["reply"])
    assert "\n# t\n" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_run_with_images_has_no_page(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("name,category,image\n", encoding="utf-8")
    model = write_tiny("gemma3-vision", tmp_path / "vision")
    recipe = write_recipe(task="product", model=str(model), data={"source": str(rows)})
    with pytest.raises(GemtuneError, match="the page takes text"):
        stages.web(Job(recipe, say=lambda text: None), tmp_path)
    with pytest.raises(GemtuneError, match="the page takes text"):  # and before anything is trained
        stages.run(Job(recipe, {"export": ["web"]}, say=lambda text: None))
