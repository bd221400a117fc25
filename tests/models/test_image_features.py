"""The features of a frozen tower: computed once, shared by models with that tower, and as exact as stock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from gemtune.models.families import family_of
from gemtune.models.image_features import ImageFeatures
from gemtune.models.loading import DTYPES, load_image_processor, load_model
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from models.vision import kept


def test_the_tower_runs_once_an_image_and_never_backward(job: Job, vision_model: Path) -> None:
    model = install_kernels(load_model(vision_model))
    passed = []
    features = job.image_features(model)
    assert features
    tower = model.model.get_submodule(job.family.vision.tower)
    tower.register_forward_hook(lambda module, given, out: passed.append(out.last_hidden_state))
    examples = [example for _, example in kept(job)]
    by_number = job.family.vision.alone_differs
    distinct = {(image, by_number and len(e.images) == 1) for e in examples for image in e.images}
    first = [labelled_loss(model, micro_batch([example]), features)[0] for example in examples]
    assert features.passes == len(distinct)
    assert passed and not any(states.requires_grad for states in passed)
    again = job.image_features(model)  # another run over the same images
    second = [labelled_loss(model, micro_batch([example]), again)[0] for example in examples]
    assert again.passes == 0 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_models_with_the_same_tower_share_what_it_saw(job: Job, vision_model: Path) -> None:
    rows = [example.images for _, example in kept(job) if example.images]
    job.image_features(install_kernels(load_model(vision_model))).warm_up(rows)
    other = install_kernels(load_model(vision_model))
    with torch.no_grad():
        other.model.language_model.norm.weight.add_(1)
        next(other.model.get_submodule(job.family.vision.projector[0]).parameters()).add_(1)
        features = job.image_features(other)
        features.warm_up(rows)
        assert features.passes == 0
        tower = other.model.get_submodule(job.family.vision.tower)
        next(tower.parameters()).add_(1)
        another = job.image_features(other)
        another.warm_up(rows)
        assert another.passes == len(set(another.keys(rows)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frozen_tower_is_as_exact_as_stock(vision_model: Path, precision: str) -> None:
    vision = family_of(vision_model).vision
    assert vision
    pixels = np.random.default_rng(0).integers(0, 255, (2, 56, 84, 3), dtype=np.uint8)
    read = vision.preprocess(load_image_processor(vision_model), [Image.fromarray(image) for image in pixels], True, {})

    def seen(model: Any) -> torch.Tensor:
        moved = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in read.items()}
        return torch.cat([image.flatten() for image in vision.encode(model.model, moved)]).float()

    def stock(dtype: torch.dtype) -> Any:
        return AutoModelForImageTextToText.from_pretrained(vision_model, dtype=dtype, attn_implementation="sdpa").eval()

    ours = install_kernels(load_model(vision_model, precision=precision))
    theirs = stock(DTYPES[precision])
    assert torch.equal(seen(ours), seen(theirs))  # with gradients it is the stock tower
    with torch.no_grad():
        exact, mine, plain = seen(stock(torch.float32)), seen(ours), seen(theirs)
    if precision == "fp32":
        torch.testing.assert_close(mine, exact, rtol=1e-4, atol=1e-5)
    else:
        assert (mine - exact).norm() <= 1.25 * (plain - exact).norm()  # a few hundred numbers scatter


def test_a_damaged_cache_is_seen_again_and_a_full_one_forgets(job: Job, vision_model: Path, tmp_path: Path) -> None:
    model = install_kernels(load_model(vision_model))
    features = job.image_features(model)
    assert features
    images = sorted({(image,) for _, example in kept(job) for image in example.images})
    before = features.features(images)
    cache = tmp_path / "cache" / "seen"
    files = sorted(cache.rglob("*.safetensors"))
    assert len(files) == len(images)
    files[0].write_bytes(files[0].read_bytes()[:40])
    assert all(torch.equal(a, b) for a, b in zip(before, features.features(images), strict=True))
    assert features.passes == len(images) + 1
    limit = 4 * files[1].stat().st_size
    ImageFeatures(model, features.tokenizer, job.run.data, cache_gb=limit / 1e9).evict()
    left = list(cache.rglob("*.safetensors"))
    assert 0 < len(left) < len(images) and sum(path.stat().st_size for path in left) <= limit


def test_a_resumed_run_never_runs_the_tower_again(vision_job: Callable[..., Job], tmp_path: Path) -> None:
    first, second = map(vision_job, "ab")
    stages.train(first)
    kept = {path: path.stat().st_ino for path in (tmp_path / "cache" / "seen").rglob("*.safetensors")}
    stages.train(second)
    after = {path: path.stat().st_ino for path in (tmp_path / "cache" / "seen").rglob("*.safetensors")}
    assert kept and after == kept  # written anew, a file would be another one
