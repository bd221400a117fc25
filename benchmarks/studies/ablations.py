"""What does each optimisation bring? gemtune, and gemtune without one optimisation at a time, in turns."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.compare.bench import Arm, make_ready, measured
from benchmarks.compare.results import median_of, spread, table
from benchmarks.machine import WORK, write_page

# The name of a variant of compare/arms/gemtune.py, and what is different in it.
VARIANTS = {
    "gemtune": "gemtune's defaults",
    "without gathered head": "logits at every position, PyTorch's cross-entropy",
    "without the sweep": "the head, its softmax and its gradient as products, the logits in memory between them",
    "without bf16": "everything in fp32",
    "without compiled passes": "elementwise work by PyTorch, as where there is no C++ compiler",
    "without grouped products": "LoRA as small products and additions of their own, plain autograd in the feed-forward",
    "without own attention": "every document through PyTorch's scaled_dot_product_attention",
    "without last block": "the last block at every position, not at the labelled ones alone",
    "without alignment": "rows not filled up to a multiple of 16 tokens",
    "without packing": "every row a micro-batch of its own",
}
WORKLOAD, REPEATS = "emoji", 3


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = WORK / "whole" / WORKLOAD
    make_ready(WORKLOAD, folder)
    runs: list[dict[str, Any]] = []
    for repeat in range(1, REPEATS + 1):
        for name, what in VARIANTS.items():
            arm = Arm("gemtune", what, "gemtune", "" if name == "gemtune" else name)
            runs.append({"arm": name, **measured(name, arm, folder, runs)})
            print(f"{name}, repeat {repeat} of {REPEATS}: {runs[-1]['tokens_per_s']:.0f} tokens/s", flush=True)
        write_page(__file__, "gemtune without one optimisation at a time", _body(runs, repeat))


def _body(runs: list[dict[str, Any]], repeats: int) -> str:
    by_arm = {name: [run for run in runs if run["arm"] == name] for name in VARIANTS}
    rows = [_row(name, arm_runs, by_arm["gemtune"]) for name, arm_runs in by_arm.items()]
    introduction = (
        f"The {WORKLOAD} workload of `make bench`, {repeats} rounds in which every arm has its turn; medians with the\n"
        "lowest and the highest. The ratio is to gemtune in the same round."
    )
    return introduction + "\n\n" + table("arm | | tokens/s | ratio | peak GB | held-out loss", rows)


def _row(name: str, runs: list[dict[str, Any]], defaults: list[dict[str, Any]]) -> list[str]:
    # Compared with gemtune in the same round: the machine's speed changes from one round to the next.
    ratios = [{"ratio": run["tokens_per_s"] / base["tokens_per_s"]} for run, base in zip(runs, defaults, strict=True)]
    loss = f"{median_of(runs, 'heldout_loss'):.4f}"
    return [
        name,
        VARIANTS[name],
        spread(runs, "tokens_per_s"),
        spread(ratios, "ratio") + "x",
        spread(runs, "peak_gb"),
        loss,
    ]


if __name__ == "__main__":
    main()
