"""LoRA and token rows with a faster step: PEFT's parameters, PEFT's files, PEFT's mathematics.

PEFT runs fp32 adapters by casting every activation to fp32, and adds their small products to the outputs in separate
passes over memory: at 270M a third of the time of the linear layers. Here A and B are cast instead, and are appended to
the frozen weight as columns or rows, so that one product computes both; linear layers with the same input share it.
Trained token rows compute with those rows alone, where PEFT copies the whole embedding at each use.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import nn

from gemtune.kernels import native
from gemtune.kernels.autograd import Context
from gemtune.kernels.fp16 import rounded
from gemtune.kernels.norms import normed, normed_backward

ADAPTER = "default"
GROUPS = "linear_groups"  # the attribute of a module that holds its groups
MEMBER = "in_linear_group"  # the attribute of a linear layer whose weight is a view of a group's matrix
ALIGNED = 32  # ranks are padded with zeros to a multiple of it: the width of a bf16 tile of AMX or of a tensor core

Parameters = list[torch.Tensor]  # A (r, in) and B (out, r) of every layer in turn: the fp32 masters


class LinearGroup:
    """The frozen weights of LoRA layers with the same input, moved into one matrix with space for A or B beside them.

    Wide (more outputs than inputs): [W | B], applied to [x | A x]. Tall: [W ; A], whose last outputs are A x.
    The layers' weights become views of it.
    """

    def __init__(self, layers: Sequence[LoraLayer]):
        self.layers = layers
        weights = [layer.get_base_layer().weight for layer in layers]
        self.outs = [weight.shape[0] for weight in weights]
        self.ranks = [layer.r[ADAPTER] for layer in layers]
        self.inputs, outputs = weights[0].shape[1], sum(self.outs)
        self.is_wide = outputs > self.inputs
        rank = -(-sum(self.ranks) // ALIGNED) * ALIGNED
        if self.is_wide:  # stored by columns: by rows oneDNN takes half as long again where the outputs are 1,536
            self.matrix = weights[0].new_zeros(self.inputs + rank, outputs).t()
            self.a, self.b = self.matrix.new_zeros(rank, self.inputs), self.matrix[:, self.inputs :]
        else:
            self.matrix = weights[0].new_zeros(outputs + rank, self.inputs)
            self.a, self.b = self.matrix[outputs:], self.matrix.new_zeros(outputs, rank)
        self.rank = rank
        self.blocks = list(self._blocks())
        self.casts = [cast for rows, columns in self.blocks for cast in (self.a[columns], self.b[rows, columns])]
        start = 0
        for weight in weights:
            view = self.matrix[start : start + weight.shape[0], : self.inputs]
            original, weight.data = weight.data, view.copy_(weight.data)
            native.page_out(original)  # it may be part of the mapped file of all weights, which is never freed
            start += weight.shape[0]
        for layer in layers:
            vars(layer.get_base_layer())[MEMBER] = True

    def still_holds(self) -> bool:
        """Whether the layers' weights are still views of the matrix: a merge or a move gives them other memory."""
        memory = self.matrix.untyped_storage().data_ptr()
        return all(layer.get_base_layer().weight.untyped_storage().data_ptr() == memory for layer in self.layers)

    @property
    def dtype(self) -> torch.dtype:
        return self.matrix.dtype

    @property
    def parameters(self) -> Parameters:
        return [matrix.weight for layer in self.layers for matrix in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER])]

    def cast(self) -> None:
        """Rounds the masters into `a` (R, in) and, scaled, into the blocks of `b` (outputs, R)."""
        scales = (scale for layer in self.layers for scale in (1.0, layer.scaling[ADAPTER]))
        for cast, master, scale in zip(self.casts, self.parameters, scales, strict=True):
            round_into(cast, master, scale)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x (N, in) -> all outputs (N, outputs), and what `gradients` needs: x, and A x (N, R)."""
        if self.is_wide:
            both = append_low(x, self.a.t())
            return both @ self.matrix.t(), both[:, : self.inputs], both[:, self.inputs :]
        out, low = (x @ self.matrix.t()).split([sum(self.outs), self.rank], 1)
        return add_low(out, low, self.b.t()), x, low.clone()

    def backward(self, d_out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of x (N, in) and of A x (N, R)."""
        if self.is_wide:
            d_x, d_low = (d_out @ self.matrix).split([self.inputs, self.rank], 1)
            return add_low(d_x, d_low, self.a), d_low
        both = append_low(d_out, self.b)
        return both @ self.matrix, both[:, d_out.shape[1] :]

    def gradients(self, d_out: torch.Tensor, d_low: torch.Tensor, x: torch.Tensor, low: torch.Tensor) -> Parameters:
        """The gradients of the parameters, in fp32."""
        b_products = [
            Outer(low[:, columns], d_out[:, rows], layer.scaling[ADAPTER], transposed=True)
            for (rows, columns), layer in zip(self.blocks, self.layers, strict=True)
        ]
        d_a, *d_b = outers([Outer(d_low[:, : sum(self.ranks)], x), *b_products])  # x is the input of every layer
        return [gradient for pair in zip(d_a.split(self.ranks), d_b, strict=True) for gradient in pair]

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        """Yields the rows of each layer's outputs, and the columns of its ranks."""
        out, rank = 0, 0
        for outputs, ranks in zip(self.outs, self.ranks, strict=True):
            yield slice(out, out + outputs), slice(rank, rank + ranks)
            out, rank = out + outputs, rank + ranks


