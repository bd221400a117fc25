"""Does gemtune hold against every kind of hostile input that an attack on it found? Time, memory, and what came of it.

    python -m benchmarks.studies.hostile

Each kind is written into an empty folder and met by the command line, in a process of its own, which is killed after
five minutes. Beside it is what was measured at first, on the commit that was attacked. `--only sql rows` tries some.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.results import table
from benchmarks.hostile import archives, downloads, models, recipes, rows, runs, sql
from benchmarks.hostile.place import DROPPED, REFUSED, USUAL, Command, Kind, Made, Place, prepare
from benchmarks.machine import ROOT, WORK, write_page
from gemtune.files import JsonObject, read_json, write_json
from gemtune.reporting.text import markdown, one_line

AREAS = {
    module.__name__.rpartition(".")[2]: module for module in (recipes, rows, sql, archives, downloads, models, runs)
}
KEPT = WORK / "hostile.json"  # the rows of the page, as far as it has got
LONGEST = 300.0  # seconds of the clock until a command is killed
MOST_LINE = 1_000  # characters of a refusal, ...
MOST_SAID = 110  # ... of which so many are shown
# Starts the command and writes what it used: a large parent's own memory would be counted as the child's.
LAUNCH = """
import json, os, sys
pid = os.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "-m", "gemtune", *sys.argv[2:]])
_, status, used = os.wait4(pid, 0)
with open(sys.argv[1], "w") as out:
    json.dump([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6], out)
"""
ACTS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")  # on a terminal
BODY = """\
Held: {held} of {count} kinds. A kind holds when every command that meets it ends within five minutes, refuses it in
one line of at most {line:,} characters, drops its rows, or goes on as usual, whichever is right for it; when nothing
acts on the terminal; and when it takes at most 30 s and 500 MB more than the same command on harmless input (the
largest pictures: 900 MB). Seconds are those of processors, children's too, of the slowest command, with the start of
Python; memory is the most that any one process had, children among them. "Then" is commit 9141068, before anything was
mended, by the clock.

{table}

Harmless input:

{harmless}

