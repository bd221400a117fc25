"""Where does a step's time go? By kind of work for each workload, and how near a step is to its bare products.

The arm gemtune of compare/, with the kernels of kernels/cpp named too; the first steps are left out, in which oneDNN
compiles its kernels. A profiler costs some time itself, so the shares mean more than the milliseconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.compare.arms import gemtune as arm
from benchmarks.compare.limit import shares
from benchmarks.compare.results import table
from benchmarks.compare.workloads import WORKLOADS, build
from benchmarks.machine import CORES, WORK, write_page
from gemtune.files import read_json
from gemtune.kernels import native

SKIPPED = 2  # steps at the start
RUNS = 4  # of steps and their products in turn
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
BLOCKS, HEAD = "matrix products of the blocks", "the head: its products, softmax and gradients"
OTHER = "other PyTorch operations"
# What a kernel of kernels/cpp is counted as, by the start of its name.
KERNELS = {
    "attention": "attention",
    "head_loss": HEAD,
    "cross_entropy": HEAD,
    "norm": "norms and rotary positions",
    "gelu": "gated feed-forward, elementwise",
    "silu": "gated feed-forward, elementwise",
    "append_low": "LoRA's own products and gradients",
    "add_low": "LoRA's own products and gradients",
    "outers": "LoRA's own products and gradients",
    "cast": "LoRA's own products and gradients",
}
OUTSIDE = "Python and the cost of calls"
BODY = """\
{threads} threads. {steps}; milliseconds per step, the profiler on.

{table}

Without the profiler, each step and then its bare products, in turn in one process, so that a machine that slows down
slows both; medians of all steps but the first of {runs} runs, with the quartiles:

{limit}

The bare products are the frozen ones that a LoRA step cannot do without, and nothing between them.
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(CORES)
    profiles = {name: split(name) for name in WORKLOADS}
    body = BODY.format(
        threads=CORES,
        steps=", ".join(f"{name}: {steps} steps" for name, (_, steps) in profiles.items()),
        table=_by_kind({name: ms for name, (ms, _) in profiles.items()}),
        runs=RUNS,
        limit=table("| step, ms | its products, ms | share", [[name, *in_turn(name)] for name in WORKLOADS]),
    )
    write_page(__file__, "Where a step's time goes", body)


def _by_kind(profiles: dict[str, dict[str, float]]) -> str:
    kinds = dict.fromkeys([BLOCKS, HEAD, *KERNELS.values(), OTHER, OUTSIDE])
    rows = [[kind, *(f"{ms[kind]:.0f} ({ms[kind] / ms['step']:.0%})" for ms in profiles.values())] for kind in kinds]
    total = ["**step**", *(f"{ms['step']:.0f}" for ms in profiles.values())]
    return table("| " + " | ".join(profiles), [*rows, total])


def split(name: str) -> tuple[dict[str, float], int]:
    """Milliseconds per step by kind of work, and the number of steps that were watched."""
    workload = WORK / "whole" / name
    build(name, workload)
    watch = Watch()
    clock, call = arm.clock, native.call
    arm.clock = watch.step
    native.call = lambda kernel, *args: named(call, kernel, *args)
    _train(workload)
    arm.clock, native.call = clock, call
    steps = len(watch.ended) - SKIPPED
    spent = {kind: ms / steps for kind, ms in by_kind(watch.profiler).items()}
    spent["step"] = 1e3 * (watch.ended[-1] - watch.ended[SKIPPED - 1]) / steps
    spent[OUTSIDE] = spent["step"] - sum(ms for kind, ms in spent.items() if kind != "step")
    return defaultdict(float, spent), steps


def named(call: Any, kernel: str, *args: Any) -> Any:
    with record_function(f"kernel::{kernel}"):
        return call(kernel, *args)


class Watch:
    """Starts the profiler after the steps that are left out, and notes when each step ended."""

    def __init__(self) -> None:
        self.profiler = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
        self.ended: list[float] = []

    def step(self, run: Any, line: dict[str, Any]) -> None:
        run.step()
        self.ended.append(time.perf_counter())
        if len(self.ended) == SKIPPED:
            self.profiler.start()
            self.ended[-1] = time.perf_counter()
        if len(self.ended) == run.steps:
            self.profiler.stop()


def by_kind(profiler: Any) -> dict[str, float]:
    """Milliseconds by kind of work; an operation counts without those it calls."""
    kinds: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages(group_by_input_shape=True):
        ms, key = event.self_cpu_time_total / 1e3, event.key
        if key.startswith("kernel::"):
            kernel = key.removeprefix("kernel::")
            kinds[next(kind for start, kind in KERNELS.items() if kernel.startswith(start))] += ms
        elif key in PRODUCTS:
            sizes = [size for shape in event.input_shapes for size in shape]
            kinds[HEAD if max(sizes, default=0) > 16_384 else BLOCKS] += ms
        elif key.startswith(("aten::", "torch::")):
            kinds[OTHER] += ms
    return kinds


def in_turn(name: str) -> list[str]:
    """Milliseconds of a step and of its bare products, and the share with its quartiles."""
    runs = [_train(WORK / "whole" / name, "products in turn") for _ in range(RUNS)]
    step, products = (
        1e3 * median(seconds for run in runs for seconds in run[key][1:]) for key in ("step_seconds", "products")
    )
    low, middle, high = quantiles([share for run in runs for share in shares(run)], n=4)
    return [f"{step:.0f}", f"{products:.0f}", f"{middle:.0%} [{low:.0%}, {high:.0%}]"]


def _train(workload: Path, *variant: str) -> dict[str, Any]:
    """Runs gemtune's arm here, and what it wrote of its times."""
    with tempfile.TemporaryDirectory() as output:
        sys.argv = ["arms.gemtune", str(workload), output, *variant]
        arm.main()
        return read_json(Path(output) / "times.json")


if __name__ == "__main__":
    main()
