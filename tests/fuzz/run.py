"""`make fuzz MINUTES=10`: tries every target for its share of the time, with seeds by chance, and prints a table.

Each target runs in a child process: one that dies or hangs in foreign code is a fault of the input it was at.
A fault is printed with its smallest input and the line that tries it again.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from random import SystemRandom

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch

from fuzz import seeds
from fuzz.harness import LONGEST, SHRINKING, Fault, Tally, Target, fuzz
from fuzz.targets import TARGETS

BATCH = 100  # inputs of one seed
HANGS = 60.0  # seconds beyond all limits after which a child hangs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"some of {', '.join(TARGETS)}")
    parser.add_argument("--seed", type=int, help="the seed of a fault: tries its inputs again, and no others")
    options = parser.parse_args()
    names = options.targets.split(",")
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    return 1 if _all(names, options.minutes * 60 / len(names), options.seed) else 0


def _all(names: list[str], seconds: float, number: int | None) -> int:
    """Tries the targets, prints what fell and the table, and returns the number of faults."""
    torch.set_num_threads(1)  # its threads would not be there in a child
    seeds.run_folder()  # made before there are children, for all of them
    tallies = {}
    for name in names:
        tallies[name] = _target(name, seconds, number)
        for fault in tallies[name].faults.values():
            print(f"\n{name}: {_told(name, fault)}", flush=True)
        print(_line(name, tallies[name]), file=sys.stderr, flush=True)
    heading = f"{'target':<14} {'inputs':>8} {'crashes':>8} {'slowest s':>10} {'memory MB':>10}"
    print("\n" + "\n".join([heading, *(_line(name, tally) for name, tally in tallies.items())]))
    total = sum(len(tally.faults) for tally in tallies.values())
    print(f"{sum(tally.tried for tally in tallies.values()):,} inputs, {total} crashes")
    return total


def _line(name: str, tally: Tally) -> str:
    figures = f"{tally.tried:>8,} {len(tally.faults):>8} {tally.slowest:>10.2f} {tally.megabytes:>10.0f}"
    return f"{name:<14} {figures}"


def _told(name: str, fault: Fault) -> str:
    value = (
        fault.value if len(fault.value) <= LONGEST else f"{fault.value[:LONGEST]}... ({len(fault.value)} characters)"
    )
    return f"{fault.kind}\ninput: {value}\n{fault.detail.rstrip()}\nagain: make fuzz TARGETS={name} SEED={fault.seed}"


def _target(name: str, seconds: float, number: int | None) -> Tally:
    """What came of a target, by as many child processes as it takes."""
    tally, until = Tally(), time.monotonic() + seconds
    while True:
        with tempfile.TemporaryDirectory(prefix="gemtune-fuzz-") as folder:
            seed = _child(name, Path(folder), until if number is None else None, number, tally)
            if seed is None:
                return tally
            value, said = ((Path(folder) / name).read_text("utf-8", "replace") for name in ("input", "said"))
            # One that says the same is the same.
            kind = f"the process ended or hung: {(said.strip().splitlines() or ['without a word'])[-1][:100]}"
            tally.faults.setdefault(kind, Fault(kind, value, said[-LONGEST:], seed))
        if number is not None or time.monotonic() > until:
            return tally


def _child(name: str, folder: Path, until: float | None, number: int | None, tally: Tally) -> int | None:
    """Runs one child process; the seed that it was at when it died, or None."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_work, args=(TARGETS[name], folder, until, number, Tally(faults=tally.faults), there)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, about threads and fork: none is at work here
        process.start()
    there.close()
    at = 0
    with contextlib.suppress(EOFError):
        while here.poll(_longest(TARGETS[name])):
            message = here.recv()
            if message is None:
                process.join()
                return None
            if isinstance(message, str):
                raise RuntimeError(f"the harness itself failed at {name}:\n{message}")
            at, found = message
            tally.add(found)
    process.kill()
    process.join()
    return at


def _longest(target: Target) -> float:
    """Seconds that one batch may take."""
    return BATCH * target.seconds + SHRINKING + HANGS


def _work(target: Target, folder: Path, until: float | None, number: int | None, tally: Tally, out: Connection) -> None:
    """In the child: batch after batch, until the time is over; or the one batch of a seed."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    chance = SystemRandom()
    try:
        while number is not None or time.monotonic() < (until or 0):
            seed = chance.getrandbits(32) if number is None else number
            out.send((seed, Tally()))
            tally.tried = 0
            fuzz(target, folder, seed, BATCH, until or time.monotonic() + _longest(target), tally)
            out.send((seed, tally))
            if number is not None:
                break
        out.send(None)
    except Exception:
        out.send(traceback.format_exc())


if __name__ == "__main__":
    sys.exit(main())
