"""Every kernel computes what plain PyTorch (or PEFT) computes: values and gradients."""

from __future__ import annotations

import ctypes
import inspect
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from torch.nn.attention import varlen
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma3ForCausalLM
from transformers.models.gemma3.modeling_gemma3 import Gemma3Attention, Gemma3RMSNorm, apply_rotary_pos_emb

from gemtune.files import sha256_of
from gemtune.kernels import cross_entropy, native
from gemtune.kernels.attention import BATCHED, Spans, attention, documents_attention, varlen_attention
from gemtune.kernels.cross_entropy import labelled_cross_entropy
from gemtune.kernels.lora import Outer, OuterArguments, add_low, append_low, outers
from gemtune.kernels.mlp import ACTIVATIONS, gated, gated_backward
from gemtune.kernels.norms import RmsNorm, RmsNormRope
from gemtune.kernels.patch import choose_forwards, speed_up
from gemtune.models.families.gemma3 import tiny_text_config
from gemtune.rendering.renderer import IGNORE

V, H = 301, 24
CACHE_NAMES = {"past_key_values", "cache"}  # of transformers up to 5.23, and since


TILES = Path(__file__).with_name("amx_in_software.h")
BUILDS = {
    "compiled": native.FLAGS,
    "compiled for AVX2": f"{native.FLAGS} -mno-avx512f -mno-amx-tile -mno-amx-bf16 -mno-amx-int8",
    "compiled for tiles": f"{native.FLAGS} -mamx-tile -mamx-bf16 -include {TILES} -DTILES={sha256_of(TILES)}",
}


def unbuildable(name: str) -> str | None:
    """Why this machine cannot run one of BUILDS."""
    if name == "compiled for AVX2" and platform.machine() not in ("x86_64", "AMD64"):
        return "AVX2 is a thing of x86"
    if name == "compiled for tiles" and not torch.cpu._is_avx512_supported():
        return "what surrounds tiles needs AVX-512"
    return build(BUILDS[name])[1] if build(BUILDS[name])[0] is None else None


@cache
def build(flags: str) -> tuple[Any, str]:
    return native.build(flags)


@pytest.fixture(params=[*BUILDS, "in PyTorch"])
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels as this machine compiles them, as one without AVX-512 would, as one with AMX would (its tiles
    in software), and as they are without a compiler."""
    name: str = request.param
    if name in BUILDS and (why := unbuildable(name)):
        pytest.skip(why)
    built = build(BUILDS[name]) if name in BUILDS else (None, "not wanted here")
    every = itertools.product(native.INSTRUCTION_SETS, native.SUFFIX)  # also where PyTorch is faster
    monkeypatch.setattr(native, "SMALL_PRODUCTS", set(every))
    monkeypatch.setattr(native, "compiled", lambda: built)


def test_a_build_knows_its_instruction_set(passes: None, request: pytest.FixtureRequest) -> None:
    sets = {"compiled for AVX2": "narrow", "compiled for tiles": "amx", "in PyTorch": None}
    name = request.node.callspec.params["passes"]
    assert native.instruction_set() == sets.get(name, native.instruction_set())


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
    return made[0], speed_up(made[1])


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


class OwnCacheName(Gemma3Attention):
    """Attention as a transformers to come may write it: with a parameter that nobody here has heard of."""

    def forward(self, hidden_states: Any, position_embeddings: Any, kv: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        kwargs |= {} if kv is None else {CACHE: kv}
        return super().forward(hidden_states, position_embeddings, **kwargs)


CACHE = next(name for name in inspect.signature(Gemma3Attention.forward).parameters if name in CACHE_NAMES)


def _lora_pair(attention: type | None = None) -> list[torch.nn.Module]:
    """The same LoRA twice, as PEFT has it and sped up; attentions of another class where one is given."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        model = get_peft_model(
            Gemma3ForCausalLM(tiny_text_config(200)).eval(),
            LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], init_lora_weights=False),
        )
        for module in model.modules():
            if attention is not None and type(module) is Gemma3Attention:
                module.__class__ = attention
        models.append(model.eval())
    return [models[0], speed_up(models[1])]


@pytest.mark.parametrize("attention, name", [(None, "past_key_values"), (None, "cache"), (OwnCacheName, CACHE)])
def test_generation_sees_its_past_whatever_the_cache_is_called(
    monkeypatch: pytest.MonkeyPatch, attention: type | None, name: str
) -> None:
    """The second token's logits from a cache equal those of the whole text, through every name of a cache."""
    stock, ours = _lora_pair(attention)
    for layer in ours.model.model.layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {name if key in CACHE_NAMES else key: v for key, v in kwargs.items()}),
            with_kwargs=True,
        )
    ids = torch.randint(0, 200, (1, 12))
    with torch.no_grad():
        past = ours(input_ids=ids[:, :-1], use_cache=True)
        cached = ours(input_ids=ids[:, -1:], past_key_values=past.past_key_values, use_cache=True).logits
        torch.testing.assert_close(cached[:, -1], stock(input_ids=ids).logits[:, -1], rtol=1e-4, atol=1e-5)


