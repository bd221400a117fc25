"""What ranks share out and add up; how they train together is in tests/pipeline/test_launching.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gemtune.training import ranks


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_every_row_is_walked_by_one_rank_and_loads_are_even(count: int) -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 64)
    rows = np.random.default_rng(1).permutation(64)[:32].tolist()
    shares = [ranks.share(rows, lengths, rank, count) for rank in range(count)]
    assert sorted(row for share in shares for row in share) == sorted(rows)
    loads = [int(lengths[share].sum()) for share in shares]
    assert max(loads) - min(loads) <= max(lengths[rows])


def test_alone_nothing_is_sent_and_nothing_is_changed() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    exchange = ranks.Exchange("cpu")
    loss, right = exchange.sum([weight], torch.tensor(2.5), torch.tensor(3))
    assert (loss.item(), right.item(), right.dtype) == (2.5, 3, torch.int64)
    assert weight.grad is None
    assert (exchange.bytes, exchange.seconds()) == (0, 0)
    assert ranks.once(lambda: "done") == "done"
    assert ranks.sums(1.5, 2.0) == (1.5, 2.0)
    assert ranks.united({3: "a"}) == {3: "a"}
