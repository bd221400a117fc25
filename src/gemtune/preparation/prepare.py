"""Rows become conversations; duplicates are dropped; groups are kept whole when splitting; leaks are reported.

Memory stays flat: texts and hashes are in scratch files beside the run; a row takes a few bytes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.data.downloads import ahead
from gemtune.data.images import is_whole
from gemtune.data.sources import read_rows, source_files
from gemtune.errors import DataError, RowError, RunError
from gemtune.files import (
    JsonObject,
    replacing,
    sha256_of,
    sha256_of_text,
    write_json,
    write_jsonl,
)
from gemtune.metrics.text import normalise_text
from gemtune.preparation.candidates import mixed
from gemtune.preparation.claims import write_claims
from gemtune.preparation.duplicates import join_groups, without_exact_copies, without_near_copies
from gemtune.preparation.near_duplicates import Questions
from gemtune.preparation.reading import (
    Source,
    conversations_of,
    downloads_for,
    image_store,
    images_of,
    refuse_test_rows,
)
from gemtune.preparation.row_store import RowStore
from gemtune.preparation.scratch import Mask, numbers_of, repeats
from gemtune.preparation.split import Parts, groups_named, groups_of, leak_lines, split
from gemtune.recipe.places import without_places
from gemtune.recipe.schema import DataSource, Recipe, deciders
from gemtune.run_files import DataManifest, SourceRows, move_of
from gemtune.runs import PARTS, REVISIONS, VERSIONS, Run
from gemtune.tasks import Row, task_of, text_of

# Duplicates are found within one pool: rows of a source with a `part` stay where the user put them, but are audited.
_POOLS = ("auto", *PARTS)
_NAMED = 3  # reasons that an error names when no row is left


def prepare(recipe: Recipe, run: Run, progress: Callable[[int], None] = lambda rows: None) -> DataManifest:
    """Writes the run's data directory and returns its manifest; nothing is done when no input has changed."""
    with prepared(recipe, run, progress) as result:
        return result.prepared_data()


@contextlib.contextmanager
def prepared(
    recipe: Recipe,
    run: Run,
    progress: Callable[[int], None] = lambda rows: None,
    refuse: Callable[[str], None] = lambda fingerprint: None,
) -> Iterator[Run]:
    """Yields a run whose data directory is what the recipe says: `run` itself when no input has changed.

    Otherwise it is one inside the run, and its data replaces the run's when the block ends without an error. `refuse`
    may raise on the data's fingerprint before any row is read; `progress` is told from time to time how many rows have
    been read. Call it with the run locked.
    """
    digests = [_digest(data) for data in recipe.data]
    fingerprint = _fingerprint(recipe, digests)
    refuse(fingerprint)
    if None not in digests and _is_up_to_date(run, fingerprint):
        yield run
        return
    with run.staging() as staged:
        _write_data(recipe, staged, fingerprint, digests, progress)
        yield staged


def _write_data(
    recipe: Recipe, staged: Run, fingerprint: str, digests: list[str | None], progress: Callable[[int], None]
) -> None:
    """Reads all rows, drops duplicates, splits, audits and writes."""
    with RowStore(staged.root, recipe) as store:
        rows_of = _read(recipe, store, staged, progress)
        remaining, questions = _without_copies(recipe, store)
        parts = _parts(recipe, store, remaining)
        _write_rows(staged, store, parts)
        images = _keep_used_images(staged)
        scored, unscored = write_claims(staged, task_of(recipe), _train_doubts(store, parts))
        leaks = write_jsonl(staged.leaks_file, leak_lines(store, questions, parts))
        manifest = DataManifest(
            version=VERSIONS["data"],
            fingerprint=fingerprint,
            task=recipe.task,
            sources=_sources(recipe, rows_of, digests),
            rows_read=sum(rows_of),
            kept={name: int((parts == number).sum()) for number, name in enumerate(PARTS)},
            dropped=dict(store.reasons.most_common()),
            groups=_groups(store, parts),
            split=recipe.split.model_dump(),
            leaks=leaks,
            audited_similarity=recipe.prepare.similarity,
            files={path.name: sha256_of(path) for path in _row_files(staged)},
            scored=scored,
            unscored=unscored,
            images=images,
        )
    write_json(staged.data_manifest_file, manifest.to_json())


