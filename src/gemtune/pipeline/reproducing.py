"""`gemtune reproduce`: a run made again beside itself, and what of the two is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from gemtune.errors import RunError, VerificationError, listed, shown
from gemtune.files import JsonObject, read_jsonl, read_object, sha256_of
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job, Say, Tick
from gemtune.pipeline.resume import differences
from gemtune.pipeline.tuned_models import weights_folder
from gemtune.recipe.loader import as_data, recipe_of
from gemtune.recipe.places import without_places
from gemtune.recipe.schema import Recipe, deciders
from gemtune.run_contents import WHOLE
from gemtune.run_files import Stored
from gemtune.runs import PARTS, Run

NEAR = 1e-3  # of a loss: more than rounding moves it on another machine, in bf16 too
SURROUNDINGS = ("python", "packages", "sources", "data", "model", "hardware", "decisions")  # of gemtune.lock

Verdict = Literal["bytes", "metrics", "neither"]


@dataclass(frozen=True, kw_only=True)
class Compared(Stored):
    """One kind of result of both runs."""

    what: str
    same: bool  # to the last bit
    near: bool  # as near as rounding leaves it
    found: str


@dataclass(frozen=True, kw_only=True)
class Reproduction(Stored):
    """A run and the one that was made again: what they were made from where that differs, and their results."""

    run: str
    again: str
    differences: list[str]
    results: list[Compared]

    @property
    def verdict(self) -> Verdict:
        if all(result.same for result in self.results):
            return "bytes"
        return "metrics" if all(result.near for result in self.results) else "neither"


def reproduce(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    fresh: bool = False,
    trust_task: bool = False,
    say: Say = print,
    tick: Tick = lambda what, done, total: None,
    progress: Callable[[JsonObject], None] = lambda line: None,
) -> Reproduction:
    """Makes a run again, as `NAME-again` beside it unless `overrides` name it otherwise, and compares the two.

    It is prepared, trained and evaluated; nothing is exported or tracked. VerificationError where its rows are other
    ones than those of the run: then nothing is trained.
    """
    first = Job(path, trust_task=trust_task, say=say, tick=tick)
    _require_finished(first)
    job = Job(_recipe_again(first, overrides), fresh=fresh, trust_task=True, say=say, tick=tick)
    if job.run.root.resolve() == first.run.root.resolve():
        raise RunError(f"{job.run.root}: a run is not made again over itself; give another name=")
    say(f"{first.run.root} is made again as {job.run.root}.")
    stages.prepare(job)
    _require_same_rows(first, job)
    if first.run.summary():
        stages.run(job, progress)
    else:
        stages.train(job, progress)
    return compared(first, job)


def _require_finished(job: Job) -> None:
    """RunError where a run has no weights or no lock; a task that came with it is asked for first."""
    _ = job.task
    if job.run.training is None or job.run.lock_note() is None:
        raise RunError(f"{job.run.root}: no finished training with a {job.run.lock_file.name}; `gemtune run` makes one")


def _recipe_again(first: Job, overrides: Sequence[str]) -> Recipe:
    """The run's recipe with another name, and its model at the revision that the run was trained from."""
    revision = first.run.manifest.get("model", {}).get("revision")
    model = first.recipe.model.partition("@")[0]
    again = {
        **as_data(first.recipe),
        "name": f"{first.recipe.name}-again",
        "runs_dir": str(first.run.root.parent),
        "model": f"{model}@{revision}" if revision else first.recipe.model,
        "pages": None,  # its rows are distilled, and paid for
        "teacher": [],
        "export": [],
        "track": [],
    }
    return recipe_of(again, first.run.manifest_file.absolute(), overrides)


def _require_same_rows(first: Job, again: Job) -> None:
    changed = next(_changed_rows(first.run, again.run), None)
    if changed is None:
        return
    recipe = list(_recipe_differences(first, again))
    why = f" ({listed(recipe, 3)})" if recipe else ""
    raise VerificationError(
        f"{again.run.root}: {changed}{why}; nothing was trained: bring the rows back, or `gemtune run` trains on these"
    )


def _changed_rows(first: Run, again: Run) -> Iterator[str]:
    """The first row of each part that is not the one that the run has."""
    for part in PARTS:
        paths = [run.part(part) for run in (first, again)]
        if sha256_of(paths[0]) == sha256_of(paths[1]):
            continue
        for number, (before, after) in enumerate(zip_longest(*map(read_jsonl, paths)), 1):
            if before != after:
                row = (before or after or {}).get("where", "")
                yield f"row {number} of {part} ({row}) {_change(before, after)}"
                break


