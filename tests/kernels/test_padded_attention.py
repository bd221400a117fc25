"""Documents padded to each other on a GPU, here on the CPU: values and gradients of one plain attention a document."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemtune.kernels.padded_attention import padded_attention
from kernels.plain_attention import plain_attention, some_images


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40) | st.integers(90, 130), min_size=1, max_size=8),
    window=st.none() | st.sampled_from([1, 16, 64, 500]),
    heads=st.sampled_from([(4, 1), (4, 2), (2, 2)]),
    draw=st.just(0) | st.integers(1, 99),
)
def test_documents_padded_to_each_other_see_themselves_only(
    lengths: list[int], window: int | None, heads: tuple[int, int], draw: int
) -> None:
    torch.manual_seed(sum(lengths))
    images = some_images(lengths, draw)
    shapes = [(sum(lengths), number, 16) for number in (heads[0], heads[1], heads[1])]
    ours = [torch.randn(shape, requires_grad=True) for shape in shapes]
    plain = [t.detach().clone().requires_grad_() for t in ours]
    out = padded_attention(*ours, lengths, 0.25, window, images)
    reference = plain_attention(*plain, lengths, window, images)
    torch.testing.assert_close(out, reference, rtol=1e-4, atol=1e-5)
    slope = torch.randn_like(out)
    out.backward(slope)
    reference.backward(slope)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
