"""Does `gemtune distill` (or `run`) of shipped documents, killed on the way, lose a page or pay for one unlisted?

    python -m benchmarks.studies.distill_kills [--kills 5] [--documents 'letter/*.pdf'] [--verb run --model TINY]

Two folders are made by the recipe that ships, with another teacher: one in one go, one whose process is killed
`--kills` times: whenever the ledger has grown by another share, and of `run` also once it trains and once base has
answered. Both ask a server on loopback (`benchmarks.scripted_teacher`) that is slow, answers 429 with a wait in its
head or body, 500, HTML, half a reply, a wrong or a cut one, and drops connections. Printed is whether the rows are the
same bytes, whether what the server charged is what the ledger has, and which replies may have been paid for twice.
`key=value` changes the recipe, as on the command line of gemtune.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import ROOT
from benchmarks.scripted_teacher import ScriptedTeacher, faults_of_ledger, seeded, truth_of
from gemtune.documents.folder import DistilledFolder
from gemtune.documents.teacher import Ledger
from gemtune.files import sha256_of
from gemtune.runs import Run

DOCUMENTS = ROOT / "examples" / "documents"
RECIPE = ROOT / "recipes" / "documents.yaml"
MOST_STOPS = 3  # of a verb that nobody has killed: the teacher may be ill for a while


@dataclass(frozen=True)
class Outcome:
    """What a folder has come to."""

    kills: int
    seconds: float
    rows: bytes
    replies: dict[str, str]  # of base and tuned -> their digest; none of `distill`
    requests: int  # that the server saw
    charged: tuple[int, int]  # by the server: tokens in and out
    ledger: tuple[int, int]
    faults: list[str]  # where server and ledger differ
    twice: list[str]  # replies that were paid for twice, and are not listed as such
    listed: int  # requests that may have been charged for nothing
    charged_for_listed: int  # by the server: tokens

    def line(self) -> str:
        return (
            f"killed {self.kills} times, {self.seconds:.0f} s: {len(self.rows.splitlines())} rows, "
            f"{self.requests} requests; the server charged {sum(self.charged):,} tokens = {sum(self.ledger):,} in the "
            f"ledger + {self.charged_for_listed:,} of the {self.listed} requests that it lists as perhaps charged: "
            f"{'yes' if self.adds_up else 'NO'}; {len(self.faults)} differences, {len(self.twice)} paid twice unlisted"
        )

    @property
    def adds_up(self) -> bool:
        return sum(self.charged) == sum(self.ledger) + self.charged_for_listed


def outcome(
    place: Path, documents: str, kills: int, verb: str = "distill", changes: Sequence[str] = (), **sections: Any
) -> Outcome:
    """Runs a verb to its end in a new folder, with kills on the way; `sections` take the place of the recipe's."""
    folder, run = DistilledFolder(place / "distilled" / "documents"), Run(place / "runs" / "documents")
    log, start = place / "served.jsonl", time.monotonic()
    truth_file = _truth(place, documents)
    moments = _moments(folder, run, kills, verb, len(truth_file.read_bytes().splitlines()))
    with ScriptedTeacher(truth_of(truth_file, folder.root), seeded(7), log=log, slow=6.0) as teacher:
        recipe = place / "documents.yaml"
        recipe.write_text(yaml.safe_dump(_recipe(place, documents, teacher.url) | sections), encoding="utf-8")
        killed = 0
        for _ in range(kills + MOST_STOPS):
            process = _start(verb, recipe, changes)
            if killed < kills and _killed(process, moments[killed]):
                killed += 1
            elif process.wait() == 0:
                break
        else:
            raise SystemExit(f"{verb} does not come to its end:\n{(place / 'said.txt').read_text()[-2000:]}")
    served = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    ledger = Ledger(folder.ledger_file)
    total, perhaps = ledger.total(), {intent.intent for intent in ledger.maybe_charged()}
    charged = [line for line in served if line["charged"]]
    whole = Counter((line["page"], line["task"]) for line in charged if not line["fault"] and line["id"] not in perhaps)
    answers = {name: run.evaluation().replies(name) for name in ("base", "tuned")}
    return Outcome(
        kills=killed,
        seconds=time.monotonic() - start,
        rows=folder.rows_file.read_bytes(),
        replies={name: sha256_of(path) for name, path in answers.items() if path.exists()},
        requests=len(served),
        charged=(sum(line["input"] for line in charged), sum(line["output"] for line in charged)),
        ledger=(total.usage.input, total.usage.output),
        faults=faults_of_ledger(log, folder.ledger_file),
        twice=[f"{page} {task}" for (page, task), count in whole.items() if count > 1],
        listed=len(perhaps),
        charged_for_listed=sum(line["input"] + line["output"] for line in charged if line["id"] in perhaps),
    )


