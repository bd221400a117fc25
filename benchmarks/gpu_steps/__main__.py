"""Takes one step: `python -m benchmarks.gpu_steps NAME RESULTS [--dry]`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from benchmarks.gpu_steps import checks, runs, speed
from benchmarks.gpu_steps.bench import Bench

STEPS = {
    "machine": checks.machine,
    "tests": checks.tests,
    "parity": checks.parity,
    "training": runs.training,
    "nf4": runs.nf4,
    "vision": runs.vision,
    "generation": runs.generation,
    "speed": speed.speed,
    "t4": runs.t4,
    "waits": checks.waits,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("results", type=Path)
    parser.add_argument("--dry", action="store_true")
    args = parser.parse_args()
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(args.step, args.results, args.dry, Path(work))
        STEPS[args.step](bench)
    if bench.failures:
        raise SystemExit("; ".join(bench.failures))


if __name__ == "__main__":
    main()
