"""`python ablations.py`: gemtune, and gemtune without one optimisation at a time, in turns; writes ABLATIONS.md."""

from __future__ import annotations

from typing import Any

from benchmarks.compare.bench import CORES, WORK, Arm, make_ready, measured
from benchmarks.compare.environments import HERE
from gemtune.files import write_text
from benchmarks.compare.results import median_of, spread, table

WHAT = {
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
    folder = WORK / "whole" / WORKLOAD
    make_ready(WORKLOAD, folder)
    runs: list[dict[str, Any]] = []
    for repeat in range(1, REPEATS + 1):
        for name in WHAT:
            arm = Arm("gemtune", WHAT[name], "gemtune", "" if name == "gemtune" else name)
            runs.append({"arm": name, **measured(name, arm, folder, runs)})
            print(f"{name}, repeat {repeat} of {REPEATS}: {runs[-1]['tokens_per_s']:.0f} tokens/s", flush=True)
        write_text(HERE / "ABLATIONS.md", _page(runs, repeat))


def _page(runs: list[dict[str, Any]], repeats: int) -> str:
    by_arm = {name: [run for run in runs if run["arm"] == name] for name in WHAT}
    rows = []
    for name, own in by_arm.items():
        # Against gemtune in the same round: the machine is not as fast in every one.
        beside = [run["tokens_per_s"] / base["tokens_per_s"] for run, base in zip(own, by_arm["gemtune"], strict=True)]
        ratio = spread([{"ratio": one} for one in beside], "ratio") + "x"
        loss = f"{median_of(own, 'heldout_loss'):.4f}"
        rows.append([name, WHAT[name], spread(own, "tokens_per_s"), ratio, spread(own, "peak_gb"), loss])
    lines = [
        "<!-- Written by `python benchmarks/ablations.py`. -->",
        "# gemtune without one optimisation at a time",
        f"The {WORKLOAD} workload of `make bench`, {repeats} rounds in which every arm has its turn; medians with the\n"
        "lowest and the highest. The ratio is to gemtune in the same round.",
        f"{device_name('cpu')}, {CORES} cores.",
        table("arm | | tokens/s | ratio | peak GB | held-out loss", rows),
    ]
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
