"""`make bench`: gemtune beside its peers, on the same rows, order, trained tokens and first adapter.

Every arm is a process of its own in its own environment, and the arms take turns, so that a machine that slows down
slows all of them. Results are saved after every process; the same command goes on where it stopped.
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
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from environments import ENVIRONMENTS, HERE, call, python_of, versions
from gemtune.files import read_json, sha256_of, write_json
from gemtune.machine import device_name, memory_gb
from limit import shares
from results import slug, write_page
from workloads import WORKLOADS

WORK = HERE / "work"
SAMPLES_A_SECOND = 10  # of the memory
CORES = psutil.cpu_count(logical=False) or os.cpu_count() or 1  # physical: a second thread on one slows matrix products


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
    "trl_tuned": Arm("peers", "TRL set up well: bf16 weights, no checkpointing, sdpa"),
    "llamafactory": Arm("llamafactory", "LLaMA-Factory: bf16, no checkpointing, sdpa"),
    "gemtune": Arm("gemtune", "gemtune's defaults"),
    "gemtune_rows": Arm("gemtune", "gemtune with the rows of the control tokens, as for -pt", "gemtune", "token rows"),
    "products": Arm("gemtune", "the limit: after each step its bare products", "gemtune", "products in turn", False),
}


def main() -> None:
    args = _arguments()
    work = WORK / (f"{args.steps}-steps" if args.steps else "whole")
    place = work if args.steps else HERE  # a trial never replaces the results
    machine = {"name": device_name("cpu"), "cores": CORES, "memory_gb": round(memory_gb(), 1)}
    file = place / "results" / f"{slug(machine)}.json"
    results = {"workloads": {}, "runs": []} if args.fresh or not file.exists() else read_json(file)
    _forget_another_gemtune(results)
    results |= {
        "machine": machine,
        "arms": {name: arm.what for name, arm in ARMS.items()},
        "versions": {name: versions(name) for name in ENVIRONMENTS},
    }
    for name in args.workloads:
        folder = work / name
        make_ready(name, folder, args.steps)
        _forget_another_workload(results, name, folder)
        done = {(run["workload"], run["arm"], run["repeat"]) for run in results["runs"]}
        for repeat in range(1, args.repeats + 1):
            for arm in args.arms:
                if (name, arm, repeat) not in done:
                    print(f"{name}: {arm}, repeat {repeat} of {args.repeats} ...", end=" ", flush=True)
                    run = {"workload": name, "arm": arm, "repeat": repeat}
                    run |= measured(arm, ARMS[arm], folder, results["runs"])
                    print(f"{run['seconds']:.0f} s, {run['tokens_per_s']:.0f} tokens/s, {run['peak_gb']:.1f} GB")
                    results["runs"].append(run)
                    write_json(file, results)
                    write_page(results, place)
    print(f"{place / 'RESULTS.md'} and {file}")


def make_ready(name: str, folder: Path, steps: int | None = None) -> None:
    """Builds a workload, and sets what every arm's process inherits: as many threads as cores, and no Hub."""
    os.environ |= {"OMP_NUM_THREADS": str(CORES), "MKL_NUM_THREADS": str(CORES), "HF_HUB_OFFLINE": "1"}
    # In a process of its own: the model it loads has left memory before anything is measured.
    call(sys.executable, "workloads.py", name, str(folder), *([str(steps)] if steps else []))


def _forget_another_gemtune(results: dict[str, Any]) -> None:
    """Drops what was measured of gemtune itself at another commit, or with changes that no commit holds."""
    source = str(HERE.parent / "src")
    changed = call("git", "status", "--porcelain", "--", source)
    commit = call("git", "log", "-1", "--format=%h", "--", source).strip() + ("-dirty" if changed else "")
    if results.get("commit") != commit or commit.endswith("-dirty"):
        peers = {name for name, arm in ARMS.items() if arm.environment != "gemtune"}
        results["runs"] = [run for run in results["runs"] if run["arm"] in peers]
    results["commit"] = commit


def _forget_another_workload(results: dict[str, Any], name: str, folder: Path) -> None:
    """Drops what was measured on another version of a workload."""
    meta = read_json(folder / "meta.json")
    if results["workloads"].get(name, {}).get("key") != meta["key"]:
        results["runs"] = [run for run in results["runs"] if run["workload"] != name]
        results["workloads"][name] = {**meta, "base_loss": heldout_loss(folder, folder / "init_adapter")}


def measured(name: str, arm: Arm, workload: Path, before: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs an arm once, and what it took; an adapter that a run before ended with has that run's held-out loss."""
    meta, output = read_json(workload / "meta.json"), workload / name.replace(" ", "-")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    log = output.with_suffix(".log")
    load, start = os.getloadavg()[0], time.time()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(  # noqa: S603 (written here)
            [
                python_of(arm.environment),
                *("-m", f"arms.{arm.file or name}", str(workload), str(output)),
                *([arm.variant] if arm.variant else []),
            ],
            cwd=HERE,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        peak = peak_memory(process)
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}; see {log}")
    times, adapter = read_json(output / "times.json"), output / "adapter"
    steps = times["steps"]
    timed = sum(times["products"][1:]) if "products" in times else steps[-1] - steps[0]
    figures = {
        "load": round(load, 2),
        "seconds": steps[-1] - start,
        "imports_s": times["imported"] - start,
        "ready_s": times["ready"] - times["imported"],
        "first_step_s": steps[0] - times["ready"],
        "tokens_per_s": sum(meta["tokens"][1:]) / timed,
        "labelled_per_s": sum(meta["labelled"][1:]) / timed,
        "peak_gb": peak / 1e9,
        "losses": times["losses"],
        **({"plan": times["plan"]} if "plan" in times else {}),
        **({"share": median(shares(times))} if "products" in times else {}),
    }
    if arm.trains:
        weights = adapter / "adapter_model.safetensors"
        digest = sha256_of(weights)
        known = [run["heldout_loss"] for run in before if run.get("adapter") == digest]
        figures |= {
            "adapter": digest,
            "adapter_mb": weights.stat().st_size / 1e6,
            "heldout_loss": known[0] if known else heldout_loss(workload, adapter),
        }
    shutil.rmtree(output)  # the guide's adapter alone is over a gigabyte
    return figures


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """The most resident memory of a process and its children together, in bytes, watched until it ends."""
    peak, root = 0, psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that has just ended
            peak = max(peak, sum(one.memory_info().rss for one in (root, *root.children(recursive=True))))
        time.sleep(1 / SAMPLES_A_SECOND)
    return peak


def heldout_loss(workload: Path, adapter: Path) -> float:
    """Nats a labelled token of the held-out rows, by plain transformers."""
    model = read_json(workload / "meta.json")["model"]
    return float(json.loads(call(python_of("peers"), "heldout.py", model, str(workload), str(adapter)))["loss"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="gemtune beside its peers, measured on this machine.")
    parser.add_argument("--arms", type=_some_of(ARMS), default=list(ARMS), help=", ".join(ARMS))
    parser.add_argument("--workloads", type=_some_of(WORKLOADS), default=list(WORKLOADS), help=", ".join(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=3, help="of every arm (3)")
    parser.add_argument("--steps", type=_steps, help="a short trial of this many steps, kept in work/")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    return parser.parse_args()


def _steps(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError("at least 2: the first step is not timed")
    return int(text)


def _some_of(table: dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in table:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(table)}")
        return names

    return parse


if __name__ == "__main__":
    main()
