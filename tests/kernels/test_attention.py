"""Attention inside documents equals plain attention over each document alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.attention import varlen

from gemtune.kernels.attention import (
    BATCHED,
    attention,
    choose_gpu_attention,
    documents_attention,
    varlen_attention,
)
from kernels.plain_attention import plain_attention, some_images

Gradients = Callable[..., list[torch.Tensor]]


# The fixture stays as it is for all examples.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 40) | st.integers(126, 188), min_size=1, max_size=8),
    long=st.none() | st.integers(BATCHED - 1, BATCHED + 2),
    window=st.none() | st.sampled_from([1, 16, 64, 500]),
    heads=st.sampled_from([(4, 1), (4, 2), (2, 2), (3, 1), (16, 1)]),
    size=st.sampled_from([16, 24, 48]),
    in_order=st.booleans(),
    draw=st.just(0) | st.integers(1, 99),
)
def test_documents_see_themselves_only(
    passes: None,
    lengths: list[int],
    long: int | None,
    window: int | None,
    heads: tuple[int, int],
    size: int,
    in_order: bool,
    draw: int,
) -> None:
    """Values and gradients equal one plain attention a document, in any order of lengths, within any window.

    With images in some of them, whose tokens see each other in both directions.
    """
    lengths = sorted(lengths, reverse=True) if in_order else [*lengths, *([long] if long else [])]
    torch.manual_seed(sum(lengths))
    tokens, images = sum(lengths), some_images(lengths, draw)
    shapes = [(tokens, heads[0], size), (tokens, heads[1], size), (tokens, heads[1], size)]
    ours = [torch.randn(shape, requires_grad=True) for shape in shapes]
    plain = [t.detach().clone().requires_grad_() for t in ours]
    value = torch.cat([torch.ones(tokens, 1, size), ours[2]], 1)[:, 1:]  # columns of something wider, as in a model
    out = documents_attention(*ours[:2], value, lengths, 0.25, window, images)
    reference = plain_attention(*plain, lengths, window, images)
    torch.testing.assert_close(out, reference, rtol=1e-4, atol=1e-5)
    slope = torch.randn_like(out)
    out.backward(slope)
    reference.backward(slope)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def as_documented(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, _: Any, *sizes: Any
) -> tuple[torch.Tensor, ...]:
    """torch.nn.attention.varlen.varlen_attn in plain PyTorch, by its documentation: it only runs on a GPU itself."""
    _, _, _, scale, (before, after) = sizes[:5]
    assert ends.dtype == torch.int32
    outs = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        behind = torch.arange(end - start)[:, None] - torch.arange(end - start)[None]
        seen = ((before < 0) | (behind <= before)) & ((after < 0) | (-behind <= after))
        q, k, v = (t[start:end].transpose(0, 1) for t in (query, key, value))
        k, v = (t.repeat_interleave(q.shape[0] // k.shape[0], 0) for t in (k, v))
        weights = (q @ k.transpose(1, 2) * scale).masked_fill(~seen, float("-inf")).softmax(-1)
        outs.append((weights @ v).transpose(0, 1))
    return torch.cat(outs), query.new_zeros(query.shape[1], len(query)), torch.zeros(2, dtype=torch.uint64)


kernel = varlen.varlen_attn


def kernel_of_2_10(
    query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, q: int, k: int, is_causal: bool = False
) -> Any:
    raise AssertionError("it has no windows")


def kernel_of_2_11(
    query: Any,
    key: Any,
    value: Any,
    cu_q: Any,
    cu_k: Any,
    q: int,
    k: int,
    *,
    scale: Any = None,
    window_size: Any = None,
) -> Any:
    return kernel(query, key, value, cu_q, cu_k, q, k, scale=scale, window_size=window_size, enable_gqa=True)


@pytest.mark.parametrize("window", [None, 1, 16, 100])
@pytest.mark.parametrize("version", [kernel, kernel_of_2_11])
def test_the_gpus_packed_kernel_is_asked_for_the_same(
    window: int | None, version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/training/test_gpu.py runs the kernel itself."""
    monkeypatch.setattr(varlen, "varlen_attn", version)
    varlen._varlen_attn.register_kernel("cpu", as_documented)
    lengths = [1, 5, 33, 130]
    query, key, value = (torch.randn(sum(lengths), heads, 16) for heads in (4, 2, 2))
    out = varlen_attention(query, key, value, tuple(lengths), 0.25, window)
    torch.testing.assert_close(out, plain_attention(query, key, value, lengths, window))


A100, T4 = (8, 0), (7, 5)


@pytest.mark.parametrize(
    ("capability", "version", "dtype", "size", "attends", "why"),
    [
        (A100, kernel, torch.bfloat16, 256, "packed", "all documents at once"),
        (A100, kernel_of_2_11, torch.float16, 128, "packed", "all documents at once"),
        (A100, kernel_of_2_10, torch.bfloat16, 256, "padded", "with windows; 2.11 has"),
        (A100, None, torch.bfloat16, 256, "padded", "with windows; 2.11 has"),
        (T4, kernel, torch.float16, 256, "padded", "needs a GPU of sm80"),
        (A100, kernel, torch.float32, 256, "padded", "bf16 and fp16 alone"),
        (A100, kernel, torch.bfloat16, 12, "padded", "heads of 12"),
    ],
)
def test_the_packed_kernel_is_used_only_where_it_can_be(
    capability: tuple[int, int],
    version: Any,
    dtype: torch.dtype,
    size: int,
    attends: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    if version is None:  # torch 2.9
        monkeypatch.setitem(sys.modules, varlen.__name__, None)
    else:
        monkeypatch.setattr(varlen, "varlen_attn", version)
    choice, reason = choose_gpu_attention(dtype, size)
    assert choice == attends and why in reason


@pytest.mark.parametrize("lengths", [[1, 5, 31, 32, 33, 64], [200, 7], [130, 513]])
@pytest.mark.parametrize("window", [None, 16, 100])
@pytest.mark.parametrize("heads", [(4, 1), (4, 2), (3, 3)])
@pytest.mark.parametrize("draw", [0, 7])
def test_documents_in_bf16_are_as_near_as_bf16_is(
    passes: None, gradients: Gradients, lengths: list[int], window: int | None, heads: tuple[int, int], draw: int
) -> None:
    torch.manual_seed(len(lengths))
    shapes = [(sum(lengths), number, 40) for number in (heads[0], heads[1], heads[1])]
    ours = [torch.randn(shape).bfloat16().requires_grad_() for shape in shapes]
    plain = [t.detach().double().requires_grad_() for t in ours]
    images = some_images(lengths, draw)
    found = gradients(documents_attention(*ours, lengths, 0.25, window, images), *ours)
    for a, b in zip(found, gradients(plain_attention(*plain, lengths, window, images), *plain), strict=True):
        assert (a.double() - b).norm() < 0.01 * b.norm()


def test_attention_over_documents_swallows_no_keyword() -> None:
    states = [torch.randn(1, 2, 5, 16) for _ in range(3)]
    with pytest.raises(TypeError, match="attention over documents got kv_cache; it knows dropout"):
        attention(None, *states, None, document_lengths=(5,), kv_cache=None)
