"""`make bench`: gemtune beside its peers, on the same rows, order, trained tokens and first adapter.

Every arm runs in a process and an environment of its own, and the arms take turns, so that a machine that slows down
slows all of them. Results are saved after every process; the same command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.compare.environments import call, python_of, versions
from benchmarks.compare.limit import shares
from benchmarks.compare.results import write_page
from benchmarks.compare.workloads import WORKLOADS
from benchmarks.machine import CORES, HELD_TO, ROOT, WORK, Heading, hold_to, results_folder
from gemtune.files import read_json, sha256_of, write_json

SAMPLES_PER_SECOND = 10  # of the memory


@dataclass(frozen=True)
class Arm:
    """`arms/NAME.py`: the environment it runs in, and what it is; or a variant of the arm of another file."""

    environment: str
    what: str
    file: str = ""
    variant: str = ""
    trains: bool = True


ARMS = {
    "guide": Arm("peers", "Google's guide for Gemma 3 270M: fp32, two trained embeddings, eager, 4 rows at a time"),
    "trl_default": Arm("peers", "TRL's defaults: fp32 weights, bf16 autocast, checkpointing"),
    "trl_tuned": Arm("peers", "TRL set up well: bf16 weights (fp32 where that is faster), no checkpointing, sdpa"),
    "llamafactory": Arm("llamafactory", "LLaMA-Factory: bf16 (fp32 where that is faster), no checkpointing, sdpa"),
    "gemtune": Arm("gemtune", "gemtune's defaults"),
    "gemtune_uncompiled": Arm("gemtune", "gemtune without a C++ compiler", "gemtune", "without compiled passes"),
    "gemtune_rows": Arm("gemtune", "gemtune with the rows of the control tokens, as for -pt", "gemtune", "token rows"),
    "products": Arm("gemtune", "the limit: after each step its bare products", "gemtune", "products in turn", False),
}


def main() -> None:
    args = _arguments()
    if args.held_to:
        hold_to(args.held_to)
    work = WORK / "-".join(filter(None, (f"{args.steps}-steps" if args.steps else "whole", args.held_to)))
    folder = work if args.steps else results_folder(args.held_to)  # a trial never replaces the results
    file = folder / "compare.json"
    results = {"workloads": {}, "runs": []} if args.fresh or not file.exists() else read_json(file)
    heading = Heading.of_this_machine(args.held_to)
    environments = sorted({"peers", *(ARMS[arm].environment for arm in args.arms)})  # peers: the held-out loss
    _forget_another_gemtune(results, heading.commit)
    results |= {
        "heading": asdict(heading),
        "arms": {name: arm.what for name, arm in ARMS.items()},
        "versions": results.get("versions", {}) | {name: versions(name) for name in environments},
    }
    for name in args.workloads:
        workload = work / name
        make_ready(name, workload, args.steps)
        _forget_another_workload(results, name, workload)
        done = {(run["workload"], run["arm"], run["repeat"]) for run in results["runs"]}
        for repeat in range(1, args.repeats + 1):
            for arm in args.arms:
                if (name, arm, repeat) not in done:
                    print(f"{name}: {arm}, repeat {repeat} of {args.repeats} ...", end=" ", flush=True)
                    run = {"workload": name, "arm": arm, "repeat": repeat}
                    run |= measured(arm, ARMS[arm], workload, results["runs"])
                    print(f"{run['seconds']:.0f} s, {run['tokens_per_s']:.0f} tokens/s, {run['peak_gb']:.1f} GB")
                    results["runs"].append(run)
                    write_json(file, results)
                    write_page(results, folder)
    print(f"{folder / 'compare.md'} and {file}")


def make_ready(name: str, folder: Path, steps: int | None = None) -> None:
    """Builds a workload, and sets what every arm's process inherits: as many threads as cores, and no Hub."""
    os.environ |= {"OMP_NUM_THREADS": str(CORES), "MKL_NUM_THREADS": str(CORES), "HF_HUB_OFFLINE": "1"}
    # In a process of its own: the model it loads has left memory before anything is measured.
    call(sys.executable, "-m", "benchmarks.compare.workloads", name, str(folder), *([str(steps)] if steps else []))


def _forget_another_gemtune(results: dict[str, Any], commit: str) -> None:
    """Drops what was measured of gemtune itself at another commit, or with changes that no commit holds."""
    if results.get("heading", {}).get("commit") != commit or commit.endswith("-dirty"):
        peers = {name for name, arm in ARMS.items() if arm.environment != "gemtune"}
        results["runs"] = [run for run in results["runs"] if run["arm"] in peers]