def _moments(folder: DistilledFolder, run: Run, kills: int, verb: str, requests: int) -> list[Callable[[], bool]]:
    """When a process is killed, in order. A request is two lines of the ledger, and some are asked again."""
    late = [lambda: _lines(run.metrics_file) >= 1, run.evaluation().replies("base").exists] if verb == "run" else []
    late = late[: max(0, kills - 1)]
    early = kills - len(late)
    shares = [2 * requests * number // (early + 1) for number in range(1, early + 1)]
    return [*((lambda lines=lines: _lines(folder.ledger_file) >= lines) for lines in shares), *late]


def _truth(place: Path, documents: str) -> Path:
    """The true replies of the documents that a glob takes, under the names that it gives them."""
    lines = map(json.loads, (DOCUMENTS / "truth.jsonl").read_text(encoding="utf-8").splitlines())
    chosen = [line for line in lines if not documents or fnmatch(line["document"], documents)]
    start = len(documents.rpartition("/")[0]) + 1 if documents else 0
    path = place / "truth.jsonl"
    texts = (json.dumps(line | {"document": line["document"][start:]}, ensure_ascii=False) for line in chosen)
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def _recipe(place: Path, documents: str, url: str) -> dict[str, Any]:
    """The recipe that ships, with the teacher on loopback; its paths are whole ones."""
    recipe: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    return recipe | {
        "runs_dir": str(place / "runs"),
        "pages": {"source": str(DOCUMENTS / documents), "folder": str(place / "distilled")},
        "teacher": {"url": url, "model": "m", "timeout": 3.0, "concurrency": 4, "attempts": 8},
        "privacy": {"findings": "allow", "unscanned": "allow", "ocr": False},
    }


def _start(verb: str, recipe: Path, changes: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts gemtune in a session of its own, so that a kill takes the processes that draw, too."""
    with (recipe.parent / "said.txt").open("ab") as said:
        return subprocess.Popen(  # noqa: S603 (written here)
            [sys.executable, "-m", "gemtune", verb, str(recipe), *changes],
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def _killed(process: subprocess.Popen[bytes], is_time: Callable[[], bool]) -> bool:
    """Kills the process when it is time; False where it has ended before."""
    while process.poll() is None:
        if is_time():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.01)
    return False


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--documents", default="", help="a glob in a folder of examples/documents; else all")
    parser.add_argument("--verb", choices=["distill", "run"], default="distill")
    parser.add_argument("--model", help="of `run`: a folder; `gemtune tiny gemma3-vision TINY` writes one")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="of the recipe")
    options = parser.parse_args()
    sections = {"model": str(Path(options.model).absolute())} if options.model else {}
    with tempfile.TemporaryDirectory() as root:
        outcomes = []
        for kills in (0, options.kills):
            place = Path(root) / str(kills)
            place.mkdir()
            outcomes.append(outcome(place, options.documents, kills, options.verb, options.changes, **sections))
            print(outcomes[-1].line(), flush=True)
    plain, killed = outcomes
    for fault in [*plain.faults, *killed.faults, *plain.twice, *killed.twice]:
        print(f"  {fault}")
    print(f"rows.jsonl the same, byte for byte: {'yes' if plain.rows == killed.rows else 'NO'}")
    for name, digest in plain.replies.items():
        print(f"replies of {name} the same: {'yes' if killed.replies.get(name) == digest else 'NO'}")


if __name__ == "__main__":
    main()