Not here: kills, signals, full and read-only disks, the clock set back and two processes (`make chaos`), and mutants by
chance (`make fuzz`).
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it used."""

    code: int
    seconds: float
    megabytes: float
    out: str
    err: str

    @property
    def outcome(self) -> str:
        """One of REFUSED, DROPPED and USUAL, or what went wrong."""
        lines = self.err.strip().splitlines()
        if self.code < 0:
            return "did not end" if self.seconds >= LONGEST else f"ended by signal {-self.code}"
        if ACTS.search(self.out + self.err):
            return "acts on the terminal"
        if self.code == 2 and lines[-1:] and lines[-1].startswith("gemtune: ") and "Traceback" not in self.err:
            return REFUSED if max(map(len, lines)) <= MOST_LINE else f"a line of {max(map(len, lines)):,} characters"
        if self.code == 0:
            return DROPPED if re.search(r"^  dropped \d+: ", self.out, re.MULTILINE) else USUAL
        return f"exit code {self.code}: {(lines or ['without a word'])[-1][:100]}"

    @property
    def said(self) -> str:
        """Why rows were dropped, or are not scored, or the line of the refusal."""
        reasons = re.findall(r"^  dropped \d+: (.*)$", self.out, re.MULTILINE)
        reasons += re.findall(r"^    \d+ (?:without|of train whose) [^:]*: (.*)$", self.out, re.MULTILINE)
        line = next((line.removeprefix("gemtune: ") for line in reversed(self.err.splitlines())), "")
        return ", ".join(reasons) or (line if self.code else "")


@dataclass(frozen=True)
class Tried:
    """A kind, the commands that met it, and what is wrong then."""

    kind: Kind
    ends: list[tuple[str, Ended]]  # with their verbs
    wrong: str

    def row(self, harmless: dict[str, Ended]) -> list[str]:
        ends = [end for _, end in self.ends]
        outcomes = Counter(end.outcome for end in ends)
        came = ", ".join(f"{count} × {outcome}" if len(ends) > 1 else outcome for outcome, count in outcomes.items())
        said = one_line(next((end.said for end in ends if end.said), ""), MOST_SAID)
        seconds, megabytes = max(end.seconds for end in ends), max(end.megabytes for end in ends)
        judged = self.wrong or self._too_much(harmless) or "held"
        cells = (
            self.kind.what,
            self.kind.then,
            f"{seconds:.1f}",
            f"{megabytes:,.0f}",
            f"{came}: {said}" if said else came,
        )
        return [*map(markdown, cells), judged]

    def _too_much(self, harmless: dict[str, Ended]) -> str:
        """What was more, or other, than it may be."""
        for verb, end in self.ends:
            usual = harmless.get(verb, harmless["prepare"])
            if end.outcome not in self.kind.wanted:
                return f"wanted: {self.kind.wanted}"
            if end.seconds > usual.seconds + self.kind.seconds:
                return "too slow"
            if end.megabytes > usual.megabytes + self.kind.megabytes:
                return "too large"
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=AREAS, default=list(AREAS), help="areas; no page is written then")
    parser.add_argument("--resume", action="store_true", help=f"take what was tried before from {KEPT.name}")
    args = parser.parse_args()
    kept: JsonObject = read_json(KEPT) if args.resume and KEPT.exists() else {"rows": {}, "usual": {}}
    kinds = [kind for area in args.only for kind in AREAS[area].kinds()]
    if any(kind.what not in kept["rows"] for kind in kinds):
        try_all(kinds, kept)
    shown = [kept["rows"][kind.what] for kind in kinds]
    held = sum(row[-1] == "held" for row in shown)
    usual = [[verb, *used] for verb, used in kept["usual"].items()]
    tables = {
        "table": table("kind | then | s | MB | what comes of it | ", shown),
        "harmless": table("command | s | MB", usual),
    }
    body = BODY.format(held=held, count=len(shown), line=MOST_LINE, **tables)
    if args.only == list(AREAS):
        write_page(__file__, "Hostile input", body)
    else:
        print(body)
    sys.exit(held < len(shown))


def try_all(kinds: list[Kind], kept: JsonObject) -> None:
    """Tries those that were not tried before; every row is kept as soon as there is one."""
    with tempfile.TemporaryDirectory() as folder, downloads.served() as address:
        os.environ |= {"GEMTUNE_CACHE": f"{folder}/cache", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
        made, harmless = all_made(Path(folder), address)
        kept["usual"] = {verb: [f"{end.seconds:.1f}", f"{end.megabytes:,.0f}"] for verb, end in harmless.items()}
        for kind in (kind for kind in kinds if kind.what not in kept["rows"]):
            kept["rows"][kind.what] = tried(kind, Path(folder) / "place", made).row(harmless)
            print(*kept["rows"][kind.what], sep=" | ", file=sys.stderr, flush=True)
            write_json(KEPT, kept)


def all_made(folder: Path, address: str) -> tuple[Made, dict[str, Ended]]:
    """The models and the run that kinds spoil, and what every verb takes on harmless input: the second time, warm."""
    made = Made(folder / "model", folder / "vision", folder / "project", address)
    made.project.mkdir()
    place = Place(made.project, made)
    place.emoji()
    place.recipe(train={"save_steps": 1})
    done = []
    for command in (
        ("tiny", "gemma3", str(made.model)),
        ("tiny", "gemma3-vision", str(made.vision)),
        ("run", "t.yaml"),
    ):
        done.append(run(command, made.project))
    harmless = {}
    for command in (
        *(
            prepare(),
            ("check", "t.yaml"),
            ("train", "t.yaml"),
            ("run", "t.yaml"),
            ("report", "runs/t"),
            ("show", "t.yaml"),
        ),
        *(("generate", "runs/t", "hi"), ("evaluate", "runs/t")),
    ):
        harmless[command[0]] = run(command, made.project)
    for end in (*done, *harmless.values()):
        if end.code:
            raise RuntimeError(f"harmless input is refused: {end.err}")
    return made, harmless


def tried(kind: Kind, folder: Path, made: Made) -> Tried:
    """What comes of a kind in an empty folder."""
    folder.mkdir()
    try:
        place = Place(folder, made)
        ends = [(command[0], run(command, folder, kind)) for command in kind.commands(place)]
        return Tried(kind, ends, kind.wrong(place))
    finally:
        shutil.rmtree(folder)


def run(command: Command, folder: Path, kind: Kind | None = None) -> Ended:
    """`gemtune COMMAND` in a folder, with what it used; killed, with its children, after five minutes."""
    used = folder.parent / "used.json"
    used.unlink(missing_ok=True)
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", LAUNCH, str(used), *command],
        cwd=folder,
        env={**os.environ, **(kind.environment if kind else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate((kind.answers if kind else "").encode(), timeout=LONGEST)
        code, seconds, megabytes = json.loads(used.read_text())
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code, seconds, megabytes = -signal.SIGKILL, LONGEST, 0.0
    said = (text.decode("utf-8", "replace").replace(f"{folder}/", "") for text in (out, err))
    return Ended(code, seconds, megabytes, *said)


if __name__ == "__main__":
    main()
