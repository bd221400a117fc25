"""Fixtures: every way in which the kernels run, and gradients to compare."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from gemtune.files import sha256_of
from gemtune.kernels import cross_entropy, native

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
    every = set(itertools.product(native.INSTRUCTION_SETS, native.SUFFIX))  # also where PyTorch is faster
    monkeypatch.setattr(native, "SMALL_PRODUCTS", every)
    monkeypatch.setattr(cross_entropy, "SCORED", every)
    monkeypatch.setattr(native, "compiled", lambda: built)


@pytest.fixture
def widest_flags() -> str:
    """The flags of the build that has the most code here: tiles where they can be, and fp32 on vectors in any case."""
    if why := unbuildable("compiled"):
        pytest.skip(why)
    return BUILDS["compiled" if unbuildable("compiled for tiles") else "compiled for tiles"]


@pytest.fixture
def gradients() -> Callable[..., list[torch.Tensor]]:
    """Gives an output and the gradients of inputs for a slope that is always the same."""

    def of(out: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(1)
        return [out.detach(), *torch.autograd.grad(out, inputs, torch.randn(out.shape).bfloat16().to(out.dtype))]

    return of
