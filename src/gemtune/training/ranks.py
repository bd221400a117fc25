"""The ranks of a training: the processes that take its steps together, each on its own share of the rows.

The model is never wrapped. Every rank sums gradients over the rows of its share; one sum over all ranks makes of them
the gradients of the whole effective batch. What reads or writes the run is done `once`, by the first rank. In a
training of one process nothing here talks to anybody.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import distributed

from gemtune.errors import RunError

if TYPE_CHECKING:
    from torch.distributed import Store
    from torch.nn import Parameter

    from gemtune.rendering.token_table import Column

Result = TypeVar("Result")

PIECE = 32 * 2**20  # bytes that are summed at a time: without pieces full training would hold its gradients twice
TIMEOUT = 7200.0  # seconds that ranks wait for one that has stopped: vision towers and scores can take an hour


def count() -> int:
    """How many ranks train together; 1 in a process of its own."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def backend_of(device: str) -> str:
    """How the ranks on a device talk; counts and objects stay on the CPU."""
    return "cuda:nccl,cpu:gloo" if device == "cuda" else "gloo"


@contextlib.contextmanager
def together(store: Store, rank: int, count: int, device: str, seconds: float = TIMEOUT) -> Iterator[None]:
    """Makes this process one of `count` ranks that meet in `store`, which nobody has met in before."""
    distributed.init_process_group(
        backend_of(device), store=store, rank=rank, world_size=count, timeout=timedelta(seconds=seconds)
    )
    yield
    distributed.destroy_process_group()  # after an error the process ends: others may be in the middle of a sum


def share(rows: Sequence[int], lengths: np.ndarray | Column, rank: int, count: int) -> list[int]:
    """The rows of an effective batch that one of `count` ranks takes, of rows as long as `lengths` says.

    The longest row goes first, each to the rank with the fewest tokens so far: every rank knows all shares.

    >>> [share([0, 1, 2, 3, 4], np.array([9, 1, 5, 5, 4]), rank, 2) for rank in (0, 1)]
    [[0, 4], [2, 3, 1]]
    """
    if count == 1:
        return list(rows)
    shares: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for length, row in sorted(zip(lengths[list(rows)].tolist(), rows, strict=True), key=lambda x: (-x[0], x[1])):
        least = tokens.index(min(tokens))
        shares[least].append(row)
        tokens[least] += length
    return shares[rank]


def seed_of(*numbers: int) -> int:
    """A seed of 64 bits from several numbers.

    >>> seed_of(0, 7), seed_of(0, 8)
    (9250883288030345305, 142600824288423924)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def once(work: Callable[[], Result]) -> Result:
    """What `work` returns to the first rank, which alone does it; every rank has the result, or the error.

    Files lag behind on a network: what they say is read by one rank, so that all of them go the same way.
    """
    if count() == 1:
        return work()
    answer: list[Any] = [None, None]
    failure: Exception | None = None
    if rank() == 0:
        try:
            answer[0] = work()
        except Exception as error:  # it is raised again below, after the others know
            failure, answer[1] = error, str(error) or type(error).__name__
    distributed.broadcast_object_list(answer, src=0)
    if failure is not None:
        raise failure
    if answer[1] is not None:
        raise RunError(f"the first worker stopped: {answer[1]}")
    result: Result = answer[0]
    return result


def sums(*values: float) -> tuple[float, ...]:
    """Each value added up over all ranks, in double precision."""
    if count() == 1:
        return values
    totals = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(totals)
    return tuple(totals.tolist())


def united(entries: dict[int, Result]) -> dict[int, Result]:
    """The entries of all ranks; no two ranks have the same key."""
    if count() == 1:
        return entries
    parts: list[dict[int, Result]] = [{}] * count()
    distributed.all_gather_object(parts, entries)
    return {key: value for part in parts for key, value in part.items()}


class Exchange:
    """The sum over ranks that a step makes, and what it takes."""

    def __init__(self, device: str):
        self._on_gpu = device == "cuda"
        self._spans: list[tuple[Any, Any]] = []  # (begin, end) since the last reading: CUDA events, or seconds
        self.bytes = 0  # that a step sums

    def sum(self, parameters: Sequence[Parameter], *numbers: torch.Tensor) -> list[torch.Tensor]:
        """Adds up over all ranks the gradients, in place, and `numbers`, which are returned.

        A rank that has no gradient of a weight adds zeros; one that no rank has stays None, so that the optimizer
        leaves that weight alone, as it does on one rank.
        """
        if count() == 1:
            return list(numbers)
        missing = [index for index, parameter in enumerate(parameters) if parameter.grad is None]
        has = torch.ones(len(parameters), device=numbers[0].device)
        has[missing] = 0.0
        for index in missing:
            parameters[index].grad = torch.zeros_like(parameters[index])
        flat = torch.cat([has, torch.stack([number.float() for number in numbers])])
        self._all_reduce([flat, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
        for index in missing:
            if not flat[index]:
                parameters[index].grad = None
        return list(flat[len(parameters) :])

    def _all_reduce(self, tensors: Sequence[torch.Tensor]) -> None:
        begin = self._now()
        self.bytes = 0
        for piece in _pieces(tensors):
            is_one = len(piece) == 1 and piece[0].dtype == torch.float32 and piece[0].is_contiguous()
            flat = piece[0].view(-1) if is_one else torch.cat([tensor.reshape(-1).float() for tensor in piece])
            distributed.all_reduce(flat)
            self.bytes += flat.nbytes
            if not is_one:
                for tensor, part in zip(piece, flat.split([tensor.numel() for tensor in piece]), strict=True):
                    tensor.copy_(part.view_as(tensor))
        self._spans.append((begin, self._now()))

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float:
        """What the sums since the last reading took, waiting for the slowest rank included."""
        spans, self._spans = self._spans, []
        if self._on_gpu:
            torch.cuda.synchronize()
            return sum(begin.elapsed_time(end) for begin, end in spans) / 1000
        return float(sum(end - begin for begin, end in spans))


def _pieces(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yields tensors in groups of at most PIECE bytes in fp32; a larger one is a group of its own."""
    group: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        if group and size + 4 * tensor.numel() > PIECE:
            yield group
            group, size = [], 0
        group.append(tensor)
        size += 4 * tensor.numel()
    if group:
        yield group
