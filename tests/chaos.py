"""`make chaos`: kills, full disks, flipped bits, two processes; prints what was done and what was lost.

    python tests/chaos.py --kills 20

Each trial is a `gemtune run` of a tiny model. What is compared with a run that nothing happened to is all that a user
keeps, byte for byte: data/, adapter/ and eval/.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import command

KEPT = ("data", "adapter", "eval")
FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
"""
LEVELS = (1_000, 4_000, 10_000, 25_000, 60_000, 120_000, 200_000, 320_000)  # bytes that a file may have

Outcome = tuple[str, str]  # what was done, and what came of it


def folder_with(model: Path, place: Path) -> Path:
    """A recipe over the tiny model with its rows, always at the same place: the path is in what is kept."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    rows = "".join(f'"good morning number {n}, tea at {n % 7}",☕🌅\n' for n in range(60))
    (place / "e.csv").write_text(f"text,emoji\n{rows}", encoding="utf-8")
    train = {"max_steps": 6, "batch_size": 8, "max_length": 128, "precision": "fp32", "device": "cpu", "save_steps": 2}
    recipe = {"name": "t", "task": "emoji", "model": str(model), "data": {"source": "e.csv"}, "train": train}
    recipe |= {"runs_dir": "runs", "evaluate": {"limit": 3, "max_new_tokens": 4}}
    (place / "t.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return place / "t.yaml"


def kept(recipe: Path) -> dict[str, str]:
    """Path -> digest of what a user keeps of the run, without what training is told by the clock."""
    run = recipe.parent / "runs" / "t"
    return {f"{name}/{path}": digest for name in KEPT for path, digest in command.tree(run / name).items()}


def ended(recipe: Path, reference: dict[str, str]) -> str:
    """Runs to the end and says whether that is the end of the run that nothing happened to."""
    answer = command.spawn("run", "t.yaml", cwd=recipe.parent)
    if "Traceback" in answer.err or "a bug of gemtune's" in answer.err:
        return "TRACEBACK"
    if answer.code:
        return f"REFUSED: {answer.err.strip().splitlines()[-1][:150]}"
    left = [path.name for path in recipe.parent.rglob(".*") if path.name not in (".lock",) and path != recipe.parent]
    return "LITTER " + ", ".join(left) if left else "the same bytes" if kept(recipe) == reference else "OTHER BYTES"


def start(recipe: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", command.MAIN, "run", "t.yaml"], cwd=recipe.parent, stdout=-3, stderr=-3
    )


def kills(recipe: Path, reference: dict[str, str], seconds: float, draw: random.Random) -> Outcome:
    """kill -9 at one to three random moments."""
    for _ in range(draw.randint(1, 3)):
        process = start(recipe)
        time.sleep(draw.uniform(0.2, seconds))
        process.send_signal(draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        process.wait()
    return "kill -9 or SIGTERM while it runs", ended(recipe, reference)


def full(recipe: Path, reference: dict[str, str], level: int) -> Outcome:
    """A limit on the size of a file stands in for a full disk."""
    answer = command.spawn("run", "t.yaml", first=FULL.format(level), cwd=recipe.parent)
    if answer.code == 1 or "Traceback" in answer.err:
        return "a full disk", "TRACEBACK"
    return "a full disk, then space", ended(recipe, reference)


def flipped(recipe: Path, reference: dict[str, str], draw: random.Random) -> Iterator[Outcome]:
    """One bit turned over in each file of a finished run, which must be seen or do no harm."""
    run = recipe.parent / "runs" / "t"
    for path in sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size):
        whole = path.read_bytes()
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        what = f"a bit of {'checkpoint' if 'step-' in str(path) else path.relative_to(run).parts[0]}"
        result = ended(recipe, reference)
        yield what, result if result != "OTHER BYTES" or "eval" not in what else "not seen in a reply"
        path.write_bytes(whole)


def together(recipe: Path, reference: dict[str, str]) -> Outcome:
    """Two processes at once: one works, the other is told so."""
    processes = [start(recipe) for _ in range(2)]
    codes = sorted(process.wait() for process in processes)
    return "two processes at once", ended(recipe, reference) if codes in ([0, 0], [0, 2]) else f"CODES {codes}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What is lost when everything goes wrong?")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--levels", type=int, default=len(LEVELS))
    parser.add_argument("--flips", type=int, default=1, help="how often a bit of every file is turned over")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="gemtune-chaos-") as name:
        outcomes = Counter(trials(Path(name), asked))
    for (what, result), count in sorted(outcomes.items()):
        sys.stdout.write(f"{count:4} {what}: {result}\n")
    lost = sum(count for (_, result), count in outcomes.items() if result.split()[0].isupper())
    sys.stdout.write(f"{outcomes.total()} trials, {lost} with something lost\n")
    sys.exit(bool(lost))


def trials(place: Path, asked: argparse.Namespace) -> Iterator[Outcome]:
    draw, model = random.Random(asked.seed), place / "tiny"
    command.spawn("tiny", "gemma3", model)
    first = folder_with(model, place / "here")
    began = time.monotonic()
    command.spawn("run", "t.yaml", cwd=first.parent)
    reference, seconds = kept(first), time.monotonic() - began
    for _ in range(asked.flips):
        yield from flipped(first, reference, draw)
    for _ in range(asked.kills):
        yield kills(folder_with(model, place / "here"), reference, seconds, draw)
    for level in LEVELS[: asked.levels]:
        yield full(folder_with(model, place / "here"), reference, level)
    yield together(folder_with(model, place / "here"), reference)


if __name__ == "__main__":
    main()
