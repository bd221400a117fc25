"""How much of its speed does training keep beside other work? With the ways in which idle threads can wait.

The arm gemtune of compare/ on the emoji rows, alone and beside one process that never rests, in turn. libgomp's threads
spin for some milliseconds before they sleep; on a machine with fewer free cores than threads they take the time of the
thread that they wait for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

from benchmarks.compare.bench import make_ready
from benchmarks.compare.results import table
from benchmarks.machine import CORES, HELD_TO, ROOT, WORK, hold_to, write_page
from gemtune.cli.processor import SPINS
from gemtune.files import read_json

# What a process inherits, by the name of the way.
WAYS: dict[str, dict[str, str]] = {
    "libgomp's default": {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": ""},
    "spins 10,000 times": {"GOMP_SPINCOUNT": "10000"},
    "spins 3,000 times, as gemtune": {"GOMP_SPINCOUNT": SPINS},
    "spins 1,000 times": {"GOMP_SPINCOUNT": "1000"},
    "sleeps at once": {"OMP_WAIT_POLICY": "passive"},
    "one thread fewer": {"OMP_NUM_THREADS": str(max(1, CORES - 1))},
}
BODY = """\
{threads} threads, {steps} steps of 16 emoji rows, the first not counted; medians of {repeats} runs in turn, tokens/s.
Beside one busy process the system gives training {fair:.0%} of this machine's cores, if all share alike.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="of every way, alone and beside a busy process (3)")
    parser.add_argument("--steps", type=int, default=8, help="of a run; the first is not counted (8)")
    parser.add_argument("--held-to", choices=tuple(HELD_TO), default="", help="a smaller instruction set")
    args = parser.parse_args()
    if args.held_to:
        hold_to(args.held_to)
    workload = WORK / f"busy-{args.held_to}" / "emoji"
    make_ready("emoji", workload.resolve(), args.steps)
    speeds: dict[tuple[str, bool], list[float]] = {(way, busy): [] for way in WAYS for busy in (False, True)}
    for _ in range(args.repeats):
        for (way, busy), values in speeds.items():
            with other_work() if busy else contextlib.nullcontext():
                values.append(tokens_per_s(workload, WAYS[way]))
            print(f"{way}{', beside a busy process' * busy}: {values[-1]:.0f} tokens/s", flush=True)
    alone = {way: median(speeds[way, False]) for way in WAYS}
    beside = {way: median(speeds[way, True]) for way in WAYS}
    first = next(iter(WAYS))
    rows = [
        [
            way,
            f"{alone[way]:.0f}",
            f"{alone[way] / alone[first] - 1:+.1%}",
            f"{beside[way]:.0f}",
            f"{beside[way] / alone[first]:.0%}",
        ]
        for way in WAYS
    ]
    body = BODY.format(
        threads=CORES,
        steps=args.steps,
        repeats=args.repeats,
        fair=CORES / (CORES + 1),
        table=table("an idle thread | alone | against the default | beside a busy process | of the quiet speed", rows),
    )
    write_page(__file__, "Beside other work", body, args.held_to)


def tokens_per_s(workload: object, environment: dict[str, str]) -> float:
    """The speed of a run after its first step."""
    output = WORK / "busy-output"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    command = [sys.executable, "-m", "benchmarks.compare.arms.gemtune", str(workload), str(output), "as it waits"]
    inherited = {name: value for name, value in (os.environ | environment).items() if value}
    subprocess.run(command, cwd=ROOT, env=inherited, check=True, capture_output=True)  # noqa: S603 (written here)
    steps = read_json(output / "times.json")["steps"]
    return float(sum(read_json(WORK.joinpath(str(workload), "meta.json"))["tokens"][1:]) / (steps[-1] - steps[0]))


@contextlib.contextmanager
def other_work() -> Iterator[None]:
    """One process that never rests."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
