"""Every kernel computes what plain PyTorch (or PEFT) computes: values and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import Gemma3ForCausalLM

import tiny
from gemtune.kernels.cross_entropy import labelled_cross_entropy
from gemtune.kernels.swap import speed_up

V, H = 301, 24


def _inputs(n: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(n)
    return torch.randn(n, H, dtype=dtype), torch.randn(V, H, dtype=dtype), torch.randint(0, V, (n,))


@pytest.mark.parametrize("n", [1, 7, 64, 130])
@pytest.mark.parametrize("chunk", [1, 16, 1000])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_loss_and_gradients_equal_plain_cross_entropy(n: int, chunk: int, softcap: float | None) -> None:
    hidden, weight, targets = _inputs(n)
    ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    plain = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    loss, right = labelled_cross_entropy(*ours, targets, softcap=softcap, chunk=chunk)
    logits = plain[0] @ plain[1].t()
    logits = softcap * torch.tanh(logits / softcap) if softcap else logits
    reference = F.cross_entropy(logits, targets, reduction="sum")
    (loss * 0.37).backward()
    (reference * 0.37).backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    assert right.item() == (logits.argmax(-1) == targets).sum().item()
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


def test_token_rows_get_the_gradient_of_those_rows_and_the_head_none() -> None:
    hidden, weight, targets = _inputs(40)
    ids = torch.tensor([3, 250])
    targets[:10] = ids.repeat(5)
    values = torch.randn(2, H)
    ours = [hidden.clone().requires_grad_(), values.clone().requires_grad_()]
    loss, _ = labelled_cross_entropy(ours[0], weight, targets, rows=(ids, ours[1]), chunk=16)
    loss.backward()
    plain_hidden, plain_values = hidden.clone().requires_grad_(), values.clone().requires_grad_()
    merged = weight.index_copy(0, ids, plain_values)
    reference = F.cross_entropy(plain_hidden @ merged.t(), targets, reduction="sum")
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    torch.testing.assert_close(ours[0].grad, plain_hidden.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1].grad, plain_values.grad, rtol=1e-5, atol=1e-5)


def test_bf16_is_as_near_to_fp32_as_plain_bf16_is() -> None:
    hidden, weight, targets = _inputs(64)
    exact = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    half = [t.bfloat16() for t in (hidden, weight)]
    plain = F.cross_entropy((half[0] @ half[1].t()).float(), targets, reduction="sum")
    loss, _ = labelled_cross_entropy(half[0], half[1], targets)
    assert abs(loss - exact) <= abs(plain - exact) + 1e-3 * exact


def test_no_gradient_is_computed_when_none_is_wanted() -> None:
    hidden, weight, targets = _inputs(8)
    with torch.no_grad():
        loss, _ = labelled_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad


def _peft_pair(token_ids: list[int]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same random adapter twice: PEFT's own forward, and ours."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        model = Gemma3ForCausalLM(tiny.config(200))
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
    return made[0], speed_up(made[1])


def test_adapter_layers_equal_pefts_own_forward_and_gradients() -> None:
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


def test_adapter_layers_follow_disable_and_merge(tmp_path: Path) -> None:
    peft, ours = _peft_pair([7])
    ids = torch.randint(0, 200, (1, 12))
    ids[0, 4] = 7
    with torch.no_grad():
        with peft.disable_adapter(), ours.disable_adapter():
            torch.testing.assert_close(peft(input_ids=ids).logits, ours(input_ids=ids).logits)
        tuned = ours(input_ids=ids).logits
        merged = ours.merge_and_unload()
        torch.testing.assert_close(merged(input_ids=ids).logits, tuned, rtol=1e-4, atol=1e-4)