def _parts(recipe: Recipe, store: RowStore, remaining: Mask) -> Parts:
    """The number of the part of every row, -1 for those that are dropped; DataError when none is left to train on."""
    named = groups_named(recipe.split, groups_of(recipe.split, store))
    parts = split(recipe.split, store.hashes("group"), store.hashes("pool"), named, remaining)
    if not (parts == PARTS.index("train")).any():
        raise DataError(_no_train(recipe, store, int(np.count_nonzero(remaining))))
    return parts


def _groups(store: RowStore, parts: Parts) -> dict[str, int]:
    """Part -> the groups in it."""
    groups = store.hashes("group")
    later, _ = repeats(lambda part: mixed(groups[part] + parts[part].astype(np.uint64)), parts >= 0, store.folder)
    return {
        name: int(np.count_nonzero(parts == number) - np.count_nonzero(parts[later] == number))
        for number, name in enumerate(PARTS)
    }


def _write_rows(staged: Run, store: RowStore, parts: Parts) -> None:
    """Writes every row to its part's file, or to the list of dropped ones."""
    for number, name in enumerate(PARTS):
        with replacing(staged.part(name)) as out:
            out.writelines(store.line(row) + "\n" for row in numbers_of(parts == number))
    write_jsonl(staged.dropped_file, store.drops())


def _train_doubts(store: RowStore, parts: Parts) -> Iterator[JsonObject]:
    """What is doubtful in the answers of the rows that are trained, as a line of `unscored.jsonl` says it."""
    for doubt in map(json.loads, map(store.doubts.__getitem__, range(len(store.doubts)))):
        row = doubt.pop("row")
        if parts[row] == PARTS.index("train"):
            yield {"part": "train", "where": store.where(row), **doubt}


def _sources(recipe: Recipe, rows_of: list[int], digests: list[str | None]) -> list[SourceRows]:
    return [
        SourceRows(source=data.source, format=data.format, rows=rows, sha256=digest)
        for data, rows, digest in zip(recipe.data, rows_of, digests, strict=True)
    ]


def _keep_used_images(staged: Run) -> int:
    """Removes the images that only dropped rows have, and returns how many are left."""
    if not staged.images.exists():
        return 0
    paths = _image_paths(staged)
    for path in staged.images.rglob("*.*"):
        if path not in paths:
            path.unlink()
    return len(paths)


def _image_paths(run: Run) -> set[Path]:
    """The images of the rows of all parts."""
    rows = (row for name in PARTS for row in read_conversations(run.part(name)))
    return {run.data / path for row in rows for path in row.image_paths}


def _digest(data: DataSource) -> str | None:
    """The SHA-256 of the source's bytes (of its files' SHA-256s, where there are several); None for the Hub."""
    archives = [path for path in map(Path, data.images) if path.is_file()]
    digests = [sha256_of(path) for path in (*source_files(data), *archives)]
    return sha256_of_text(*digests) if len(digests) > 1 else next(iter(digests), None)


def _fingerprint(recipe: Recipe, digests: list[str | None]) -> str:
    file, colon, _ = recipe.task.rpartition(":")
    task_file = sha256_of(Path(file)) if colon and Path(file).is_file() else ""
    keys = json.dumps([digests, without_places(deciders(recipe, "data"))], sort_keys=True)
    return sha256_of_text(str(REVISIONS["data"]), task_file, keys)


def _row_files(run: Run) -> list[Path]:
    return [run.dropped_file, run.leaks_file, run.unscored_file, *map(run.part, PARTS)]


def _is_up_to_date(run: Run, fingerprint: str) -> bool:
    written = [run.data_manifest_file, *_row_files(run)]
    if not all(path.is_file() for path in written):
        return False
    try:
        manifest = run.data_manifest()
    except RunError:  # damaged: it is written again
        return False
    if manifest is None or manifest.fingerprint != fingerprint:
        return False
    return rows_are_whole(run, manifest)


def rows_are_whole(run: Run, manifest: DataManifest) -> bool:
    """Whether the files of rows and their images are what was written.

    The rows of a manifest without digests, whether they are there.
    """
    digests = manifest.files
    are_whole = all(
        path.is_file() and (digests is None or sha256_of(path) == digests.get(path.name)) for path in _row_files(run)
    )
    return are_whole and (not manifest.images or all(map(is_whole, _image_paths(run))))


