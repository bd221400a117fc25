"""The loss, its gradients and its count of right words equal plain cross-entropy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gemtune.kernels import cross_entropy
from gemtune.kernels.cross_entropy import labelled_cross_entropy
from gemtune.rendering.renderer import IGNORE

V = 301


H = 24


def _inputs(n: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(n)
    return torch.randn(n, H, dtype=dtype), torch.randn(V, H, dtype=dtype), torch.randint(0, V, (n,))


@pytest.mark.parametrize("n", [1, 7, 64, 130])
@pytest.mark.parametrize("chunk", [1, 16, 1000])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("words", [100, 1 << 15])  # whose gradient is at hand at a time
def test_loss_and_gradients_equal_plain_cross_entropy(
    passes: None, monkeypatch: pytest.MonkeyPatch, n: int, chunk: int, softcap: float | None, words: int
) -> None:
    monkeypatch.setattr(cross_entropy, "WORDS", words)
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


@pytest.mark.parametrize("words", [100, 1 << 15])
def test_token_rows_get_the_gradient_of_those_rows_and_the_head_none(
    passes: None, monkeypatch: pytest.MonkeyPatch, words: int
) -> None:
    monkeypatch.setattr(cross_entropy, "WORDS", words)
    hidden, weight, targets = _inputs(40)
    ids = torch.tensor([3, 250])
    targets[:10] = ids.repeat(5)
    targets[-3:] = IGNORE  # as where a batch is filled up
    values = torch.randn(2, H)
    ours = [hidden.clone().requires_grad_(), values.clone().requires_grad_()]
    loss, _ = labelled_cross_entropy(ours[0], weight, targets, rows=(ids, ours[1]), chunk=16)
    loss.backward()
    plain_hidden, plain_values = hidden.clone().requires_grad_(), values.clone().requires_grad_()
    merged = weight.index_copy(0, ids, plain_values)
    reference = F.cross_entropy(plain_hidden @ merged.t(), targets, reduction="sum", ignore_index=IGNORE)
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    torch.testing.assert_close(ours[0].grad, plain_hidden.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1].grad, plain_values.grad, rtol=1e-5, atol=1e-5)


def test_bf16_is_as_near_to_fp32_as_plain_bf16_is(passes: None) -> None:
    hidden, weight, targets = _inputs(64)
    exact = F.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    half = [t.bfloat16() for t in (hidden, weight)]
    plain = F.cross_entropy((half[0] @ half[1].t()).float(), targets, reduction="sum")
    loss, _ = labelled_cross_entropy(half[0], half[1], targets)
    assert abs(loss - exact) <= abs(plain - exact) + 1e-3 * exact


@pytest.mark.parametrize("passes", ["compiled for tiles"], indirect=True)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 150),
    words=st.integers(2, 700),
    hidden_size=st.sampled_from([32, 64, 160]),
    replaced=st.integers(0, 3),
    scale=st.sampled_from([0.1, 1.0, 30.0]),  # 30: one word has all of the probability
    seed=st.integers(0, 1000),
)
def test_a_sweep_over_the_head_equals_plain_cross_entropy(
    passes: None, n: int, words: int, hidden_size: int, replaced: int, scale: float, seed: int
) -> None:
    make = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(rows, hidden_size, generator=make).bfloat16() for rows in (n, words))
    hidden = hidden * scale
    targets = torch.randint(0, words, (n,), generator=make)
    targets[torch.rand(n, generator=make) < 0.2] = IGNORE
    ids = torch.randperm(words, generator=make)[:replaced]
    values = torch.randn(len(ids), hidden_size, generator=make).bfloat16()
    assert cross_entropy.sweeps(hidden, weight)
    ours = [hidden.clone().requires_grad_(), values.clone().requires_grad_()]
    rows = (ids, ours[1]) if len(ids) else None
    loss, right = labelled_cross_entropy(ours[0], weight, targets, rows=rows, chunk=64)
    loss.backward()
    plain = [hidden.float().requires_grad_(), values.float().requires_grad_()]
    logits = plain[0] @ weight.float().index_copy(0, ids, plain[1]).t()
    reference = F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORE)
    reference.backward()
    counts = targets != IGNORE
    assert loss.item() == pytest.approx(reference.item(), rel=1e-4, abs=1e-3)
    assert right.item() == (logits.argmax(-1) == targets)[counts].sum().item()
    for mine, other in zip(ours, plain, strict=True):
        if mine.grad is not None:
            wrong = (mine.grad.float() - other.grad).norm()
            assert wrong <= 2**-8 * other.grad.norm() + 2**-8 * weight.float().norm(dim=1).max()
    with torch.no_grad():
        again, _ = labelled_cross_entropy(hidden, weight, targets, rows=(ids, values) if len(ids) else None)
    assert again.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-4)


class ShapesMade(TorchDispatchMode):
    """Notes the shape of every fp32 tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[torch.Size] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32:
            self.shapes.add(out.shape)
        return out


def test_no_gradient_is_computed_when_none_is_wanted(passes: None) -> None:
    hidden, weight, targets = _inputs(8, torch.bfloat16)
    for tensor in (hidden, weight):
        tensor.requires_grad_()
    gradients = {hidden.shape, weight.shape}
    with ShapesMade() as wanted:
        loss, _ = labelled_cross_entropy(hidden, weight, targets)
    with torch.no_grad(), ShapesMade() as unwanted:
        same, _ = labelled_cross_entropy(hidden, weight, targets)
    assert same.item() == pytest.approx(loss.item(), rel=1e-3)
    assert gradients <= wanted.shapes
    assert not gradients & unwanted.shapes
