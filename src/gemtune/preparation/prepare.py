"""prepare: rows become conversations, repeats go, groups are split, and what leaks across the split is reported.

Memory stays flat: the texts wait in scratch files beside the run, a row costs some eighty bytes of hashes and offsets,
and a question 128 bytes of signature.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemtune.data.conversation import read_conversations
from gemtune.data.downloads import download
from gemtune.data.image_sources import Places
from gemtune.data.images import ImageStore
from gemtune.data.sources import check_columns, is_hub, read_rows, source_files
from gemtune.errors import DataError, RowError
from gemtune.files import os_errors, read_json, replacing, sha256_of, sha256_of_text, write_json, write_jsonl
from gemtune.metrics.text import normalise_text
from gemtune.preparation.near_duplicates import Sketch, leaks, near_duplicates
from gemtune.preparation.row_store import Hashes, Numbers, Picked, Spool
from gemtune.recipe.schema import DataSource, Recipe, Split, deciders
from gemtune.runs import PARTS, VERSIONS, Run
from gemtune.tasks import Row, Task, task_of, text_of

AUDITED = 0.8  # the similarity from which two questions on different sides of the split are reported
# Repeats are looked for within one pool: rows of a source with a `part` stay where the user put them, and are audited.
_POOLS = ("auto", *PARTS)
_TRAIN, _VAL, _TEST = range(len(PARTS))


def prepare(recipe: Recipe, run: Run, progress: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Writes the run's data directory and returns its manifest; at once when nothing it is made from has changed."""
    with prepared(recipe, run, progress) as result:
        manifest: dict[str, Any] = read_json(result.data_manifest_file)
    return manifest


@contextlib.contextmanager
def prepared(
    recipe: Recipe,
    run: Run,
    progress: Callable[[int], None] = lambda done: None,
    refuse: Callable[[str], None] = lambda fingerprint: None,
) -> Iterator[Run]:
    """Yields a run whose data directory is what the recipe says: `run` itself when nothing it is made from has changed.

    Otherwise it is one inside the run, and its data takes the place of the run's when the block ends without an error.
    `refuse` may raise on the data's fingerprint before any row is read; `progress` is told now and then how many rows
    have been read. Call it with the run locked.
    """
    digests = [_digest(data) for data in recipe.data]
    fingerprint = _fingerprint(recipe, digests)
    refuse(fingerprint)
    if None not in digests and _is_up_to_date(run, fingerprint):
        yield run
        return
    with _staging(run) as staged:
        with Spool(staged.root, recipe) as spool:
            rows_of = _read(recipe, spool, staged, progress)
            sources = [
                {"source": data.source, "format": data.format, "rows": rows, "sha256": digest}
                for data, rows, digest in zip(recipe.data, rows_of, digests, strict=True)
            ]
            made = {"version": VERSIONS["data"], "fingerprint": fingerprint, "task": recipe.task, "sources": sources}
            manifest = {**made, "rows_read": sum(rows_of), **_sift(recipe, staged, spool)}
            write_json(staged.data_manifest_file, manifest)
        yield staged


def _sift(recipe: Recipe, staged: Run, spool: Spool) -> dict[str, Any]:
    """Drops repeats, splits, audits, writes everything but the manifest, and returns what the manifest says of it."""
    alive = _without_repeats(recipe, spool)
    alive, questions, sketch = _without_near_duplicates(recipe, spool, alive)
    groups = spool.hashes("group")
    parts = np.full(len(spool), -1, np.int8)
    parts[alive] = _parts(recipe.split, groups[alive], spool.hashes("pool")[alive])
    if not (parts == _TRAIN).any():
        raise DataError(_no_train(recipe, spool, len(alive)))
    for number, name in enumerate(PARTS):
        with replacing(staged.part(name)) as out:
            out.writelines(spool.conversations[row] + "\n" for row in np.flatnonzero(parts == number).tolist())
    write_jsonl(staged.dropped_file, spool.drops())
    _forget_images(staged)
    return {
        "kept": {name: int((parts == number).sum()) for number, name in enumerate(PARTS)},
        "dropped": dict(spool.reasons.most_common()),
        "groups": {name: int(np.unique(groups[parts == number]).size) for number, name in enumerate(PARTS)},
        "split": recipe.split.model_dump(),
        "leaks": write_jsonl(staged.leaks_file, _leaks(sketch, spool, questions, parts)),
        "audited_similarity": AUDITED,
    }


def _forget_images(staged: Run) -> None:
    """Removes the images of rows that were dropped."""
    if not staged.images.exists():
        return
    kept = {part.image for name in PARTS for c in read_conversations(staged.part(name)) for part in c.images}
    for path in staged.images.rglob("*.*"):
        if path.relative_to(staged.data).as_posix() not in kept:
            path.unlink()


