"""Examples -> batches: the order of an epoch, the cut into micro-batches and the only padding there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gemtune.render import Example
from gemtune.table import ExampleTable

Order = list[np.ndarray]  # one array of row numbers an effective batch


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass needs. Padding is on the right, where causal attention never looks: no mask is needed."""

    input_ids: torch.Tensor  # (B, T) int64
    positions: torch.Tensor  # (N,) int64: where, in the flattened (B*T) hidden states, a labelled token is predicted
    targets: torch.Tensor  # (N,) int64: the labelled tokens

    def to(self, device: torch.device | str) -> MicroBatch:
        return MicroBatch(self.input_ids.to(device), self.positions.to(device), self.targets.to(device))


def micro_batch(examples: Sequence[Example], pad_id: int) -> MicroBatch:
    """Pads examples to the longest and finds their labelled positions on the CPU, where that costs nothing.

    >>> micro_batch([Example([2, 7, 8], ((1, 3),)), Example([2, 9], ((1, 2),))], pad_id=0)
    MicroBatch(input_ids=tensor([[2, 7, 8],
            [2, 9, 0]]), positions=tensor([0, 1, 3]), targets=tensor([7, 8, 9]))
    """
    width = max(len(example.input_ids) for example in examples)
    ids = np.full((len(examples), width), pad_id, dtype=np.int64)
    positions: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for row, example in enumerate(examples):
        ids[row, : len(example.input_ids)] = example.input_ids
        for start, end in example.spans:
            positions.append(np.arange(start - 1, end - 1) + row * width)
            targets.append(ids[row, start:end])
    return MicroBatch(
        torch.from_numpy(ids),
        torch.from_numpy(np.concatenate(positions) if positions else np.zeros(0, np.int64)),
        torch.from_numpy(np.concatenate(targets) if targets else np.zeros(0, np.int64)),
    )


def cut(rows: Sequence[int], lengths: np.ndarray, micro_tokens: int) -> Iterator[list[int]]:
    """Cuts an effective batch into micro-batches of rows of like length that fit `micro_tokens`, padding included.

    >>> list(cut([0, 1, 2, 3], np.array([10, 3, 9, 4]), 20))
    [[0, 2], [3, 1]]
    """
    micro: list[int] = []
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        if micro and lengths[micro[0]] * (len(micro) + 1) > micro_tokens:
            yield micro
            micro = []
        micro.append(row)
    if micro:
        yield micro


def order(weights: np.ndarray, *, batch_size: int, epochs: float, seed: int) -> Order:
    """The rows of every effective batch of a whole training, by seed alone.

    A row of weight w is visited floor((e+1) w + u) - floor(e w + u) times in epoch e: w times an epoch in the long run.
    The last batch of an epoch may be smaller; a fraction of an epoch is its first batches.
    """
    phase = np.random.default_rng((seed, 0)).random(len(weights))
    batches: Order = []
    for epoch in range(math.ceil(epochs)):
        visits = np.floor((epoch + 1) * weights + phase) - np.floor(epoch * weights + phase)
        if np.all(weights == 1):
            visits = np.ones(len(weights))
        rows = np.repeat(np.arange(len(weights)), visits.astype(np.int64))
        np.random.default_rng((seed, epoch + 1)).shuffle(rows)
        epoch_batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        share = min(1.0, epochs - epoch)
        batches += epoch_batches[: math.ceil(share * len(epoch_batches))]
    return batches


class EffectiveBatches(torch.utils.data.Dataset):
    """Item i is what step i trains on: an effective batch, already cut into micro-batches."""

    def __init__(self, table: ExampleTable, batches: Order, *, micro_tokens: int, pad_id: int):
        self.table, self.batches, self.micro_tokens, self.pad_id = table, batches, micro_tokens, pad_id

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> list[MicroBatch]:
        micros = cut(self.batches[step].tolist(), self.table.lengths, self.micro_tokens)
        return [micro_batch([self.table[row] for row in rows], self.pad_id) for rows in micros]


def fixed_batches(table: ExampleTable, rows: Sequence[int], *, micro_tokens: int, pad_id: int) -> Iterator[MicroBatch]:
    """Batches of given rows for an evaluation loss."""
    for micro in cut(rows, table.lengths, micro_tokens):
        yield micro_batch([table[row] for row in micro], pad_id)


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts side by side for generation: ids (B, T) padded on the left, and the mask (B, T) of what is real.

    >>> left_padded([[2, 5], [2, 5, 6]], pad_id=0)
    (tensor([[0, 2, 5],
            [2, 5, 6]]), tensor([[0, 1, 1],
            [1, 1, 1]]))
    """
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask
