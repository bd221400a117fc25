"""Conversations -> examples on disk: every part is tokenised once, and its table kept next to the data."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.errors import DataError, RowError
from gemtune.files import (
    JsonObject,
    read_jsonl,
    replacing,
    sha256_of,
    sha256_of_text,
    write_json,
)
from gemtune.models.families import chat_template
from gemtune.models.families.base import Family
from gemtune.models.loading import special_ids
from gemtune.models.token_rows import known_tokens
from gemtune.recipe.schema import Recipe, deciders
from gemtune.rendering.renderer import Example, Renderer
from gemtune.rendering.token_table import TableWriter, tables_are_whole
from gemtune.run_files import Lengths, PartLengths
from gemtune.runs import PARTS, REVISIONS, Run
from gemtune.tasks.base import Task

REPORTED = 2048  # rows from one word about progress to the next
LEFT_OUT = {"over length": "over_length", "control token": "control_token"}  # reason -> its field of PartLengths

Drop = Callable[[JsonObject], object]  # adds a line to dropped.jsonl


def write_tables(
    run: Run,
    renderer: Callable[[], Renderer],
    family: Family,
    task: Task,
    recipe: Recipe,
    tokenizer_key: str,
    progress: Callable[[int], None] = lambda done: None,
    refuse: Callable[[str], None] = lambda key: None,
) -> None:
    """Tokenises every part of the prepared data and keeps its lengths in data/manifest.json; what is up to date stays.

    The renderer, and so its tokenizer, is only asked for when there is something to tokenise. `refuse` may raise on the
    tokens' key before that; the tables take the place of older ones together, once every part has gone well.
    A row whose answer would not fit into train.max_length is dropped and counted, or its prompt is shortened where the
    task says how, or DataError is raised, as prepare.over_length says. An answer is never cut.
    """
    manifest = run.prepared_data()
    settings = json.dumps(deciders(recipe, "tokens"), sort_keys=True)
    key = sha256_of_text(str(REVISIONS["tokens"]), manifest.fingerprint, tokenizer_key, chat_template(family), settings)
    refuse(key)
    if manifest.lengths and manifest.lengths.key == key and tables_are_whole(run, manifest.lengths):
        return
    made, writers = renderer(), {part: TableWriter(run, part) for part in PARTS}
    try:
        with _dropped_file(run) as drop:
            parts = {
                part: _write_table(run.part(part), writer, made, task, recipe, drop, progress)
                for part, writer in writers.items()
            }
            if not parts["train"].rows:
                raise DataError(
                    f"no example is left to train on: {parts['train'].over_length} are longer than "
                    f"train.max_length = {recipe.train.max_length}, {parts['train'].control_token} spell a control "
                    "token; raise it, or mend the rows"
                )
            digests = {part: writer.put() for part, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.discard()
    lengths = Lengths(
        key=key,
        max_length=recipe.train.max_length,
        special_ids={**special_ids(made.tokenizer, family)},
        token_ids=known_tokens(made.tokenizer, family),
        tables=digests,
        **parts,
    )
    files = {**manifest.files, run.dropped_file.name: sha256_of(run.dropped_file)} if manifest.files else None
    write_json(run.data_manifest_file, replace(manifest, lengths=lengths, files=files).to_json())


@contextlib.contextmanager
def _dropped_file(run: Run) -> Iterator[Drop]:
    """Yields what adds a row to dropped.jsonl; rows that earlier tables left out are no longer in it then."""
    with replacing(run.dropped_file) as out:
        for line in read_jsonl(run.dropped_file):
            if line.get("reason") not in LEFT_OUT:
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
        yield lambda line: out.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_table(
    conversations: Path,
    table: TableWriter,
    renderer: Renderer,
    task: Task,
    recipe: Recipe,
    drop: Drop,
    progress: Callable[[int], None],
) -> PartLengths:
    """Writes one part's table and returns its statistics in tokens."""
    left_out, shortened, lengths = Counter[str](), 0, Counter[int]()
    seen = _Seen(renderer)
    for line, conversation, example in _rendered(conversations, renderer):
        if line and line % REPORTED == 0:
            progress(line)
        if isinstance(example, Example) and len(example.input_ids) > recipe.train.max_length:
            example = _shortened(conversation, renderer, task, recipe)
            shortened += isinstance(example, Example)
        if isinstance(example, RowError):
            _refuse(conversation, example, recipe)
            left_out[example.reason] += 1
            drop({"where": conversation.where, "reason": example.reason, "detail": str(example)})
            continue
        lengths[len(example.input_ids)] += 1
        seen.add(conversation, example)
        table.add(example, conversation.weight, line)
    table.finish()
    counts = {name: left_out[reason] for reason, name in LEFT_OUT.items()}
    return seen.added_to(PartLengths(**_statistics(lengths), shortened=shortened, **counts))


