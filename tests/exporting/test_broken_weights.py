"""A quantised artifact with wrong weights is caught, also where the reference scores 0 and the score shows nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporting.gguf_models import write_text_model
from gemtune.exporting.formats import FORMATS
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job

pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")
pytest.importorskip("onnxruntime", reason="the onnx extra is optional")

Weights = dict[str, torch.Tensor]
MATRIX = "model.layers.3.mlp.down_proj.weight"


def zeroed(weights: Weights) -> Weights:
    return weights | {MATRIX: torch.zeros_like(weights[MATRIX])}


def scaled(weights: Weights) -> Weights:
    """As with wrong scales of half of the blocks; of all of them the norm behind it would take them off again."""
    matrix = weights[MATRIX].clone()
    matrix[::2] *= 4
    return weights | {MATRIX: matrix}


def swapped(weights: Weights) -> Weights:
    """The third and the fourth layer in each other's place."""
    other = {"2": "3", "3": "2"}
    place = re.compile(r"(?<=layers\.)[23](?=\.)")
    return {place.sub(lambda found: other[found[0]], name): value for name, value in weights.items()}


def whole(weights: Weights) -> Weights:
    return weights


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A model of six layers whose replies are noise, and that scores 0."""
    import yaml

    folder = tmp_path_factory.mktemp("broken")
    source = Path(__file__).parents[2] / "examples" / "emoji.csv"
    recipe = {
        "name": "t",
        "task": "emoji",
        "model": str(write_text_model(folder / "model")),
        "runs_dir": str(folder / "runs"),
        "data": {"source": str(source), "limit": 120},
        "train": {"precision": "fp32", "device": "cpu"},
        "evaluate": {"limit": 8, "max_new_tokens": 8},
    }
    (folder / "t.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    job = Job(folder / "t.yaml", say=lambda text: None)
    stages.prepare(job)
    return job


@pytest.mark.parametrize("change", [whole, zeroed, scaled, swapped])
@pytest.mark.parametrize("name", ["gguf-q8_0", "onnx-q8", "onnx-web"])
def test_broken_weights_are_caught_without_a_score(
    name: str, change: Callable[[Weights], Weights], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FORMATS[name].write
    assert write

    def write_broken(merged: Path, folder: Path) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(merged, broken)
        save_file(change(load_file(merged / "model.safetensors")), broken / "model.safetensors", {"format": "pt"})
        write(broken, folder)

    key = f"{name}-{change.__name__}"
    monkeypatch.setitem(FORMATS, key, replace(FORMATS[name], write=write_broken))
    (artifact,) = stages.export(job, [key], "base", limit=8)
    found = artifact.verification
    assert found and found.score and found.score.base.mean == 0.0
    assert found.passed is (change is whole), found.why
    assert ("shows nothing" in found.why) == (change is whole)