def _read(recipe: Recipe, store: RowStore, staged: Run, progress: Callable[[int], None]) -> list[int]:
    """Reads every source into the store and returns how many rows each had."""
    rows_read, rows_of = 0, []
    by = [] if recipe.split.by is None else [recipe.split.by]
    for data in recipe.data:
        refuse_test_rows(data)
        downloads, start = downloads_for(data), rows_read
        source = Source(data, task_of(recipe, data.layout), image_store(staged, data, downloads))
        dropped = store.reasons["broken row"]
        made = conversations_of(source, read_rows(data, refuse=store.drop_broken), by)
        with contextlib.closing(ahead(made, images_of, downloads)) as conversations:
            for row, where, conversation in conversations:
                try:
                    _store(recipe, store, source, row, conversation)
                except RowError as error:
                    store.refuse(where, error)
                rows_read += 1
                if rows_read % 256 == 0:
                    progress(rows_read)
        rows_read += store.reasons["broken row"] - dropped
        rows_of.append(rows_read - start)
    progress(rows_read)
    return rows_of


def _store(recipe: Recipe, store: RowStore, source: Source, row: Row, made: Conversation | RowError) -> None:
    """Keeps a row's conversation with its group, pool and scope; RowError when it cannot be one."""
    by = recipe.split.by
    if isinstance(made, RowError):
        raise made
    conversation = source.images.resolve(made)
    pictures = " ".join(conversation.image_paths)  # by content: the same picture under two names is one
    group = (pictures or normalise_text(conversation.key)) if by is None else text_of(row, by)
    if by is not None and not group:
        raise RowError("no group", f"column '{by}' (split.by) is empty; fill it, or split by another column")
    conversation = replace(conversation, group=group, weight=source.data.weight)
    identity = text_of(row, source.data.id) if source.data.id else ""
    try:
        scope = f"{source.task.scope(conversation)} {pictures}".strip()
        store.add(conversation, _POOLS.index(source.data.part), scope, identity)
        for score, reason in source.task.doubts(conversation).items():
            store.doubt(score, reason)
    except UnicodeEncodeError as error:
        raise RowError("bad unicode", "half a surrogate pair; the text was cut inside an emoji") from error


def _without_copies(recipe: Recipe, store: RowStore) -> tuple[Mask, Questions]:
    """The rows that stay, and the questions of all but exact copies; rows with one question are in one group then."""
    keep, rows = recipe.prepare, np.ones(len(store), bool)
    if keep.dedupe != "none":
        rows = without_exact_copies(store, rows)
    questions = Questions(store, rows, keep.similarity)
    if recipe.split.by is None:
        join_groups(store, questions, rows)
    return without_near_copies(store, questions, rows) if keep.dedupe == "near" else rows, questions


def _no_train(recipe: Recipe, store: RowStore, remaining: int) -> str:
    """Why no row is left to train on: what took most of them, which need not be the split."""
    source = ", ".join(data.source for data in recipe.data)
    rows_read = store.reasons.total() + remaining
    if not rows_read:
        return f"{source}: no rows; a recipe needs some to train on"
    large = [(reason, rows) for reason, rows in store.reasons.most_common(_NAMED) if rows * 10 > rows_read]
    if large:
        drops = "; ".join(_loss(store, reason, rows) for reason, rows in large)
        rest = f"; the {remaining} that can be used are val or test" if remaining else ""
        return f"{source}: no row is left to train on: {rows_read} read, {drops}{rest}"
    split = recipe.split
    return (
        f"{source}: no row is left to train on: all {remaining} that can be used are val or test "
        f"(split.val {split.size('val')}, split.test {split.size('test')}, by {split.by or 'question'}); lower them or "
        "add rows"
    )


def _loss(store: RowStore, reason: str, rows: int) -> str:
    first = next(value for value in store.drops() if value["reason"] == reason)
    example = f"the first at {first['where']} ({first['detail'][:200]})"
    return f"{rows} of them dropped as '{reason}', {example}: {move_of(reason)}"