def _forget_another_workload(results: dict[str, Any], name: str, folder: Path) -> None:
    """Drops what was measured on another version of a workload."""
    meta = read_json(folder / "meta.json")
    if results["workloads"].get(name, {}).get("key") != meta["key"]:
        results["runs"] = [run for run in results["runs"] if run["workload"] != name]
        results["workloads"][name] = {**meta, "base_loss": heldout_loss(folder, folder / "init_adapter")}


def measured(name: str, arm: Arm, workload: Path, before: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs an arm once, and what it took; an adapter that an earlier run ended with has that run's held-out loss."""
    output = workload / name.replace(" ", "-")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    load, start = os.getloadavg()[0], time.time()
    peak = _run(name, arm, workload, output)
    times, meta = read_json(output / "times.json"), read_json(workload / "meta.json")
    figures = {"load": round(load, 2), **_figures(times, meta, start), "peak_gb": peak / 1e9}
    if arm.trains:
        figures |= _adapter(workload, output / "adapter", before)
    shutil.rmtree(output)  # the guide's adapter alone is over a gigabyte
    return figures


def _run(name: str, arm: Arm, workload: Path, output: Path) -> int:
    """Runs an arm in its environment, its log beside the output; returns its peak memory in bytes."""
    module = f"benchmarks.compare.arms.{arm.file or name}"
    variant = [arm.variant] if arm.variant else []
    command = [python_of(arm.environment), "-m", module, str(workload), str(output), *variant]
    log = output.with_suffix(".log")
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603 (written here)
        peak = peak_memory(process)
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}; see {log}")
    return peak


def _figures(times: dict[str, Any], meta: dict[str, Any], start: float) -> dict[str, Any]:
    """Seconds and speeds of a run that began at `start`."""
    steps = times["steps"]
    timed = sum(times["products"][1:]) if "products" in times else steps[-1] - steps[0]
    return {
        "seconds": steps[-1] - start,
        "imports_s": times["imported"] - start,
        "ready_s": times["ready"] - times["imported"],
        "first_step_s": steps[0] - times["ready"],
        "tokens_per_s": sum(meta["tokens"][1:]) / timed,
        "labelled_per_s": sum(meta["labelled"][1:]) / timed,
        "losses": times["losses"],
        **({"plan": times["plan"]} if "plan" in times else {}),
        **({"share": median(shares(times))} if "products" in times else {}),
    }


def _adapter(workload: Path, adapter: Path, before: list[dict[str, Any]]) -> dict[str, Any]:
    """Digest, size and held-out loss of the adapter that an arm trained."""
    weights = adapter / "adapter_model.safetensors"
    digest = sha256_of(weights)
    known_losses = [run["heldout_loss"] for run in before if run.get("adapter") == digest]
    return {
        "adapter": digest,
        "adapter_mb": weights.stat().st_size / 1e6,
        "heldout_loss": known_losses[0] if known_losses else heldout_loss(workload, adapter),
    }


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """The most resident memory of a process and its children together, in bytes, watched until it ends."""
    peak, root = 0, psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that has just ended
            peak = max(peak, sum(member.memory_info().rss for member in (root, *root.children(recursive=True))))
        time.sleep(1 / SAMPLES_PER_SECOND)
    return peak


def heldout_loss(workload: Path, adapter: Path) -> float:
    """Nats per labelled token of the held-out rows, by plain transformers."""
    model = read_json(workload / "meta.json")["model"]
    command = (python_of("peers"), "-m", "benchmarks.compare.heldout", model, str(workload), str(adapter))
    return float(json.loads(call(*command))["loss"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="gemtune beside its peers, measured on this machine.")
    parser.add_argument("--arms", type=_names_in(ARMS), default=list(ARMS), help=", ".join(ARMS))
    parser.add_argument("--workloads", type=_names_in(WORKLOADS), default=list(WORKLOADS), help=", ".join(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=3, help="of every arm (3)")
    parser.add_argument("--steps", type=_steps, help="a short trial of this many steps, kept in work/")
    parser.add_argument("--held-to", choices=tuple(HELD_TO), default="", help="a smaller instruction set")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    return parser.parse_args()


def _steps(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError("at least 2: the first step is not timed")
    return int(text)


def _names_in(table: dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in table:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(table)}")
        return names

    return parse


if __name__ == "__main__":
    main()
