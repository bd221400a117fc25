"""Examples -> batches: the packing into micro-batches, and the only padding there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gemtune.rendering.renderer import IGNORE, Example
from gemtune.rendering.token_table import Column, ExampleTable
from gemtune.training import ranks
from gemtune.training.order import Order

ALIGNED = 16  # tokens, and labelled ones, are rounded up to it: shapes repeat, so oneDNN compiles no kernel each step

FixedRows = tuple[ExampleTable, list[int]]  # the row numbers of an evaluation loss, which are the same every time


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass needs: examples one after another in a single row, and at its end a few pads of their own.

    The pads are a document that no example sees and that has no label.
    """

    input_ids: torch.Tensor  # (1, T) int64
    position_ids: torch.Tensor  # (1, T) int64: each example counts from 0
    lengths: tuple[int, ...]  # of the examples and the pads; attention stays inside each
    positions: torch.Tensor  # (P,) int64: the places that predict a labelled token, then repeats of the last one
    targets: torch.Tensor  # (P,) int64: the labelled tokens, then IGNORE
    labelled: int  # how many they are
    images: tuple[tuple[str, ...], ...] = ()  # for each example: paths in the data directory; none where none has any
    image_spans: tuple[tuple[tuple[int, int], ...], ...] = ()  # for each document: (start, end) of their runs of tokens

    def to(self, device: torch.device | str) -> MicroBatch:
        return MicroBatch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.lengths,
            self.positions.to(device),
            self.targets.to(device),
            self.labelled,
            self.images,
            self.image_spans,
        )


def micro_batch(examples: Sequence[Example], aligned: int = ALIGNED) -> MicroBatch:
    """Packs examples and finds their labelled positions on the CPU, where that costs nothing; pads are token 0.

    >>> micro_batch([Example([2, 7, 8], ((1, 3),)), Example([2, 9], ((1, 2),))], aligned=3).lengths
    (3, 2, 1)
    >>> micro_batch([Example([2, 7, 8], ((1, 3),)), Example([2, 9], ((1, 2),))], aligned=4).targets
    tensor([   7,    8,    9, -100])
    """
    lengths = tuple(len(example.input_ids) for example in examples)
    pads = -sum(lengths) % aligned
    ids = np.concatenate([*(np.asarray(e.input_ids, np.int64) for e in examples), np.zeros(pads, np.int64)])
    starts = np.cumsum((0, *lengths[:-1]))
    spans = [span + start for example, start in zip(examples, starts, strict=True) for span in np.array(example.spans)]
    labelled = np.concatenate([np.arange(first, end) for first, end in spans] or [np.zeros(0, np.int64)])
    lengths = (*lengths, pads) if pads else lengths
    images = tuple(example.images for example in examples) if any(example.images for example in examples) else ()
    idle = -len(labelled) % aligned
    return MicroBatch(
        torch.from_numpy(ids)[None],
        torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))[None],
        lengths,
        torch.from_numpy(np.append(labelled - 1, np.full(idle, len(ids) - 1))),
        torch.from_numpy(np.append(ids[labelled], np.full(idle, IGNORE))),
        len(labelled),
        images,
        (*(example.image_spans for example in examples), *(((),) if pads else ())) if images else (),
    )


def cut(rows: Sequence[int], lengths: np.ndarray | Column, micro_tokens: int) -> list[list[int]]:
    """Packs the rows of an effective batch into as few micro-batches of `micro_tokens` as best fit finds.

    The longest row goes first, each into the fullest micro-batch that still has room for it.

    >>> cut([0, 1, 2, 3], np.array([10, 3, 9, 7]), 20)
    [[0, 2], [3, 1]]
    """
    micros: list[list[int]] = []
    room: list[int] = []
    for length, row in sorted(zip(lengths[list(rows)].tolist(), rows, strict=True), key=lambda x: (-x[0], x[1])):
        fitting = [index for index, left in enumerate(room) if left >= length]
        if fitting:
            best = min(fitting, key=lambda index: room[index])
            micros[best].append(row)
            room[best] -= length
        else:
            micros.append([row])
            room.append(micro_tokens - length)
    return micros


class EffectiveBatches(torch.utils.data.Dataset):
    """Item i is what step i trains on: this rank's share of an effective batch, already cut into micro-batches."""

    def __init__(self, table: ExampleTable, batches: Order, *, micro_tokens: int):
        self.table, self.batches, self.micro_tokens = table, batches, micro_tokens

    def __len__(self) -> int:
        return len(self.batches)

    def rows(self, step: int) -> list[int]:
        """The rows that this rank walks in a step."""
        return ranks.share(self.batches[step].tolist(), self.table.lengths, ranks.rank(), ranks.count())

    def labelled(self, step: int) -> int:
        """The labelled tokens of the whole effective batch: what loss and gradients are divided by on every rank."""
        return int(self.table.labelled[self.batches[step]].sum())

    def __getitem__(self, step: int) -> list[MicroBatch]:
        micros = cut(self.rows(step), self.table.lengths, self.micro_tokens)
        return [micro_batch([self.table[row] for row in rows]) for rows in micros]


def fixed_batches(table: ExampleTable, rows: Sequence[int], *, micro_tokens: int) -> Iterator[MicroBatch]:
    """Batches of given rows for an evaluation loss."""
    for micro in cut(rows, table.lengths, micro_tokens):
        yield micro_batch([table[row] for row in micro])


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