def _digest(data: DataSource) -> str | None:
    """The SHA-256 of the source's bytes (of its files' SHA-256s, where there are several); None for the Hub."""
    archives = [path for path in map(Path, data.images) if path.is_file()]
    digests = [sha256_of(path) for path in (*source_files(data), *archives)]
    return sha256_of_text(*digests) if len(digests) > 1 else next(iter(digests), None)


def _fingerprint(recipe: Recipe, digests: list[str | None]) -> str:
    file, colon, _ = recipe.task.rpartition(":")
    own = sha256_of(Path(file)) if colon and Path(file).is_file() else ""
    return sha256_of_text(str(VERSIONS["data"]), own, json.dumps([digests, deciders(recipe, "data")], sort_keys=True))


def _is_up_to_date(run: Run, fingerprint: str) -> bool:
    written = [run.data_manifest_file, run.dropped_file, run.leaks_file, *map(run.part, PARTS)]
    return all(path.is_file() for path in written) and read_json(run.data_manifest_file)["fingerprint"] == fingerprint


@contextlib.contextmanager
def _staging(run: Run) -> Iterator[Run]:
    """A run inside the run, whose data directory becomes the run's when the block ends without an error."""
    for left_by_a_kill in run.root.glob(".prepare-*"):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    with os_errors(run.root):
        run.root.mkdir(parents=True, exist_ok=True)
        staged = Run(Path(tempfile.mkdtemp(dir=run.root, prefix=".prepare-")))
        staged.data.mkdir()
    try:
        yield staged
        with os_errors(run.data):
            if run.data.exists():
                run.data.rename(staged.root / "replaced")
            staged.data.rename(run.data)
    finally:
        shutil.rmtree(staged.root, ignore_errors=True)


def _refuse_test_split(data: DataSource) -> None:
    """DataError where a benchmark's test rows would be trained on without the recipe saying so."""
    is_test = is_hub(data) and ("test" in data.hub_split or "bench" in data.source.lower())
    if is_test and data.part == "auto" and not data.train_on_test:
        raise DataError(
            f"{data.source} ({data.hub_split}) is a benchmark's test split; set data.part: test to score on it, or "
            "data.train_on_test: true to train on it, after which its scores mean nothing"
        )


def image_store(run: Run, data: DataSource) -> ImageStore:
    """The images of a run's data directory, to which those that rows of a source name are added."""
    files = source_files(data)
    base = files[0].parent if files else Path()
    return ImageStore(run.data, Places(base, data.images, download if data.download_images else None).find)


def _read(recipe: Recipe, spool: Spool, staged: Run, progress: Callable[[int], None]) -> list[int]:
    """Reads every source into the spool and returns how many rows each had."""
    done, rows_of = 0, []
    by = [] if recipe.split.by is None else [recipe.split.by]
    for data in recipe.data:
        _refuse_test_split(data)
        task, before = task_of(recipe, data.layout), done
        store = image_store(staged, data)
        for where, row in read_rows(data):
            check_columns(row, by if done > before else [*task.columns, *by], where)
            try:
                _add(recipe, spool, data, task, row, where, store)
            except RowError as error:
                spool.refuse(where, error)
            done += 1
            if done % 256 == 0:
                progress(done)
        rows_of.append(done - before)
    progress(done)
    return rows_of


def _add(recipe: Recipe, spool: Spool, data: DataSource, task: Task, row: Row, where: str, store: ImageStore) -> None:
    by = recipe.split.by
    made = store.resolved(task.conversation(row, where))
    seen = " ".join(made.image_paths)  # by content: the same picture under two names is one
    group = (seen or normalise_text(made.key)) if by is None else text_of(row, by)
    if by is not None and not group:
        raise RowError("no group", f"column '{by}' (split.by) is empty; fill it, or split by another column")
    made = replace(made, group=group, weight=data.weight)
    identity = None if by == "id" or row.get("id") in (None, "") else str(row["id"])
    try:
        spool.add(made, _POOLS.index(data.part), f"{task.apart(made)} {seen}".strip(), identity)
    except UnicodeEncodeError as error:
        raise RowError("bad unicode", "half a surrogate pair; the text was cut inside an emoji") from error


def _repeats(hashes: Hashes, rows: Numbers) -> tuple[Numbers, Numbers]:
    """The rows whose hash a row before them has, and for each of them the first such row."""
    _, first, inverse = np.unique(hashes[rows], return_index=True, return_inverse=True)
    firsts = rows[first[inverse]]
    return rows[firsts != rows], firsts[firsts != rows]


def _without_repeats(recipe: Recipe, spool: Spool) -> Numbers:
    """The rows whose id is not taken by another row and that are not the same as a row before them."""
    alive, content = np.arange(len(spool)), spool.hashes("content")
    taken, first = _repeats(spool.hashes("id"), alive[spool.hashes("id") != 0])
    differs = content[taken] != content[first]
    for row, other in zip(taken[differs].tolist(), first[differs].tolist(), strict=True):
        error = RowError("duplicate id", f"{spool.conversation(other)['where']} has this id and says something else")
        spool.refuse(spool.conversation(row)["where"], error)
    alive = np.setdiff1d(alive, taken[differs], assume_unique=True)
    if recipe.prepare.dedupe == "none":
        return alive
    return _drop_repeats(spool, alive, "content", "duplicate", "the same as")


