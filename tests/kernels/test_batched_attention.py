"""Documents of like lengths in batched products: each sees itself alone, as plain attention over it would."""

from __future__ import annotations

import pytest
import torch

from gemtune.kernels.batched_attention import BatchedAttention, visible

HEADS, SHARED, SIZE = 4, 2, 8  # heads, of which so many share a key and a value
SCALE = SIZE**-0.5


def inputs(lengths: tuple[int, ...]) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(sum(lengths))
    heads = (HEADS, HEADS // SHARED, HEADS // SHARED)
    return [torch.randn(sum(lengths), count, SIZE, generator=draw, requires_grad=True) for count in heads]


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None) -> torch.Tensor:
    """One document: a word sees those before it, at most `window` of them with itself."""
    key, value = (rows.repeat_interleave(SHARED, 1) for rows in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * SCALE
    places = torch.arange(len(query))
    ago = places[:, None] - places[None, :]
    seen = (ago >= 0) & (ago < (window or len(query)))
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), value)


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("lengths", [(1,), (5, 5), (7, 4, 6, 1)])
def test_each_document_sees_itself_as_plain_attention_does(lengths: tuple[int, ...], window: int | None) -> None:
    ours, reference = inputs(lengths), inputs(lengths)
    out = BatchedAttention.apply(*ours, lengths, SCALE, window)
    documents = zip(*(rows.split(lengths) for rows in reference), strict=True)
    whole = torch.cat([plain(*document, window) for document in documents])
    torch.testing.assert_close(out, whole)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    for result in (out, whole):
        (result * weights).sum().backward()
    for mine, theirs in zip(ours, reference, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 4])
def test_what_a_word_sees(window: int | None) -> None:
    places = torch.arange(9)
    seen = visible(places, places, window)
    for query in range(9):
        for key in range(9):
            assert bool(seen[query, key]) == (key <= query and (window is None or query - key < window))
