"""`make chaos KILLS=20`: kills, signals, full and read-only disks, the clock set back, two processes, flipped bits.

Every verb that writes is tried. What it leaves in the end is compared, byte for byte, with what it leaves when nothing
happens: all files but those that tell the time. Prints what was done and what was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

from chaos.cases import VERBS, Case, cases
from chaos.machine import may_mount
from chaos.trials import TRIALS, Chance, Outcome, flipped
from gemtune.cli import app, output, progress
from gemtune.documents import distill, drawn_pages
from gemtune.evaluation import evaluate, generate
from gemtune.exporting import plain, texts, verify
from gemtune.pipeline import decisions, exports, stages
from gemtune.training import run as training

IMPORTED = (
    app,
    distill,
    drawn_pages,
    output,
    progress,
    evaluate,
    generate,
    decisions,
    exports,
    plain,
    texts,
    verify,
    stages,
    training,
)  # which every process then has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each kind: by SIGKILL, by a signal, by a full disk")
    parser.add_argument("--flips", type=int, default=1, help="how often a bit of every file is turned over")
    parser.add_argument("--files", default="*", help="which: a pattern of their names, such as manifest.json")
    parser.add_argument("--verbs", default=",".join(VERBS), help="some of them")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)  # its threads would not be there in a child
    chance, began = Chance(random.Random(asked.seed), may_mount()), time.monotonic()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="gemtune-chaos-") as name:
        os.environ["GEMTUNE_CACHE"] = str(Path(name) / "cache")
        for outcome in trials(list(cases(Path(name))), asked, chance):
            outcomes.append(outcome)
            if not outcome.wrong:
                print(".", end="", flush=True)
            else:
                print(f"\n{outcome.what}, {outcome.verb}: {outcome.wrong}", flush=True)
    print("\n".join(_table(outcomes)))
    disks = "disks of its own" if chance.mounts else "limits on files and permissions, for no disk could be mounted"
    print(f"seed {asked.seed}, {time.monotonic() - began:.0f} s, with {disks}")
    sys.exit(any(outcome.wrong for outcome in outcomes))


def trials(known: Sequence[Case], asked: argparse.Namespace, chance: Chance) -> Iterator[Outcome]:
    """As many kills, signals and full disks as are asked for, over all verbs in turn; of the rest one for each verb."""
    chosen = [case for case in known if case.verb in asked.verbs.split(",")]
    for what, trial in TRIALS.items():
        count = asked.kills if what in ("kill -9", "a signal", "full disk") else len(chosen)
        for number in range(count):
            yield trial(chosen[number % len(chosen)], chance)
    finished = [case for case in known if case.verb == "run"]
    for _ in range(asked.flips):
        yield from flipped(finished[0].again(), chance.draw, asked.files)


def _table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Verb by trial, how many; those that went wrong after a slash; then the flips, and the sum."""
    done, wrong = (Counter((o.verb, o.what) for o in some) for some in (outcomes, [o for o in outcomes if o.wrong]))
    yield f"{'trials / gone wrong':<20}" + "".join(f"{what:>16}" for what in TRIALS)
    for verb in VERBS:
        cells = (f"{done[verb, what]} / {wrong[verb, what]}" if done[verb, what] else "-" for what in TRIALS)
        yield f"{verb:<20}" + "".join(f"{cell:>16}" for cell in cells)
    for how in ("made again", "said in a line"):
        key = how, "a flipped bit"
        yield f"a bit flipped in a file of a run, {how}: {done[key]} / {wrong[key]}"
    compared, lost = sum(outcome.files for outcome in outcomes), sum(outcome.lost for outcome in outcomes)
    yield f"{len(outcomes)} trials, {wrong.total()} gone wrong; {compared:,} files compared, {lost} lost"


if __name__ == "__main__":
    main()