def _refuse(conversation: Conversation, error: RowError, recipe: Recipe) -> None:
    """DataError where the recipe wants no row to be too long."""
    if error.reason == "over length" and recipe.prepare.over_length == "fail":
        raise DataError(f"{conversation.where}: {error}; raise it, or set prepare.over_length: drop") from error


def _rendered(path: Path, renderer: Renderer) -> Iterator[tuple[int, Conversation, Example | RowError]]:
    """Yields (line, conversation, what it rendered to), reading a block ahead and no more."""
    kept: list[Conversation] = []

    def tapped() -> Iterator[Conversation]:
        for conversation in read_conversations(path):
            kept.append(conversation)
            yield conversation

    for line, example in enumerate(renderer.examples(tapped())):
        yield line, kept.pop(0), example


def fit(conversation: Conversation, renderer: Renderer, task: Task, recipe: Recipe) -> Conversation | None:
    """The conversation as the tables have it: itself, shortened, or None where it does not fit or render."""
    try:
        if len(renderer.example(conversation).input_ids) <= recipe.train.max_length:
            return conversation
    except RowError:
        return None
    cut = _cut(conversation, renderer, task, recipe)
    return cut[0] if cut else None


def _shortened(conversation: Conversation, renderer: Renderer, task: Task, recipe: Recipe) -> Example | RowError:
    """The example of a conversation that is too long, its prompt cut by the task; or why it is left out."""
    cut = _cut(conversation, renderer, task, recipe)
    if cut:
        return cut[1]
    length, limit = len(renderer.example(conversation).input_ids), recipe.train.max_length
    return RowError("over length", f"{length} tokens, train.max_length is {limit}")


def _cut(
    conversation: Conversation, renderer: Renderer, task: Task, recipe: Recipe
) -> tuple[Conversation, Example] | None:
    if recipe.prepare.over_length != "shorten":
        return None
    limit, whole = recipe.train.max_length, renderer.example(conversation)
    length, answer = len(whole.input_ids), sum(end - start for start, end in whole.spans)
    for margin in (1.0, 0.9, 0.75, 0.5, 0.25):
        share = margin * (limit - answer) / max(1, length - answer)
        cut = task.shorten(conversation, share) if share > 0 else None
        if cut is None:
            return None
        example = renderer.example(cut)
        if len(example.input_ids) <= limit:
            return cut, example
    return None


class _Seen:
    """How finely the model sees the images of a part: their pixels, their tokens, and what is read per token."""

    def __init__(self, renderer: Renderer):
        self._tokenizer = renderer.image_tokenizer
        self._pixels: list[tuple[int, int]] = []  # of every image: stored, seen
        self._rows: list[tuple[int, float]] = []  # of every row with images: tokens, characters of its answer per token

    def add(self, conversation: Conversation, example: Example) -> None:
        if self._tokenizer is None or not conversation.images:
            return
        sizes = (part.size or (0, 0) for part in conversation.images)
        for (width, height), seen in zip(sizes, self._tokenizer.seen_sizes(conversation.images), strict=True):
            self._pixels.append((width * height, seen[0] * seen[1]))
        tokens = sum(end - start for start, end in example.image_spans)
        self._rows.append((tokens, len(conversation.answer) / tokens))

    def added_to(self, lengths: PartLengths) -> PartLengths:
        if not self._rows:
            return lengths
        stored, seen = np.median(self._pixels, axis=0)
        tokens, characters = np.asarray(self._rows).T
        return replace(
            lengths,
            images=len(self._pixels),
            image_pixels=int(stored),
            seen_pixels=int(seen),
            image_tokens=int(np.median(tokens)),
            characters=round(float(np.median(characters)), 2),
            most_characters=round(float(np.percentile(characters, 95)), 2),
        )


def _statistics(lengths: Counter[int]) -> dict[str, int]:
    """The least, the middle and the most of lengths, each with how often it occurs.

    >>> _statistics(Counter({5: 1, 9: 2}))
    {'rows': 3, 'min': 5, 'median': 9, 'p95': 9, 'max': 9, 'tokens': 23}
    """
    if not lengths:
        return {"rows": 0, "min": 0, "median": 0, "p95": 0, "max": 0, "tokens": 0}
    values = np.array(sorted(lengths))
    ends = np.cumsum([lengths[value] for value in values.tolist()])
    return {
        "rows": int(ends[-1]),
        "min": int(values[0]),
        "median": _percentile(values, ends, 50),
        "p95": _percentile(values, ends, 95),
        "max": int(values[-1]),
        "tokens": sum(value * count for value, count in lengths.items()),
    }


def _percentile(values: np.ndarray, ends: np.ndarray, percent: int) -> int:
    """As np.percentile has it of every value as often as it occurs; `ends` are the numbers of values up to each."""
    place = (int(ends[-1]) - 1) * percent / 100
    low, high = (int(values[np.searchsorted(ends, at, side="right")]) for at in (int(place), math.ceil(place)))
    return int(low + (high - low) * (place - int(place)))
