"""Prepared rows on disk, with the hashes that they are compared by."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemtune.data.conversation import Conversation
from gemtune.errors import DataError, RowError
from gemtune.files import JsonObject, sha256_of_text
from gemtune.metrics.text import normalise_text
from gemtune.preparation.scratch import Hashes, Mask, NumberFile, Numbers, TextFile, pieces
from gemtune.preparation.wording import PARTS, fold, keys
from gemtune.recipe.schema import Recipe

_as_json = json.JSONEncoder(ensure_ascii=False).encode  # made once: json.dumps makes one at every call
HASHES = ("pool", "scope", "group", "question", "answer", "content", "id")


class RowStore:
    """The rows that prepare has read: conversations, drops and hashes, all of them in scratch files."""

    def __init__(self, folder: Path, recipe: Recipe):
        self.folder = folder
        self.conversations, self.dropped, self.doubts = (TextFile(folder) for _ in range(3))
        self.reasons: Counter[str] = Counter()
        self._fails = recipe.prepare.bad_rows == "fail"
        self._seed = str(recipe.split.seed)
        self._hashes = {name: NumberFile(folder, "Q") for name in HASHES}
        self._keys = [NumberFile(folder, "I") for _ in range(PARTS + 1)]
        self._group_of: dict[int, str] = {}  # of rows that were put into another group

    def __enter__(self) -> RowStore:
        return self

    def __exit__(self, *_: object) -> None:
        for texts in (self.conversations, self.dropped, self.doubts):
            texts.close()
        for numbers in (*self._hashes.values(), *self._keys):
            numbers.close()

    def __len__(self) -> int:
        return len(self.conversations)

    def hashes(self, name: str) -> Hashes:
        """One 64-bit number per row, equal where rows are the same in the sense of `name` (see `add`)."""
        return self._hashes[name].values

    def keys(self) -> list[NDArray[np.uint32]]:
        """`wording.keys` of the questions: PARTS + 1 numbers per row."""
        return [column.values for column in self._keys]

    def rows_with(self, name: str, hashes: Collection[int], rows: Mask) -> Iterator[tuple[Numbers, Hashes]]:
        """Yields, piece by piece, some rows whose hash is one of a few, and the hash of each."""
        column, few = self.hashes(name), np.fromiter(hashes, np.uint64, len(hashes))
        for _, numbers in pieces(rows) if few.size else ():
            values = column[numbers]
            is_one = np.isin(values, few)
            yield numbers[is_one], values[is_one]

    def add(self, conversation: Conversation, pool: int, scope: str, identity: str) -> None:
        """Keeps a conversation and hashes what rows are compared by.

        pool: where its source may go, 0 for wherever `split` says; scope: Task.scope, and the images; group: what the
        split keeps whole; question: the folded question in its scope; answer: the answers there, with pool and system
        message; content: the very same messages; id: the row's own id in its file (`data.id`), 0 for none.
        """
        value, folded = conversation.to_json(), fold(conversation.key)
        said = [normalise_text(message.text) for message in conversation.messages if message.role != "user"]
        messages = _as_json(value.pop("messages"))
        # The messages once: they are most of a row, and what is hashed is what is written.
        self.conversations.append(f'{{"messages": {messages}, {_as_json(value)[1:]}')
        numbers = (  # as HASHES names them
            pool,
            _hash(scope) if scope else 0,
            group_hash(self._seed, conversation.group),
            _hash(scope, folded),
            _hash(str(pool), scope, *said),
            _hash(str(pool), conversation.key, messages),
            # Each file numbers its rows from the start, so an id counts within its file.
            _hash(re.split(r"[:\[]\d+\]?$", conversation.where)[0], identity) if identity else 0,
        )
        for column, number in zip(self._hashes.values(), numbers, strict=True):
            column.append(number)
        for column, key in zip(self._keys, keys(folded), strict=True):
            column.append(key)

    def conversation(self, row: int) -> JsonObject:
        value: JsonObject = json.loads(self.conversations[row])
        return value

    def question(self, row: int) -> str:
        return str(self.conversation(row)["key"])

    def answer(self, row: int) -> str:
        return "\n".join(part.get("text") or "" for part in self.conversation(row)["messages"][-1]["content"])

    def where(self, row: int) -> str:
        return str(self.conversation(row)["where"])

    def regroup(self, row: int, group: int, name: str) -> None:
        """Puts a row into another group, given by hash and by name."""
        self.hashes("group")[row] = group
        self._group_of[row] = name

    def line(self, row: int) -> str:
        """A conversation as prepare writes it."""
        group = self._group_of.get(row)
        line = self.conversations[row]
        return line if group is None else json.dumps({**json.loads(line), "group": group}, ensure_ascii=False)

    def drop(self, where: str, reason: str, detail: str) -> None:
        self.reasons[reason] += 1
        self.dropped.append(json.dumps({"where": where, "reason": reason, "detail": detail}))

    def drop_broken(self, where: str, error: RowError) -> None:
        """Drops a row that its file does not hold whole, which `data.bad_rows` says of a source."""
        self.drop(where, error.reason, str(error))

    def drops(self) -> Iterator[dict[str, str]]:
        return (json.loads(self.dropped[number]) for number in range(len(self.dropped)))

    def doubt(self, score: str, reason: str) -> None:
        """Notes that the own answer of the row added last gets less than full marks in a score."""
        self.doubts.append(json.dumps({"row": len(self) - 1, "score": score, "reason": reason}))

    def refuse(self, where: str, error: RowError) -> None:
        """Drops a row that is wrong in itself, or stops where the recipe says so."""
        if self._fails:
            raise DataError(f"{where}: {error.reason}: {error}; mend the row, or set prepare.bad_rows: drop") from error
        self.drop(where, error.reason, str(error))


def group_hash(seed: str, group: str) -> int:
    """A group as a number of 64 bits: over 2**64 it is where the group lies in the split, so it never changes."""
    return int(sha256_of_text(seed, group)[:16], 16)


def _hash(*parts: str) -> int:
    """A number of 64 bits for texts; written as Python does, ("a", "b, c") and ("a, b", "c") differ."""
    return int.from_bytes(blake2b(repr(parts).encode("utf-8"), digest_size=8).digest(), "big")
