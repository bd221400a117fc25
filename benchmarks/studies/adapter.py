"""What is trained, and how large is it? The guide's adapter and gemtune's own, each at several learning rates.

`make bench` gives every arm one learning rate. Which rate is best depends on what is trained, though: the guide trains
two copies of the embedding, gemtune the rows of two control tokens. Here each is judged at its best.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.compare.bench import ARMS, make_ready, measured
from benchmarks.compare.environments import versions
from benchmarks.compare.results import table
from benchmarks.machine import WORK, write_page
from gemtune.files import read_json, write_json

COMPARED = ("gemtune_rows", "guide")
RATES = (5e-5, 2e-4, 5e-4, 1e-3)  # the guide's own, the benchmark's, the emoji recipe's, and one above
WORKLOAD = "emoji"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = WORK / "adapter" / WORKLOAD
    make_ready(WORKLOAD, folder)
    meta = read_json(folder / "meta.json")
    runs = [{"arm": arm, "rate": rate, **_at(folder, meta, arm, rate)} for arm in COMPARED for rate in RATES]
    write_page(__file__, "The adapter: what is trained, and how large it is", _body(meta, runs))


def _at(folder: Path, meta: dict[str, Any], arm: str, rate: float) -> dict[str, Any]:
    """One run of an arm on the workload with another learning rate."""
    workload = folder.with_name(f"{folder.name}-{rate:g}")
    shutil.copytree(folder, workload, dirs_exist_ok=True)
    write_json(workload / "meta.json", {**meta, "learning_rate": rate})
    run = measured(arm, ARMS[arm], workload, [])
    print(f"{arm} at {rate:g}: held-out loss {run['heldout_loss']:.4f}, {run['seconds']:.0f} s")
    return run


def _body(meta: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    peers = ", ".join(f"{name} {version}" for name, version in versions("peers").items())
    parts = [
        f"The {WORKLOAD} workload of `make bench`: {len(meta['tokens'])} steps of {meta['batch_size']} rows, "
        f"{meta['heldout_labelled']} held-out tokens by plain transformers in fp32; one run each.",
        "\n".join(f"- {arm}: {ARMS[arm].what}" for arm in COMPARED),
        f"The guide's environment: {peers}.",
        table("arm | learning rate | held-out loss | adapter MB", _rows(runs)),
    ]
    return "\n\n".join(parts)


def _rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    by_arm = [[run for run in runs if run["arm"] == arm] for arm in COMPARED]
    best = [min(arm_runs, key=lambda run: run["heldout_loss"]) for arm_runs in by_arm]
    return [
        [
            run["arm"],
            f"{run['rate']:g}",
            f"{run['heldout_loss']:.4f}" + " (its best)" * (run in best),
            f"{run['adapter_mb']:,.1f}",
        ]
        for run in runs
    ]


if __name__ == "__main__":
    main()
