"""Does gemtune work on a GPU, is it right there, and how fast and how large is it? One command, eight minutes.

`python benchmarks/gpu.py --pack wheels/` on a machine with a network collects the packages that a fresh GPU machine
lacks; `python3 benchmarks/gpu.py --out DIR --budget 440` there needs no network. Each step is a process with a time
limit of its own and writes its results to DIR/results.jsonl at once, so a crash or the limit loses only itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_steps.pack import install, pack  # noqa: E402
from benchmarks.gpu_steps.results import append, read, table  # noqa: E402


class Step(NamedTuple):
    """A step, the seconds that it may take, and what it asks."""

    name: str
    seconds: int
    question: str


STEPS = (  # in order of worth: where the budget ends, the last ones are lost
    Step("machine", 30, "which GPU and versions are these, and what are the ceilings of memory and products?"),
    Step("tests", 120, "do the tests marked gpu pass?"),
    Step("parity", 60, "do loss and gradients follow the CPU's in every precision?"),
    Step("training", 60, "does a recipe run to its report, and does the model learn?"),
    Step("nf4", 45, "does NF4 train as on the CPU?"),
    Step("vision", 60, "does every family that sees train and answer?"),
    Step("generation", 60, "how fast does a model answer, base and tuned?"),
    Step("speed", 150, "tokens/s, share of the peak and memory, beside plain transformers with PEFT and TRL?"),
    Step("t4", 60, "does a T4's way work: fp16, no flash kernel, its memory?"),
    Step("waits", 30, "where does a step wait for the GPU?"),
)
SPARE = 5  # seconds that are kept for the table


def main() -> None:
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a folder for results.jsonl, log.txt and table.txt")
    parser.add_argument("--budget", type=float, default=440, help="seconds for all steps together (440)")
    parser.add_argument("--dry", action="store_true", help="every step at its smallest size, on a CPU too")
    parser.add_argument("--steps", nargs="+", choices=names, default=names, metavar="STEP", help=", ".join(names))
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="the folder that --pack wrote (wheels/)")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="download the wheels into a folder, and stop")
    parser.add_argument("--python", default="3.12", help="with --pack: the Python of the GPU machine (3.12)")
    args = parser.parse_args()
    if args.pack:
        pack(args.pack, args.python, ROOT / "constraints.txt")
    elif args.out:
        sys.exit(take([step for step in STEPS if step.name in args.steps], args))
    else:
        parser.error("give --out DIR, or --pack DIR")


def take(steps: list[Step], args: argparse.Namespace) -> int:
    """Takes the steps one after another and prints the table; 1 where one did not end well."""
    end = time.monotonic() + args.budget
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.jsonl"
    results.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as work, (args.out / "log.txt").open("w", encoding="utf-8") as log:
        environment = surroundings(install(args.wheels, Path(work) / "site", ROOT), args.dry)
        for step in steps:
            left = end - time.monotonic() - SPARE
            limit = left if args.dry else min(step.seconds, left)  # a dry run may be on the slowest of CPUs
            print(f"{step.name}: {step.question}", flush=True)
            line = run(step, limit, results, args.dry, environment, log) if limit > 0 else {"outcome": "no time left"}
            append(results, step.name, **line)
            print(f"  {line['outcome']}", flush=True)
    lines = read(results)
    (args.out / "table.txt").write_text(table(lines), encoding="utf-8")
    print(table(lines))
    return int(any(line.get("outcome", "ok") != "ok" for line in lines))


def surroundings(site: Path | None, dry: bool) -> dict[str, str]:
    """The environment of a step: the carried packages, then this checkout; no network is asked for anything."""
    places = [str(site)] if site else []
    places += [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    threads = {"OMP_NUM_THREADS": "1"} if dry else {}  # a second one only waits for work so small
    return {**os.environ, **quiet, **threads, "PYTHONPATH": os.pathsep.join(places)}


def run(
    step: Step, limit: float, results: Path, dry: bool, environment: dict[str, str], log: TextIO
) -> dict[str, object]:
    """One step in a process of its own: how it ended, its seconds, and where it failed the end of what it said."""
    command = [sys.executable, "-m", "benchmarks.gpu_steps", step.name, str(results.resolve()), *["--dry"] * dry]
    began = time.monotonic()
    log.write(f"\n=== {step.name}\n")
    log.flush()
    said_from = log.tell()
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
    try:
        code = process.wait(limit)
        outcome = "ok" if code == 0 else f"failed ({code})"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # with the processes that it began
        process.wait()
        outcome = f"stopped after {limit:.0f} s"
    log.flush()
    line: dict[str, object] = {"outcome": outcome, "seconds": round(time.monotonic() - began, 1)}
    if outcome != "ok":
        said = Path(log.name).read_bytes()[said_from:]
        line["said"] = said[-3000:].decode("utf-8", "replace")
    return line


if __name__ == "__main__":
    main()
