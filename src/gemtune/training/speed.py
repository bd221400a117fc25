"""How fast this machine multiplies matrices now, and how much of it other work takes meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch

from gemtune.kernels.native import instruction_set
from gemtune.models.loading import DTYPES

# Of the speed of one large matrix product, what a block of a model reaches in training: the faster the products, the
# more of a step is other work. By instruction set and type, as `make bench` measured beside `gemtune plan`.
OF_PRODUCTS = {
    ("narrow", torch.float32): 0.71,
    ("avx512_bf16", torch.float32): 0.58,
    ("avx512_bf16", torch.bfloat16): 0.65,
    ("amx", torch.bfloat16): 0.33,
}
ELSEWHERE = 0.33  # a GPU, and what was not measured
LEAST_TAKEN = 0.15  # of the cores: below, it may be the waiting of our own threads for each other
TIMES, WEIGHTS, TOKENS, SIZE, OUT = 9, 32, 512, 640, 2048


@dataclass(frozen=True)
class Speed:
    """What training reaches now, in TFLOP/s, and the share of this process's cores that other work took meanwhile."""

    tflops: float
    taken: float = 0.0

    @property
    def caution(self) -> str:
        """What to keep in mind with a time that follows from this speed; nothing on a quiet machine.

        >>> Speed(0.1, taken=0.5).caution
        'other work took 50 % of the cores while this was measured: with all of them it is at least 2.0 times as fast'
        """
        if self.taken < LEAST_TAKEN:
            return ""
        return (
            f"other work took {100 * self.taken:.0f} % of the cores while this was measured: with all of them it is at "
            f"least {1 / (1 - self.taken):.1f} times as fast"
        )


def sustained_speed(precision: str, device: str) -> Speed:
    """A share of the speed of matrix products, timed for a moment.

    As in a step, each weight is another one, which no cache holds, and is met there and back.
    """
    dtype = DTYPES[precision]
    x = torch.randn(TOKENS, SIZE, dtype=dtype, device=device)
    weights = [torch.randn(OUT, SIZE, dtype=dtype, device=device) for _ in range(WEIGHTS)]
    there, back = x.new_empty(TOKENS, OUT), torch.empty_like(x)
    seconds, processor_seconds = [], []
    for _ in range(TIMES):
        began, used = time.perf_counter(), time.process_time()
        for weight in weights:
            torch.mm(torch.mm(x, weight.t(), out=there), weight, out=back)
        back.sum().item()
        seconds.append(time.perf_counter() - began)
        processor_seconds.append(time.process_time() - used)
    reached = OF_PRODUCTS.get((instruction_set() or "narrow", dtype), ELSEWHERE) if device == "cpu" else ELSEWHERE
    tflops = reached * WEIGHTS * 4 * TOKENS * SIZE * OUT / median(seconds) / 1e12
    if device != "cpu":
        return Speed(tflops)
    had = sum(processor_seconds) / sum(seconds) / torch.get_num_threads()
    return Speed(tflops, max(0.0, 1 - had))
