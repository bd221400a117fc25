"""LoRA layers and token rows equal those of PEFT, and the small products the plain ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma3ForCausalLM

from gemtune.kernels.lora import Outer, add_low, append_low, outers
from gemtune.kernels.patch import install
from gemtune.models.families.gemma3 import tiny_text_config


def _peft_pair(token_ids: list[int]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same random adapter twice: PEFT's own forward, and ours."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        model = Gemma3ForCausalLM(tiny_text_config(200))
        settings = LoraConfig(
            r=4, target_modules=["q_proj", "down_proj"], trainable_token_indices={"embed_tokens": token_ids}
        )
        model = get_peft_model(model, settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.add_(
                        0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
                    )
        made.append(model)
    return made[0], install(made[1])


def test_adapter_layers_equal_pefts_own_forward_and_gradients(passes: None) -> None:
    peft, ours = _peft_pair([5, 106])
    ids = torch.randint(0, 200, (2, 40))
    ids[:, 3], ids[:, 20] = 5, 106
    logits = [model(input_ids=ids).logits for model in (peft, ours)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    for out in logits:
        out.square().mean().backward()
    pairs = zip(peft.named_parameters(), ours.named_parameters(), strict=True)
    trained = [(name, a.grad, b.grad) for (name, a), (_, b) in pairs if a.requires_grad]
    assert any("trainable_tokens" in name for name, _, _ in trained)
    for name, a, b in trained:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_adapter_layers_follow_disable_and_merge(passes: None, tmp_path: Path) -> None:
    peft, ours = _peft_pair([7])
    ids = torch.randint(0, 200, (1, 12))
    ids[0, 4] = 7
    with torch.no_grad():
        with peft.disable_adapter(), ours.disable_adapter():
            torch.testing.assert_close(peft(input_ids=ids).logits, ours(input_ids=ids).logits)
        tuned = ours(input_ids=ids).logits
        merged = ours.merge_and_unload()
        torch.testing.assert_close(merged(input_ids=ids).logits, tuned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [1, 16, 37])
@pytest.mark.parametrize("size", [24, 32, 96])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_products_equal_plain_ones(passes: None, tokens: int, size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(size)
    near = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    x, factor = torch.randn(tokens, size).to(dtype), torch.randn(32, size).to(dtype) / size
    wide = append_low(x, factor.t())
    torch.testing.assert_close(wide[:, :size], x, rtol=0, atol=0)
    torch.testing.assert_close(wide[:, size:], (x.double() @ factor.double().t()).to(dtype), **near)
    low = wide[:, size:]  # columns of something wider, as in a model
    both = (x.double() + low.double() @ factor.double()).to(dtype)
    torch.testing.assert_close(add_low(x, low, factor), both, **near)


@pytest.mark.parametrize("tokens, size, rank", [(1, 16, 4), (19, 100, 8), (40, 130, 16), (70, 600, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapter_gradients_equal_the_plain_product(
    passes: None, tokens: int, size: int, rank: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(size)
    small, big = torch.randn(tokens, 3 * rank).to(dtype)[:, rank : 2 * rank], torch.randn(tokens, size).to(dtype)
    product = 0.5 * small.double().t() @ big.double()
    near = {"rtol": 1e-2, "atol": 5e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    ours, turned = outers([Outer(small, big, 0.5), Outer(small, big, 0.25, transposed=True)])
    torch.testing.assert_close(ours, product.float(), **near)
    torch.testing.assert_close(turned, 0.5 * product.t().float(), **near)