def _drop_repeats(spool: Spool, alive: Numbers, name: str, reason: str, words: str) -> Numbers:
    later, first = _repeats(spool.hashes(name), alive)
    for row, other in zip(later.tolist(), first.tolist(), strict=True):
        spool.drop(spool.conversation(row)["where"], reason, f"{words} {spool.conversation(other)['where']}")
    return np.setdiff1d(alive, later, assume_unique=True)


def _without_near_duplicates(recipe: Recipe, spool: Spool, alive: Numbers) -> tuple[Numbers, Numbers, Sketch]:
    """The rows that stay, and the first rows of all different questions with a sketch of those questions' texts.

    A question that is almost one before it goes with all its rows. Rows with the very same question stay where their
    answers differ: they are one group, so they are never on two sides of the split.
    """
    is_near = recipe.prepare.dedupe == "near"
    if is_near:
        alive = _drop_repeats(spool, alive, "twin", "near duplicate", "but for case and white space the same as")
    question = spool.hashes("question")
    rows = alive[np.sort(np.unique(question[alive], return_index=True)[1])]
    sketch = Sketch(Picked(spool.questions, rows))
    found = near_duplicates(sketch, recipe.prepare.similarity, spool.hashes("fence")[rows]) if is_near else []
    near_of = {int(question[rows[near.text]]): near for near in found}
    gone = alive[np.isin(question[alive], np.array(list(near_of), np.uint64))]
    for row in gone.tolist():
        near = near_of[int(question[row])]
        where = spool.conversation(int(rows[near.other]))["where"]
        spool.drop(spool.conversation(row)["where"], "near duplicate", f"similarity {near.similarity:.2f} with {where}")
    return np.setdiff1d(alive, gone, assume_unique=True), rows, sketch


def _parts(split: Split, groups: Hashes, pools: Hashes) -> NDArray[np.int8]:
    """The part of every row, by where its group's hash lies between 0 and 1: test first, then val, then train."""
    places = groups / 2.0**64
    free = np.sort(places[pools == 0])
    test_end = _end(0.0, split.test, free)
    val_end = _end(test_end, split.val, free)
    by_hash = np.select([places < test_end, places < val_end], [_TEST, _VAL], _TRAIN)
    return np.where(pools == 0, by_hash, pools.astype(np.int64) - 1).astype(np.int8)


def _end(start: float, size: float, places: NDArray[np.float64]) -> float:
    """Where a part that starts at `start` ends: a share is as wide as it says, a number reaches so many rows' groups.

    >>> _end(0.1, 0.2, np.array([0.05, 0.15, 0.15, 0.4])), _end(0.1, 1, np.array([0.05, 0.15, 0.15, 0.4])) > 0.15
    (0.30000000000000004, True)
    """
    if size < 1:
        return start + size
    after = places[np.searchsorted(places, start) :]
    return float(np.nextafter(after[min(math.ceil(size), len(after)) - 1], 2.0)) if len(after) else start


def _leaks(sketch: Sketch, spool: Spool, questions: Numbers, parts: NDArray[np.int8]) -> Iterator[dict[str, Any]]:
    """Yields for every question of val and test the closest one in each part before its own, from AUDITED on."""
    for near in leaks(sketch, AUDITED, spool.hashes("apart")[questions], parts[questions]):
        pair: dict[str, Any] = {}
        for side, place in (("a", near.text), ("b", near.other)):
            row = int(questions[place])
            value = spool.conversation(row)
            pair |= {f"part_{side}": PARTS[parts[row]], f"where_{side}": value["where"], f"key_{side}": value["key"]}
        yield {**pair, "similarity": round(near.similarity, 4)}


def _no_train(recipe: Recipe, spool: Spool, alive: int) -> str:
    source = ", ".join(data.source for data in recipe.data)
    read = spool.reasons.total() + alive
    if alive:
        split = recipe.split
        return (
            f"{source}: no row is left to train on: all {alive} that can be used are val or test "
            f"(split.val {split.val:g}, split.test {split.test:g}, by {split.by or 'question'}); lower them or add rows"
        )
    if not read:
        return f"{source}: no rows; a recipe needs some to train on"
    reason, count = spool.reasons.most_common(1)[0]
    first = next(value for value in spool.drops() if value["reason"] == reason)
    return (
        f"{source}: no row is left to train on: {read} read, {count} of them dropped as '{reason}', the first at "
        f"{first['where']} ({first['detail']}); mend the rows, or check `task` and `data.columns`"
    )
