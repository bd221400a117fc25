"""Loading gives stock transformers; the kernels are put in apart from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from gemtune.models.adapters import attach_adapters
from gemtune.models.families import FAMILIES, family_of, write_tiny
from gemtune.models.loading import load_model
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Lora


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(FAMILIES[request.param].name, tmp_path_factory.mktemp("models") / request.param)


def test_a_tiny_model_has_the_model_type_of_its_row(folder: Path) -> None:
    assert AutoConfig.from_pretrained(folder).model_type == folder.name


def test_a_loaded_model_is_a_stock_one(folder: Path) -> None:
    auto = AutoModelForImageTextToText if family_of(folder).vision else AutoModelForCausalLM
    stock, loaded = auto.from_pretrained(folder, dtype=torch.float32).eval(), load_model(folder)
    pairs = zip(stock.named_modules(), loaded.named_modules(), strict=True)
    assert all(name == other and type(one) is type(two) for (name, one), (other, two) in pairs)
    assert not any(module._forward_pre_hooks for module in loaded.modules())
    assert loaded.config._attn_implementation == stock.config._attn_implementation
    ids = torch.arange(300, 310)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, stock(input_ids=ids).logits)


def test_kernels_are_put_in_once_and_adapters_get_theirs(folder: Path) -> None:
    model = install_kernels(install_kernels(load_model(folder)))
    head = model.get_output_embeddings()
    assert len(head._forward_pre_hooks) == 1
    assert model.config.get_text_config()._attn_implementation == "gemtune"
    tuned = install_kernels(attach_adapters(model, Lora(), family_of(folder), [], 0))
    layer = next(module for name, module in tuned.named_modules() if name.endswith("layers.0.mlp.down_proj"))
    assert "gemtune" in {base.__module__.split(".")[0] for base in type(layer).__mro__}
    assert len(head._forward_pre_hooks) == 1


def test_nf4_layers_keep_their_gradient_after_eval(tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the qlora extra is optional")
    model = load_model(tiny_model, precision="bf16", quantize="nf4")
    layers = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    assert layers and type(model.lm_head).__name__ == "Linear"
    x = torch.randn(2, layers[0].in_features, dtype=torch.bfloat16)
    with torch.no_grad():
        layers[0].eval()(x)
    x.requires_grad_()
    layers[0].train()(x).sum().backward()
    assert x.grad is not None


def test_nf4_leaves_tower_and_projector_as_they_are(vision_job: Callable[..., Job]) -> None:
    job = vision_job(quantize="nf4")
    quantised = {name for name, module in job.base_model().named_modules() if "4bit" in type(module).__name__}
    assert quantised and all("language_model" in name for name in quantised)
    assert stages.train(job)["steps"] == 2
