"""Folders as the Hub has them, at a tiny size: the same weights come out, and a run goes from rows to its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from gemtune.models.families import FAMILIES, family_of
from gemtune.models.hub import find_model
from gemtune.models.loading import load_image_processor, load_model
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from models.hub_folders import LAYOUTS, rebuild

PRODUCTS = Path(__file__).parents[2] / "examples" / "products" / "products.csv"


@pytest.fixture(scope="module", params=LAYOUTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rebuild(name, tmp_path_factory.mktemp("hub"))


def test_every_weight_is_the_one_in_the_files(name: str, folder: Path) -> None:
    layout, said = LAYOUTS[name], list[str]()
    assert find_model(str(folder)) == (folder, "a local folder")
    assert family_of(folder) is FAMILIES[layout.model_type]
    model = load_model(folder, say=said.append)
    loaded, plain = model.state_dict(), load_model(folder.parent / "made").state_dict()
    assert said == []
    assert loaded.keys() == plain.keys()
    for key, tensor in plain.items():
        if key != "lm_head.weight" or not model.config.get_text_config().tie_word_embeddings:  # one with the embedding
            assert loaded[key][: len(tensor)].equal(tensor.to(layout.dtype).float()), key


def test_the_image_processor_reads_as_the_one_that_transformers_writes_today(name: str, folder: Path) -> None:
    if family_of(folder).vision is None:
        pytest.skip("a text model")
    theirs, ours = (load_image_processor(path).to_dict() for path in (folder.parent / "made", folder))
    for key in ("size", "crop_size", "image_mean", "image_std", "resample", "do_resize", "patch_size", "merge_size"):
        assert ours.get(key) == theirs.get(key), key


def test_it_is_checked_trained_evaluated_and_reported(
    name: str, folder: Path, write_recipe: Callable[..., Path]
) -> None:
    keys: dict[str, object] = {"model": str(folder), "train": {"max_steps": 2, "eval_steps": 2, "batch_size": 4}}
    if family_of(folder).vision:
        keys |= {"task": "product", "data": {"source": str(PRODUCTS), "limit": 30}}
        keys["train"] = {**keys["train"], "max_length": 640}  # type: ignore[dict-item]
    job = Job(write_recipe("hub", **keys, evaluate={"limit": 2, "max_new_tokens": 4}), say=lambda text: None)
    assert all(finding.holds for finding in stages.check(job))
    page = stages.run(job)
    assert page.is_file()
    losses = [line["loss"] for line in job.run.metrics() if "loss" in line]
    assert len(losses) == 2 and all(torch.tensor(losses).isfinite())
    assert len((job.run.root / "eval" / "tuned.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert AutoTokenizer.from_pretrained(job.run.adapter).get_vocab() == job.tokenizer.get_vocab()
