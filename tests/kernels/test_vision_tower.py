"""The blocks of a frozen tower equal transformers' own; where a gradient is wanted they are its own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, Qwen3VLConfig, SiglipVisionConfig, SiglipVisionModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from gemtune.kernels.patch import restore
from gemtune.kernels.vision_tower import PATCHES, install_tower
from gemtune.models.tiny import TOWER

SIZES = {**TOWER, "image_size": 28, "patch_size": 14}
QWEN = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8, "out_hidden_size": 48}
TOWERS = {
    "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES)),
    "clip": lambda: CLIPVisionModel(CLIPVisionConfig(**SIZES)),  # its activation is one that no product ends in
    "clip with gelu": lambda: CLIPVisionModel(CLIPVisionConfig(**SIZES, hidden_act="gelu")),
    "qwen": lambda: Qwen3VLVisionModel(
        Qwen3VLConfig(
            vision_config={**QWEN, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
        ).vision_config
    ),
}


def features(name: str, tower: torch.nn.Module) -> torch.Tensor:
    make = torch.Generator().manual_seed(1)
    if name == "qwen":
        patches: Any = torch.randn(16, 3 * 2 * 8 * 8, generator=make)
        return tower(patches, grid_thw=torch.tensor([[1, 4, 4]])).last_hidden_state
    return tower(pixel_values=torch.randn(2, 3, 28, 28, generator=make)).last_hidden_state


@pytest.mark.parametrize("name", TOWERS)
def test_a_frozen_tower_equals_transformers_own(name: str) -> None:
    torch.manual_seed(0)
    stock = TOWERS[name]().eval()
    ours = copy.deepcopy(stock)
    install_tower(ours)
    blocks = [module for module in ours.modules() if isinstance(module, tuple(PATCHES.values()))]
    assert len(blocks) == 2
    assert torch.equal(features(name, ours), features(name, stock)), "with gradients it is the stock block"
    with torch.no_grad():
        torch.testing.assert_close(features(name, ours), features(name, stock), rtol=1e-4, atol=1e-5)
        assert torch.equal(features(name, restore(ours)), features(name, stock))
