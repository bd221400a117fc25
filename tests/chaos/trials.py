"""What is done to a verb, and what came of it: the verb is given again, and has to end as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos.cases import Case, digests, litter, size_of
from chaos.machine import YEARS, Ended, Process, ask, clock_set_back, disk, read_only, resize, small_files

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LEVELS = (0.02, 0.2, 0.4, 0.6, 0.8, 0.95)  # of what a verb adds to a folder: so much room is left on the disk
_PICTURES = 4  # that a bit is turned over in
_ROOM = 256 << 20  # bytes of that disk when there is space again


@dataclass(frozen=True)
class Outcome:
    """What was done to which verb, how many files were compared, and what is wrong with the end; "" for nothing."""

    what: str
    verb: str
    files: int
    wrong: str = ""
    lost: int = 0  # of the files


@dataclass(frozen=True)
class Chance:
    """What the trials draw from, and whether disks can be mounted for them."""

    draw: random.Random
    mounts: bool


def kill(case: Case, chance: Chance) -> Outcome:
    """SIGKILL at one to three random moments."""
    case.fresh()
    for _ in range(chance.draw.randint(1, 3)):
        _stopped(case, chance.draw, signal.SIGKILL)
    return _given_again("kill -9", case)


def stop(case: Case, chance: Chance) -> Outcome:
    """A signal that asks it to end."""
    case.fresh()
    number = chance.draw.choice(SIGNALS)
    ended = _stopped(case, chance.draw, number)
    if ended.is_bug:
        return _wrong("a signal", case, f"{number.name}: {ended.said[-300:]}")
    return _given_again("a signal", case)


def _stopped(case: Case, draw: random.Random, number: signal.Signals) -> Ended:
    process = Process(case.arguments, case.here)
    time.sleep(draw.uniform(0, case.seconds))
    process.signal(number)
    return process.wait()


def full(case: Case, chance: Chance) -> Outcome:
    """A disk that is full after a share of what the verb writes, and has room again."""
    share = chance.draw.choice(LEVELS)
    size = size_of(case.before) + int(share * case.bytes)
    with disk(case.here, size) if chance.mounts else contextlib.nullcontext():
        case.fresh()
        first = (lambda: None) if chance.mounts else small_files(int(share * case.bytes / 4))
        ended = ask(case.arguments, case.here, first)
        if wrong := _refused(ended):
            return _wrong("full disk", case, wrong)
        if chance.mounts:
            resize(case.here, _ROOM)
        return _given_again("full disk", case)


def unwritable(case: Case, chance: Chance) -> Outcome:
    """A file system that is read-only: one line, nothing changed; and then it is writable."""
    case.fresh()
    before = digests(case.here)
    with read_only(case.here, chance.mounts):
        ended = ask(case.arguments, case.here)
    if wrong := _refused(ended) or ("changed" if digests(case.here) != before else ""):
        return _wrong("read-only", case, wrong)
    return _given_again("read-only", case)


def _refused(ended: Ended) -> str:
    """What is wrong with a refusal: it is one line and a next move, or there was nothing to refuse."""
    if ended.code == 0:
        return ""
    lines = ended.said.strip().splitlines() or [""]
    is_line = ended.code == 2 and lines[-1].startswith("gemtune: ") and ";" in lines[-1]
    return "" if is_line and not ended.is_bug else f"rc {ended.code}: {ended.said[-300:]}"


def clock_back(case: Case, _: Chance) -> Outcome:
    """Python's clock says six years ago, and the files that are there come from the future."""
    case.fresh()
    future = time.time() + YEARS
    for path in case.here.rglob("*"):
        os.utime(path, (future, future))
    ended = ask(case.arguments, case.here, clock_set_back)
    return _judged("clock set back", case, ended)


def together(case: Case, _: Chance) -> Outcome:
    """Two processes at once: both end well, or one is told that the other is at work."""
    case.fresh()
    processes = [Process(case.arguments, case.here) for _ in range(2)]
    ends = [process.wait() for process in processes]
    if not any(ended.code == 0 for ended in ends) or (wrong := next(filter(None, map(_refused, ends)), "")):
        return _wrong("two at once", case, wrong if any(not e.code for e in ends) else f"both: {ends}")
    return _given_again("two at once", case)


def flipped(case: Case, draw: random.Random, names: str) -> Iterator[Outcome]:
    """One bit turned over in files of a finished run: `run` makes them again, or says in a line which file it is.

    A checkpoint of a run that is finished is only read when it is asked for, and is refused then.
    """
    run = case.fresh() / "runs" / "t"
    for path in _some_of_each_folder(run, draw):
        if not path.match(names):
            continue
        case.fresh()
        before = path.read_bytes()
        data = bytearray(before)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        name, checkpoint = path.relative_to(run).as_posix(), path.parent.name
        if is_checkpoint := checkpoint.startswith("step-"):
            arguments: tuple[str, ...] = ("evaluate", "runs/t", "--checkpoint", checkpoint.removeprefix("step-"))
        else:
            arguments = case.arguments
        ended = ask(arguments, case.here)
        lost = [] if is_checkpoint else case.lost()
        if ended.code:
            is_named = (checkpoint if is_checkpoint else path.name) in ended.said and not _refused(ended)
            yield Outcome("a flipped bit", "said in a line", 1, "" if is_named else f"{name}: {ended.said[-300:]}")
        else:
            wrong = "a damaged checkpoint is used" if is_checkpoint else ", ".join(lost)
            if not wrong and path == run / "manifest.json" and _is_used(before, path.read_bytes()):
                wrong = "a damaged manifest is used"
            yield Outcome("a flipped bit", "made again", len(case.kept), f"{name}: {wrong}" if wrong else "", len(lost))


def _is_used(before: bytes, after: bytes) -> bool:
    """Whether a section of a manifest is another one; its seal is of none."""
    was, now = json.loads(before), json.loads(after)
    return any(now.get(name) != section for name, section in was.items() if name != "seal")


def _some_of_each_folder(run: Path, draw: random.Random) -> Iterator[Path]:
    """All files, but only some of the pictures."""
    paths = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    pictures = [path for path in paths if "images" in path.parts]
    chosen = draw.sample(pictures, min(_PICTURES, len(pictures)))
    yield from (path for path in paths if path not in pictures or path in chosen)


def _given_again(what: str, case: Case) -> Outcome:
    return _judged(what, case, ask(case.arguments, case.here))


def _judged(what: str, case: Case, ended: Ended) -> Outcome:
    """Whether a verb that has ended left what it leaves undisturbed, and nothing else."""
    lost = case.lost()
    if ended.code and (lost or _refused(ended)):  # a verb that had done its work may say that it is done
        return _wrong(what, case, f"the verb given again: rc {ended.code}: {ended.said[-300:]}")
    if lost:
        return _wrong(what, case, f"other bytes: {', '.join(lost)}", len(lost))
    if names := litter(case.here):
        return _wrong(what, case, f"left behind: {', '.join(names)}")
    return Outcome(what, case.verb, len(case.kept))


def _wrong(what: str, case: Case, wrong: str, lost: int = 0) -> Outcome:
    return Outcome(what, case.verb, len(case.kept), " ".join(wrong.split()), lost)


TRIALS: dict[str, Callable[[Case, Chance], Outcome]] = {
    "kill -9": kill,
    "a signal": stop,
    "full disk": full,
    "read-only": unwritable,
    "clock set back": clock_back,
    "two at once": together,
}