def round_into(target: torch.Tensor, master: torch.Tensor, scale: float) -> None:
    """Writes scale * master (n, m), which is fp32, into `target`, whose rows may be further apart."""
    if native.usable(target) and target.stride(1) == 1 and master.is_contiguous():
        native.call("cast", target.dtype, master, target, *target.shape, target.stride(0), scale)
    else:
        target.copy_(master * scale)


def append_low(x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """[x | x a] for x (N, in) and a (in, R): (N, in + R)."""
    if not native.fast_products(x, a):
        return torch.cat([x, x @ a], 1)
    x = x.contiguous()
    out = torch.empty(x.shape[0], sum(a.shape), dtype=x.dtype)
    native.call("append_low", x.dtype, x, a, out, *x.shape, a.shape[1], *a.stride())
    return out


def add_low(x: torch.Tensor, low: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """x + low b for x (N, out), low (N, R) and b (R, out)."""
    if not native.fast_products(x, low, b):
        return torch.addmm(x, low, b)
    out = torch.empty(x.shape, dtype=x.dtype)
    native.call("add_low", x.dtype, x, low, b, out, *x.shape, len(b), x.stride(0), low.stride(0), *b.stride())
    return out


class OuterArguments(ctypes.Structure):
    """`Outer` of cpp/lora.h, field by field."""

    _fields_ = (
        ("big", ctypes.c_void_p),
        ("small", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("rank", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("small_stride", ctypes.c_int64),
        ("transposed", ctypes.c_int64),
    )


class Outer(NamedTuple):
    """scale * small^T big in fp32, or its transpose: small (N, r), big (N, n) -> (r, n), or (n, r)."""

    small: torch.Tensor
    big: torch.Tensor
    scale: float = 1.0
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        r, n = self.small.shape[1], self.big.shape[1]
        return (n, r) if self.transposed else (r, n)

    def arguments(self, out: torch.Tensor) -> OuterArguments:
        """This product's argument for kernels.cpp, which writes to `out`; the caller keeps all three tensors alive."""
        pointers = (matrix.data_ptr() for matrix in (self.big, self.small, out))
        sizes = (self.big.shape[1], self.small.shape[1], self.big.stride(0), self.small.stride(0))
        return OuterArguments(*pointers, *sizes, self.transposed)

    def plain(self) -> torch.Tensor:
        product = self.big.t() @ self.small if self.transposed else self.small.t() @ self.big
        return product.float().mul_(self.scale)


def outers(products: Sequence[Outer]) -> list[torch.Tensor]:
    """Several such products over the same tokens, computed together."""
    if not native.fast_products(*(matrix for product in products for matrix in (product.small, product.big))):
        return [product.plain() for product in products]
    outs = [torch.empty(product.shape) for product in products]
    table = (OuterArguments * len(products))(
        *(product.arguments(out) for product, out in zip(products, outs, strict=True))
    )
    scales = torch.tensor([product.scale for product in products])
    tokens, dtype = len(products[0].big), products[0].big.dtype
    native.call("outers", dtype, table, scales, len(products), tokens)
    return outs


def group_of(owner: nn.Module, *names: str) -> LinearGroup | None:
    """The group of an owner's layers of these names (created at the first call), or None where they are not plain LoRA.

    Plain: one adapter that is enabled and not merged, no active dropout, no bias, a frozen and unquantised weight.
    """
    layers: list[LoraLayer] = [getattr(owner, name) for name in names] if names else [owner]
    if not all(_is_plain(layer) for layer in layers):
        return None
    groups: dict[tuple[str, ...], LinearGroup] = vars(owner).setdefault(GROUPS, {})
    group = groups.get(names)
    if group is None or not group.still_holds():
        group = groups[names] = LinearGroup(layers)
    return group


def ungroup(module: nn.Module) -> None:
    """Removes the groups that a module owns; as a member of one it gets a weight in memory of its own."""
    vars(module).pop(GROUPS, None)
    if vars(module).pop(MEMBER, False):  # a LoRA layer that was merged has left its linear layer behind
        weight: torch.Tensor = module.weight  # type: ignore[assignment]
        weight.data = weight.data.clone(memory_format=torch.contiguous_format)


def _is_plain(layer: nn.Module) -> bool:
    if not isinstance(layer, LoraLayer) or type(layer.get_base_layer()) is not nn.Linear:
        return False
    base = layer.get_base_layer()
    if only_adapter(layer) != ADAPTER or ADAPTER not in layer.lora_A:
        return False
    has_dropout = layer.training and not isinstance(layer.lora_dropout[ADAPTER], nn.Identity)
    return not has_dropout and base.bias is None and not base.weight.requires_grad


def only_adapter(layer: LoraLayer) -> str | None:
    """The adapter that a layer works with; None where that is none, merged already, or several at once."""
    names = [] if layer.disable_adapters or layer.merged else layer.active_adapters
    return names[0] if len(names) == 1 else None


class _GroupContext(Context):
    group: LinearGroup
    eps: float  # of the norm
    shape: torch.Size  # of its input


class GroupedLinear(torch.autograd.Function):
    """A LinearGroup as an autograd function of x (..., in) and the parameters: (..., outputs)."""

    @staticmethod
    def forward(ctx: _GroupContext, x: torch.Tensor, group: LinearGroup, *parameters: torch.Tensor) -> torch.Tensor:
        group.cast()
        out, flat, low = group.forward(x.reshape(-1, x.shape[-1]))  # (N, outputs)
        ctx.group = group
        ctx.save_for_backward(flat, low)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: _GroupContext, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, low = ctx.saved_tensors
        flat = d_out.reshape(-1, d_out.shape[-1])
        d_x, d_low = ctx.group.backward(flat)
        return d_x.view(*d_out.shape[:-1], -1), None, *ctx.group.gradients(flat, d_low, x, low)


class NormedLinear(torch.autograd.Function):
    """A LinearGroup after a frozen RMSNorm of weight and eps: backward recomputes the norm of x (..., in)."""

    @staticmethod
    def forward(
        ctx: _GroupContext,
        x: torch.Tensor,
        weight: torch.Tensor,
        eps: float,
        group: LinearGroup,
        *parameters: torch.Tensor,
    ) -> torch.Tensor:
        group.cast()
        flat, factor = x.reshape(-1, x.shape[-1]).contiguous(), 1 + weight.float()
        norm, scale = normed(flat, factor, eps)
        out, _, low = group.forward(rounded(norm, group.dtype))  # (N, outputs)
        ctx.group, ctx.eps, ctx.shape = group, eps, x.shape
        ctx.save_for_backward(flat, factor, scale, low.clone())
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: _GroupContext, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, factor, scale, low = ctx.saved_tensors
        flat = d_out.reshape(-1, d_out.shape[-1])
        d_norm, d_low = ctx.group.backward(flat)
        norm = rounded(normed(x, factor, ctx.eps)[0], ctx.group.dtype)
        grads = ctx.group.gradients(flat, d_low, norm, low)
        return normed_backward(d_norm, x, factor, scale).view(ctx.shape), None, None, None, *grads


def normed_linear(x: torch.Tensor, norm: nn.Module, group: LinearGroup) -> torch.Tensor:
    """Every output of the group's layers for norm(x), side by side: x (..., in) -> (..., outputs)."""
    weight: torch.Tensor = norm.weight  # type: ignore[assignment]
    if weight.requires_grad:
        return grouped_linear(norm(x), group)
    out: torch.Tensor = NormedLinear.apply(x, weight, norm.eps, group, *group.parameters)
    return out


def grouped_linear(x: torch.Tensor, group: LinearGroup) -> torch.Tensor:
    """Every output of the group's layers for x (..., in), side by side."""
    out: torch.Tensor = GroupedLinear.apply(x, group, *group.parameters)
    return out


class LoraForward:
    """y = W x + scale * B (A x), with A and B cast to the activations' type."""

    def forward(self: LoraLayer, x: torch.Tensor) -> torch.Tensor:
        group = group_of(self)
        if group is not None:
            return grouped_linear(x, group)
        name = only_adapter(self)
        if name not in self.lora_A:
            return super().forward(x)  # type: ignore[misc]
        result = self.base_layer(x)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight  # (r, in), (out, r)
        x = self.lora_dropout[name](x)
        low = nn.functional.linear(x, a.to(x.dtype)) * self.scaling[name]  # (..., r)
        out: torch.Tensor = result + nn.functional.linear(low, b.to(x.dtype)).to(result.dtype)
        return out


class TokenRowsForward:
    """An embedding or head in which some rows are replaced by trained ones."""

    def forward_adapters(
        self: TrainableTokensLayer, x: torch.Tensor, active_adapters: list[str], *args: object, **kwargs: object
    ) -> torch.Tensor:
        is_plain = not (self.disable_adapters or self.merged or args or kwargs) and len(active_adapters) == 1
        if not is_plain or active_adapters[0] not in self.token_indices:
            return super().forward_adapters(x, active_adapters, *args, **kwargs)  # type: ignore[misc]
        ids, values = token_rows(self, active_adapters[0])
        out = self.base_layer(x)
        if isinstance(self.base_layer, nn.Linear):
            out = out.clone()
            out[..., ids] = nn.functional.linear(x, values.to(x.dtype)).to(out.dtype)
            return out
        scale = self._get_embed_scale()
        rows = values.to(out.dtype) if scale is None else values.to(out.dtype) * scale.to(out.dtype)
        match = x[..., None] == ids  # (B, T, k)
        replacement = rows[match.int().argmax(-1)]  # (B, T, H)
        return torch.where(match.any(-1, keepdim=True), replacement, out)


def token_rows(layer: TrainableTokensLayer, name: str = ADAPTER) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids (k,) and trained values (k, H) of an adapter in a TrainableTokensLayer."""
    values = layer.trainable_tokens_delta[name]
    return torch.tensor(layer.token_indices[name], device=values.device), values
