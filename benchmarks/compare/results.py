"""Results as a page and a chart: medians, spreads and ratios, all computed from the JSON that `bench.py` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import Heading, page
from gemtune.files import write_text
from gemtune.reporting.text import markdown, number

REFERENCE = "trl_tuned"  # the arm whose held-out loss decides who counts
TOLERANCE = 0.005  # a faster arm whose held-out loss is worse by more has not done the same work
OURS = "gemtune"
LIMIT = "products"  # the arm that does a step's matrix products and nothing else

HEAD = """\
The same rows in the same order, the same labels, the same first adapter, dropout 0, the same effective batch, AdamW at
a constant rate without weight decay. Every arm is a process of its own with a thread per core, and the arms take turns.
Figures are medians of {repeats}, with the lowest and the highest.

- seconds: from the start of the process to the end of the last step.
- tokens/s: of the rows, padding not counted, after the first step; labelled/s: those of them that have a loss.
- peak GB: the most that the process and its children held at once.
- held-out loss: by plain transformers in fp32. An arm that is more than {tolerance} worse than {reference} has not done
  the same work and does not count.

![Tokens per second](compare.svg)"""

Runs = list[dict[str, Any]]


def write_page(results: dict[str, Any], folder: Path) -> None:
    """Writes compare.md and compare.svg."""
    head = HEAD.format(
        repeats="one run" if (most := _most_repeats(results["runs"])) == 1 else f"up to {most} runs",
        tolerance=f"{TOLERANCE:.1%}",
        reference=REFERENCE,
    )
    arms = "\n".join(f"- {name}: {markdown(what)}" for name, what in results["arms"].items())
    sections = [_section(name, meta, _by_arm(results, name)) for name, meta in results["workloads"].items()]
    body = "\n\n".join([head, arms, *sections, _versions(results["versions"])])
    write_text(
        folder / "compare.md", page("make bench", "gemtune beside its peers", Heading(**results["heading"]), body)
    )
    write_text(folder / "compare.svg", _chart(results))


def _most_repeats(runs: Runs) -> int:
    return max(run["repeat"] for run in runs)


def _by_arm(results: dict[str, Any], workload: str) -> dict[str, Runs]:
    """The runs of a workload by arm, in the order of the table of arms."""
    runs = [run for run in results["runs"] if run["workload"] == workload]
    by_arm = {arm: [run for run in runs if run["arm"] == arm] for arm in results["arms"]}
    return {arm: arm_runs for arm, arm_runs in by_arm.items() if arm_runs}


def _section(name: str, meta: dict[str, Any], arms: dict[str, Runs]) -> str:
    tokens, labelled = sum(meta["tokens"]), sum(meta["labelled"])
    trained = {arm: runs for arm, runs in arms.items() if arm != LIMIT}
    figures = [[arm, *_figures(runs, arms)] for arm, runs in trained.items()]
    starts = [[arm, *_start(runs)] for arm, runs in trained.items()]
    return "\n\n".join(
        [
            f"## {name}: {meta['what']}",
            f"{len(meta['tokens'])} steps of {meta['batch_size']} rows, {tokens:,} tokens, {labelled / tokens:.0%} of "
            f"them labelled. Held-out loss of the base model over {meta['heldout_labelled']:,} tokens: "
            f"{meta['base_loss']:.3f}.",
            table(
                "arm | seconds | tokens/s | labelled/s | peak GB | held-out loss | adapter MB | load before", figures
            ),
            *_limit(arms),
            *_ratios(trained),
            *_plan(arms),
            "To the end of the first step, in seconds:",
            table("arm | imports | model and data | first step | together", starts),
        ]
    )


def _figures(runs: Runs, arms: dict[str, Runs]) -> list[str]:
    spreads = [spread(runs, key) for key in ("seconds", "tokens_per_s", "labelled_per_s", "peak_gb")]
    return [*spreads, _heldout(runs, arms), number(median_of(runs, "adapter_mb")), number(median_of(runs, "load"))]


def _heldout(runs: Runs, arms: dict[str, Runs]) -> str:
    loss = median_of(runs, "heldout_loss")
    if REFERENCE not in arms:
        return f"{loss:.4f}"
    worse = loss / median_of(arms[REFERENCE], "heldout_loss") - 1
    return f"{loss:.4f} ({worse:+.2%})" + (", does not count" if worse > TOLERANCE else "")


def _ratios(arms: dict[str, Runs]) -> list[str]:
    """How many times better gemtune is, where it was run beside others."""
    others = [arm for arm in arms if not arm.startswith(OURS)]
    if OURS not in arms or not others:
        return []

    def times(arm: str, key: str, more_is_better: bool = False) -> str:
        ratio = median_of(arms[arm], key) / median_of(arms[OURS], key)
        return f"{1 / ratio if more_is_better else ratio:.2f}x"

    rows = [
        [arm, times(arm, "seconds"), times(arm, "tokens_per_s", True), times(arm, "peak_gb"), times(arm, "adapter_mb")]
        for arm in others
    ]
    return [
        "How many times better gemtune is than each:",
        table("arm | less time | more tokens/s | less memory | smaller adapter", rows),
    ]


def _limit(arms: dict[str, Runs]) -> list[str]:
    """What share of the speed of the bare matrix products gemtune has."""
    if LIMIT not in arms:
        return []
    shares = [run["share"] for run in arms[LIMIT]]
    return [
        f"The frozen matrix products of these steps alone run at {spread(arms[LIMIT], 'tokens_per_s')} tokens/s here. "
        f"Taken in turn with gemtune's steps, in one process, they are {median(shares):.0%} "
        f"[{min(shares):.0%}, {max(shares):.0%}] of a step's time: the share of that limit at which gemtune trains."
    ]


def _plan(arms: dict[str, Runs]) -> list[str]:
    """What `gemtune plan` predicted, beside what was measured."""
    runs = [run for run in arms.get(OURS, []) if "plan" in run]
    if not runs:
        return []
    rows = []
    for key, what in (("peak_gb", "peak GB"), ("tokens_per_s", "tokens/s")):
        planned, measured = median(run["plan"][key] for run in runs), median_of(runs, key)
        rows.append([what, number(planned), number(measured), f"{planned / measured - 1:+.0%}"])
    return ["What `gemtune plan` predicts for this run:", table("| planned | measured |", rows)]


def _start(runs: Runs) -> list[str]:
    parts = [median_of(runs, key) for key in ("imports_s", "ready_s", "first_step_s")]
    return [f"{seconds:.1f}" for seconds in (*parts, sum(parts))]


def _versions(environments: dict[str, dict[str, str]]) -> str:
    packages = sorted({package for versions in environments.values() for package in versions})
    rows = [[package, *(versions.get(package, "") for versions in environments.values())] for package in packages]
    return "## Versions\n\n" + table(" | ".join(["package", *environments]), rows)


def median_of(runs: Runs, key: str) -> float:
    return float(median(run[key] for run in runs))


def spread(runs: Runs, key: str) -> str:
    values = [run[key] for run in runs]
    middle = number(median(values))
    return middle if len(values) == 1 else f"{middle} [{number(min(values))}, {number(max(values))}]"


def table(head: str, rows: Sequence[Sequence[str]]) -> str:
    lines = [head, " | ".join(["---", *["---:"] * head.count("|")]), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


# A row per arm, a block per workload; the colours read on white and on black.
ROW, NAME, WIDTH = 22, 110, 720
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#808080}.title{font-weight:600}"
    ".peer{fill:#8a94a6}.ours{fill:#2f81f7}.range{stroke:#808080;stroke-width:2}"
)


def _chart(results: dict[str, Any]) -> str:
    """Tokens per second: a bar to the median, a line from the lowest to the highest."""
    parts, y = [], 0
    for workload in results["workloads"]:
        arms = _by_arm(results, workload)
        most = max(run["tokens_per_s"] for runs in arms.values() for run in runs) if arms else 1
        parts.append(f'<text class="title" x="0" y="{y + 20}">{workload}: tokens per second</text>')
        y += 30
        for arm, runs in arms.items():
            parts.append(_bar(arm, [run["tokens_per_s"] for run in runs], (WIDTH - NAME - 60) / most, y))
            y += ROW
        y += 14
    inside = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{STYLE}</style>\n{inside}\n</svg>\n'


def _bar(arm: str, values: list[float], scale: float, y: int) -> str:
    low, middle, high = (round(NAME + scale * value, 1) for value in (min(values), median(values), max(values)))
    kind = "ours" if arm == OURS else "peer"
    return (
        f'<text x="0" y="{y + 14}">{arm}</text>'
        f'<rect class="{kind}" x="{NAME}" y="{y + 3}" width="{middle - NAME:.1f}" height="14"/>'
        f'<line class="range" x1="{low}" x2="{high}" y1="{y + 10}" y2="{y + 10}"/>'
        f'<text x="{high + 6}" y="{y + 14}">{number(median(values))}</text>'
    )