def _change(before: JsonObject | None, after: JsonObject | None) -> str:
    if before is None or after is None:
        return "is new" if before is None else "is gone"
    return f"has changed: {shown(next(differences(before, after), ''), 120)}"


def compared(first: Job, again: Job) -> Reproduction:
    """What two runs were made from, where that differs, and whether their results are the same."""
    results = [_losses(first.run, again.run), _weights(first, again), *_replies(first.run, again.run)]
    differing = [*_recipe_differences(first, again), *_lock_differences(first, again)]
    return Reproduction(run=str(first.run.root), again=str(again.run.root), differences=differing, results=results)


def _recipe_differences(first: Job, again: Job) -> Iterator[str]:
    """Of the keys that decide a result; of the model the lock knows more."""
    left, right = (
        without_places(deciders(job.recipe, "data", "tokens", "training", "evaluation")) | {"model": None}
        for job in (first, again)
    )
    yield from (f"recipe: {difference}" for difference in differences(left, right))


def _lock_differences(first: Job, again: Job) -> Iterator[str]:
    left, right = (note.to_json() if (note := job.run.lock_note()) else {} for job in (first, again))
    for section in SURROUNDINGS:
        yield from (f"{section}: {text}" for text in differences(left[section], right.get(section)))


def _losses(first: Run, again: Run) -> Compared:
    """Of training and of the evaluations in it, step by step."""
    kinds = ("loss", "eval_loss", "grad_norm")
    lines = [
        {(line["step"], kind): line[kind] for line in run.metrics() for kind in kinds if kind in line}
        for run in (first, again)
    ]
    steps = {step for step, kind in lines[0] if kind == "loss"}
    if lines[0].keys() != lines[1].keys():
        count = len({step for step, kind in lines[1] if kind == "loss"})
        return Compared(what="losses", same=False, near=False, found=f"of {len(steps)} steps, then of {count}")
    if lines[0] == lines[1]:
        return Compared(what="losses", same=True, near=True, found=f"the same to the last bit in {len(steps)} steps")
    moved = {at: _relative(lines[0][at], lines[1][at]) for at in lines[0] if at[1] != "grad_norm"}
    (step, kind), most = max(moved.items(), key=lambda entry: entry[1])
    where = f"{kind} at step {step} was {lines[0][step, kind]}, is {lines[1][step, kind]}"
    return Compared(what="losses", same=False, near=most <= NEAR, found=f"differ by up to {most:.1e}: {where}")


def _relative(before: float | None, after: float | None) -> float:
    if before is None or after is None:
        return 0.0 if before == after else float("inf")
    return abs(after - before) / max(abs(before), 1e-12)


def _weights(first: Job, again: Job) -> Compared:
    """The files of adapter/ or model/, by their digests; nearness is for losses and scores to tell."""
    folders = [weights_folder(job, "tuned") for job in (first, again)]
    digests = [read_object(folder / WHOLE) if folder.is_dir() else {} for folder in folders]
    names = sorted(digests[0].keys() | digests[1].keys())
    other = [name for name in names if digests[0].get(name) != digests[1].get(name)]
    found = f"other bytes in {listed(other, 5)}" if other else f"the same bytes in {len(names)} files"
    return Compared(what=folders[0].name, same=not other, near=digests[0].keys() == digests[1].keys(), found=found)


def _replies(first: Run, again: Run) -> Iterator[Compared]:
    """The replies of base and tuned, and their score, where the run was evaluated."""
    before, after = first.summary(), again.summary()
    if before is None:
        return
    if after is None:
        yield Compared(what="scores", same=False, near=False, found="there are none now")
        return
    for name in ("base", "tuned"):
        texts = [[line.reply for line in run.evaluation().evaluations(name)] for run in (first, again)]
        same = sum(a == b for a, b in zip(*texts, strict=False))
        found = f"{same} of {len(texts[0])} replies are the same"
        yield Compared(
            what=f"replies of {name}", same=texts[0] == texts[1], near=len(texts[0]) == len(texts[1]), found=found
        )
    was, is_ = before.deciding.tuned, after.metrics[before.metric].tuned
    words = f"{before.metric} was {was.mean:.4f} ({was.low:.4f} to {was.high:.4f}), is {is_.mean:.4f}"
    yield Compared(what="scores", same=was == is_, near=was.low <= is_.mean <= was.high, found=words)
