"""`python adapter.py`: the guide's adapter and gemtune's own, each at several rates of learning; writes ADAPTER.md.

`make bench` gives every arm one rate. Which rate is best depends on what is trained, though: the guide trains two
copies of the embedding, gemtune the rows of two control tokens. Here each is judged at its best.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.compare.bench import ARMS, CORES, WORK, make_ready, measured
from benchmarks.compare.environments import HERE, versions
from gemtune.files import read_json, write_json, write_text

ARMS_HERE = ("gemtune_rows", "guide")
RATES = (5e-5, 2e-4, 5e-4, 1e-3)  # the guide's own, the benchmark's, the emoji recipe's, and one above
WORKLOAD = "emoji"


def main() -> None:
    folder = WORK / "adapter" / WORKLOAD
    make_ready(WORKLOAD, folder)
    meta = read_json(folder / "meta.json")
    runs = [{"arm": arm, "rate": rate, **_at(folder, meta, arm, rate)} for arm in ARMS_HERE for rate in RATES]
    write_text(HERE / "ADAPTER.md", _page(meta, runs))


def _at(folder: Path, meta: dict[str, Any], arm: str, rate: float) -> dict[str, Any]:
    """One run of an arm on the workload with another rate of learning."""
    own = folder.with_name(f"{folder.name}-{rate:g}")
    shutil.copytree(folder, own, dirs_exist_ok=True)
    write_json(own / "meta.json", {**meta, "learning_rate": rate})
    run = measured(arm, ARMS[arm], own, [])
    print(f"{arm} at {rate:g}: held-out loss {run['heldout_loss']:.4f}, {run['seconds']:.0f} s")
    return run


def _page(meta: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    best = [min((run for run in runs if run["arm"] == arm), key=lambda run: run["heldout_loss"]) for arm in ARMS_HERE]
    lines = [
        "<!-- Written by `python benchmarks/adapter.py`. -->",
        "",
        "# The adapter: what is trained, and how large it is",
        "",
        f"The {WORKLOAD} workload of `make bench`: {len(meta['tokens'])} steps of {meta['batch_size']} rows, "
        f"{meta['heldout_labelled']} held-out tokens by plain transformers in fp32; one run each.",
        "",
        *(f"- {arm}: {ARMS[arm].what}" for arm in ARMS_HERE),
        "",
        f"{device_name('cpu')}, {CORES} cores; the guide's environment: "
        + ", ".join(f"{name} {version}" for name, version in versions("peers").items())
        + ".",
        "",
        "| arm | learning rate | held-out loss | adapter MB |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {run['arm']} | {run['rate']:g} | {run['heldout_loss']:.4f}{' (its best)' if run in best else ''} | "
            f"{run['adapter_mb']:,.1f} |"
            for run in runs
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