def test_a_forward_with_a_parameter_unknown_here_is_kept_and_named() -> None:
    stock, ours = _lora_pair(OwnCacheName)
    kept, why = choose_forwards(ours)
    assert kept == ["OwnCacheName"] and "OwnCacheName.forward takes kv" in why
    assert type(ours.model.model.layers[0].self_attn) is OwnCacheName
    assert choose_forwards(_lora_pair()[1])[0] == []
    ids = torch.randint(0, 200, (2, 12))
    torch.testing.assert_close(ours(input_ids=ids).logits, stock(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


def test_attention_over_documents_swallows_no_keyword() -> None:
    states = [torch.randn(1, 2, 5, 16) for _ in range(3)]
    with pytest.raises(TypeError, match="attention over documents got kv_cache; it knows dropout"):
        attention(None, *states, None, document_lengths=(5,), kv_cache=None)


# ---- attention


def plain_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: list[int],
    window: int | None,
    images: Sequence[Spans] = (),
) -> Any:
    """Each document alone, every score written out, an image's tokens seeing each other: (T, N, D)."""
    outs = []
    for number, (one_q, one_k, one_v) in enumerate(zip(*(t.split(lengths) for t in (q, k, v)), strict=True)):
        places = torch.arange(len(one_q))
        behind = places[:, None] - places[None]
        seen = behind >= 0
        for start, end in images[number] if images else ():
            seen[start:end, start:end] = True
        seen &= behind < (window or len(one_q))
        shared = q.shape[1] // k.shape[1]
        keys, values = (t.repeat_interleave(shared, 1).transpose(0, 1) for t in (one_k, one_v))
        scores = (one_q.transpose(0, 1) @ keys.transpose(1, 2) / 4).masked_fill(~seen, float("-inf"))
        outs.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(outs)


def some_images(lengths: list[int], draw: int) -> tuple[Spans, ...]:
    """Up to three runs of tokens in every other document; none at all for 0."""
    random = np.random.default_rng(draw)
    edges = [sorted(set(random.integers(0, length + 1, 6).tolist())) for length in lengths]
    found = [tuple(zip(cut[::2], cut[1::2], strict=False)) if random.random() < 0.5 else () for cut in edges]
    return tuple(found) if draw else ()


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
    _, _, _, scale, (before, after), shared_heads = sizes[:6]
    assert shared_heads and ends.dtype == torch.int32
    outs = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        behind = torch.arange(end - start)[:, None] - torch.arange(end - start)[None]
        seen = ((before < 0) | (behind <= before)) & ((after < 0) | (-behind <= after))
        q, k, v = (t[start:end].transpose(0, 1) for t in (query, key, value))
        k, v = (t.repeat_interleave(q.shape[0] // k.shape[0], 0) for t in (k, v))
        weights = (q @ k.transpose(1, 2) * scale).masked_fill(~seen, float("-inf")).softmax(-1)
        outs.append((weights @ v).transpose(0, 1))
    return torch.cat(outs), query.new_zeros(query.shape[1], len(query)), torch.zeros(2, dtype=torch.uint64)


@pytest.mark.parametrize("window", [None, 1, 16, 100])
def test_the_gpus_packed_kernel_is_asked_for_the_same(window: int | None) -> None:
    """tests/training/test_gpu.py runs the kernel itself."""
    varlen._varlen_attn.register_kernel("cpu", as_documented)
    lengths = [1, 5, 33, 130]
    query, key, value = (torch.randn(sum(lengths), heads, 16) for heads in (4, 2, 2))
    out = varlen_attention(query, key, value, tuple(lengths), 0.25, window)
    torch.testing.assert_close(out, plain_attention(query, key, value, lengths, window))


@pytest.mark.parametrize("lengths", [[1, 5, 31, 32, 33, 64], [200, 7], [130, 513]])
@pytest.mark.parametrize("window", [None, 16, 100])
@pytest.mark.parametrize("heads", [(4, 1), (4, 2), (3, 3)])
@pytest.mark.parametrize("draw", [0, 7])
def test_documents_in_bf16_are_as_near_as_bf16_is(
    passes: None, lengths: list[int], window: int | None, heads: tuple[int, int], draw: int
) -> None:
    torch.manual_seed(len(lengths))
    shapes = [(sum(lengths), number, 40) for number in (heads[0], heads[1], heads[1])]
    ours = [torch.randn(shape).bfloat16().requires_grad_() for shape in shapes]
    plain = [t.detach().double().requires_grad_() for t in ours]
    images = some_images(lengths, draw)
    found = gradients(documents_attention(*ours, lengths, 0.25, window, images), *ours)
    for a, b in zip(found, gradients(plain_attention(*plain, lengths, window, images), *plain), strict=True):
        assert (a.double() - b).norm() < 0.01 * b.norm()


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


# ---- norms and the gated layer


def gradients(out: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [out.detach(), *torch.autograd.grad(out, inputs, torch.randn(out.shape).bfloat16().to(out.dtype))]


@pytest.mark.parametrize("weight_trains", [False, True])
def test_norm_equals_transformers_own(passes: None, weight_trains: bool) -> None:
    norm = Gemma3RMSNorm(48, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    norm.weight.requires_grad_(weight_trains)
    x = torch.randn(2, 7, 48, requires_grad=True)
    inputs = (x, norm.weight) if weight_trains else (x,)
    stock = gradients(norm(x), *inputs)
    torch.testing.assert_close(gradients(RmsNorm.apply(x, norm.weight, norm.eps), *inputs), stock, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight_trains", [False, True])
@pytest.mark.parametrize("batch, tokens, angles_of", [(1, 9, 1), (3, 5, 3), (3, 5, 1), (3, 1, 3), (1, 1, 1)])
def test_norm_and_rope_equal_transformers_own(
    passes: None, weight_trains: bool, batch: int, tokens: int, angles_of: int
) -> None:
    """Packed rows, a batch with places of its own, and the single tokens of generation."""
    torch.manual_seed(tokens)
    norm = Gemma3RMSNorm(16, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    norm.weight.requires_grad_(weight_trains)
    fused = torch.randn(batch, tokens, 6 * 16, requires_grad=True)
    angles = (torch.rand(angles_of, tokens, 8) * 6).repeat(1, 1, 2)  # both halves are the same
    cos, sin = angles.cos(), angles.sin()
    inputs = (fused, norm.weight) if weight_trains else (fused,)

    def heads() -> torch.Tensor:  # columns of a wider product, as queries are
        return fused.split([64, 32], -1)[0].view(batch, tokens, 4, 16)

    turned = apply_rotary_pos_emb(*[norm(heads()).transpose(1, 2)] * 2, cos, sin)[0]
    stock = gradients(turned.transpose(1, 2), *inputs)
    halves = (half.chunk(2, -1)[0] for half in (cos, sin))
    ours = gradients(RmsNormRope.apply(heads(), norm.weight, *halves, norm.eps), *inputs)
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated_product_equals_autograd(passes: None, activation: str, dtype: torch.dtype) -> None:
    both = (8 * torch.randn(5, 64)).to(dtype).requires_grad_()
    gate, up = both.double().chunk(2, 1)
    act = {"silu": F.silu, "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh")}[activation]
    product = act(gate) * up
    slope = torch.randn(5, 32).to(dtype)
    (reference,) = torch.autograd.grad(product, both, slope.double())
    near = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 2e-5}
    torch.testing.assert_close(gated(both.detach(), activation), product.detach().to(dtype), **near)
    d_both, again = gated_backward(both.detach(), slope, activation)
    torch.testing.assert_close(again, product.detach().to(dtype), **near)
    torch.testing.assert_close(d_both, reference.to(dtype), **near)


# ---- what C++ and Python say of each other


def kinds_of(parameters: str) -> str:
    """C++ parameters or fields in the letters of SIGNATURES.

    >>> kinds_of("const T* x, float* out, int64_t rows, float eps")
    'ppif'
    """
    letters = {"int64_t": "i", "float": "f"}
    return "".join("p" if "*" in one else letters[one.split()[0]] for one in parameters.split(",") if one.strip())


def test_every_exported_function_takes_what_python_says() -> None:
    source = native.SOURCE.read_text(encoding="utf-8").replace("\\\n", " ")
    activations = re.findall(r"EXPORT_GATED\(T, S, (\w+), \w+\)", source[source.index("define EXPORT(") :])
    declared = {}
    for name, parameters in re.findall(r'extern "C" \w+ ([\w#]+)\(([^)]*)\)', source):
        stem = re.sub(r"(_##S|_bf16)$", "", name)
        for activation in activations if "##" in stem else [""]:
            declared[stem.replace("name##", activation)] = kinds_of(parameters)
    assert declared.pop("instruction_set") == "" and declared.pop("page_out") == "pi"
    assert declared == native.SIGNATURES


def test_the_structure_of_a_product_is_the_same_in_both() -> None:
    header = (native.SOURCE.parent / "lora.h").read_text(encoding="utf-8")
    [body] = re.findall(r"struct Outer \{(.*?)\n\n", header, re.DOTALL)
    fields = []
    for line in filter(str.strip, body.split(";")):
        assert "*" in line or line.split()[0] == "int64_t"
        fields += [(field.split("*")[-1].split()[-1], "*" in field) for field in line.split(",")]
    assert fields == [(name, kind is ctypes.c_void_p) for name, kind in OuterArguments._fields_]


# ---- memory


def test_sanitizers_find_nothing_in_any_kernel(tmp_path: Path) -> None:
    """Addresses and undefined behaviour, in a process that loads the sanitizers before everything else.

    The build for tiles has the code of all: fp32 runs on vectors in it.
    """
    if why := unbuildable("compiled"):
        pytest.skip(why)
    name = "compiled" if unbuildable("compiled for tiles") else "compiled for tiles"
    compiler = native._compiler()[0]
    wanted = [[compiler, f"-print-file-name=lib{part}.so"] for part in ("asan", "ubsan")]
    libraries = [subprocess.run(command, capture_output=True, text=True).stdout.strip() for command in wanted]
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip(f"{compiler} has no sanitizer libraries to load first")
    flags = BUILDS[name].replace("-O3", "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("every_kernel.py")), flags],
        env={
            **os.environ,
            "LD_PRELOAD": ":".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
            "GEMTUNE_CACHE": str(tmp_path),
            "OMP_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    instructions, *called = done.stdout.split()
    head = {"head_loss"} if instructions == "amx" else set()
    assert set(called) == native.SIGNATURES.keys() - {"head_loss"} | head


# ---- the compiler


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a command the C++ compiler, with a cache folder of its own, which is returned."""

    def use(command: str) -> Path:
        monkeypatch.setenv("CXX", command)
        monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    return use


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_without_a_compiler_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert native.build(native.FLAGS) == (None, native.NO_COMPILER)


def test_a_compiler_that_fails_is_named(compiler: Callable[[str], Path]) -> None:
    folder = compiler("/bin/false")
    functions, why = native.build(native.FLAGS)
    assert functions is None and why.startswith("/bin/false cannot compile kernels.cpp here (no message): PyTorch does")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "command, why",
    [
        ("no-such-compiler -v", "no-such-compiler cannot be asked its version (No such file or directory); CXX names"),
        ('"g++', 'CXX is "g++, which is no command (No closing quotation): PyTorch does'),
        ("/etc", "/etc cannot be asked its version (Permission denied)"),
    ],
)
def test_a_compiler_that_cannot_be_run_is_no_traceback(compiler: Callable[[str], Path], command: str, why: str) -> None:
    compiler(command)
    functions, said = native.build(native.FLAGS)
    assert functions is None and said.startswith(why)


def test_a_compiler_may_be_a_command_with_arguments(compiler: Callable[[str], Path], tmp_path: Path) -> None:
    """As CXX="ccache g++" is."""
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found is None or native.compiled()[0] is None:
        pytest.skip("no compiler is here")
    wrapper = script(tmp_path / "wrapper", 'exec "$@"')
    folder = compiler(f"{wrapper} {found}")
    functions, why = native.build("-O1 -std=c++17 -fPIC")
    assert functions is not None, why
    assert [path.suffix for path in folder.iterdir()] == [".so"]


def test_a_compiler_that_never_ends_is_left(
    compiler: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = script(tmp_path / "slow", "test $1 = --version || exec sleep 600")
    compiler(str(slow))
    monkeypatch.setattr(native, "TIME_LIMIT", 1.0)
    assert native.build(native.FLAGS) == (None, f"{slow} cannot compile kernels.cpp here within 1 s: {native.INSTEAD}")


def test_a_cache_folder_that_cannot_be_written_is_named(
    compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler("/bin/true")
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEMTUNE_CACHE", str(tmp_path / "file" / "cache"))
    functions, why = native.build(native.FLAGS)
    assert functions is None
    assert why.startswith(f"{tmp_path}/file/cache cannot be written (Not a directory); GEMTUNE_CACHE may name another")


def test_another_version_of_the_compiler_compiles_again(compiler: Callable[[str], Path], tmp_path: Path) -> None:
    """The stand-in writes what is no library: it is refused with a reason, and kept under a name of its version."""
    text = 'test "$1" = --version && echo {} || for last; do :; done; test "$1" = --version || touch "$last"'
    folder = tmp_path / "cache"
    names = []
    for version in ("12.2", "12.2", "13.1"):
        folder = compiler(str(script(tmp_path / "compiler", text.format(version))))
        functions, why = native.build(native.FLAGS)
        assert functions is None and why.endswith(native.INSTEAD)
        names.append({path.name for path in folder.iterdir()})
    assert len(names[0]) == 1 and names[0] == names[1] < names[2]


def test_without_gccs_openmp_the_reason_is_given(
    compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on macOS, where PyTorch brings LLVM's."""
    compiler("/bin/true")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libomp.dylib").touch()
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    functions, why = native.build(native.FLAGS)
    assert functions is None and f"for {platform.system()} brings libomp.dylib: PyTorch does" in why
