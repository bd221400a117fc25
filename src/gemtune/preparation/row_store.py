"""Prepared rows on disk, with their hashes in memory."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemtune.data.conversation import Conversation
from gemtune.errors import DataError, RowError
from gemtune.files import JsonObject, os_errors, sha256_of_text
from gemtune.metrics.text import normalise_text
from gemtune.recipe.schema import Recipe

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class TextFile:
    """Texts in a scratch file, read by number: in memory a text is the offset of its end."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._ends = array("Q", [0])
        with os_errors(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (`close` closes it)

    def append(self, text: str) -> None:
        data = text.encode("utf-8")
        with os_errors(self._folder):
            self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(number)
        with os_errors(self._folder):
            self._file.seek(self._ends[number])
            return self._file.read(self._ends[number + 1] - self._ends[number]).decode("utf-8")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk closing writes once more; the text is not needed any more
            self._file.close()


class Subset:
    """The texts of a file that have these numbers, counted from 0 again."""

    def __init__(self, texts: TextFile, numbers: Numbers):
        self._texts, self._numbers = texts, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> str:
        return self._texts[int(self._numbers[index])]


class RowStore:
    """The rows that prepare has read: conversations, questions and drops in scratch files, hashes in memory."""

    def __init__(self, folder: Path, recipe: Recipe):
        self.conversations, self.questions, self.dropped = TextFile(folder), TextFile(folder), TextFile(folder)
        self.reasons: Counter[str] = Counter()
        self._fails = recipe.prepare.bad_rows == "fail"
        self._seed = str(recipe.split.seed)
        self._hashes: dict[str, array[int]] = {}

    def __enter__(self) -> RowStore:
        return self

    def __exit__(self, *_: object) -> None:
        for texts in (self.conversations, self.questions, self.dropped):
            texts.close()

    def __len__(self) -> int:
        return len(self.conversations)

    def hashes(self, name: str) -> Hashes:
        """One 64-bit number per row, equal where rows are the same in the sense of `name` (see `add`)."""
        return np.frombuffer(self._hashes[name], np.uint64) if self._hashes else np.empty(0, np.uint64)

    def add(self, conversation: Conversation, pool: int, scope: str, identity: str | None) -> None:
        """Keeps a conversation and hashes what rows are compared by.

        pool: where its source may go, 0 for wherever `split` says; scope: Task.scope, and the images; compare_within:
        both of them; group: what the split keeps whole; question: the normalised question there; normalised: question
        and answers there; content: the very same messages; id: the row's own id in its file, 0 for none.
        """
        value = conversation.to_json()
        line, question = json.dumps(value, ensure_ascii=False), normalise_text(conversation.key)
        answers = (normalise_text(message.text) for message in conversation.messages if message.role == "assistant")
        compare_within, group = (str(pool), scope), conversation.group
        hashes = {
            "pool": pool,
            "scope": _hash(scope),
            "compare_within": _hash(*compare_within),
            "group": _hash(self._seed, group),  # also where the group lies between 0 and 2**64: its part of the split
            "question": _hash(*compare_within, question, group),
            "normalised": _hash(*compare_within, question, *answers),
            "content": _hash(str(pool), conversation.key, json.dumps(value["messages"])),
            # Each file numbers its rows from the start, so an id counts within its file.
            "id": 0 if identity is None else _hash(re.split(r"[:\[]\d+\]?$", conversation.where)[0], identity),
        }
        self.conversations.append(line)
        self.questions.append(question)
        for name, number in hashes.items():
            self._hashes.setdefault(name, array("Q")).append(number)

    def conversation(self, row: int) -> JsonObject:
        value: JsonObject = json.loads(self.conversations[row])
        return value

    def drop(self, where: str, reason: str, detail: str) -> None:
        self.reasons[reason] += 1
        self.dropped.append(json.dumps({"where": where, "reason": reason, "detail": detail}))

    def drop_broken(self, where: str, error: RowError) -> None:
        """Drops a row that its file does not hold whole, which `data.bad_rows` says of a source."""
        self.drop(where, error.reason, str(error))

    def drops(self) -> Iterator[dict[str, str]]:
        return (json.loads(self.dropped[number]) for number in range(len(self.dropped)))

    def refuse(self, where: str, error: RowError) -> None:
        """Drops a row that is wrong in itself, or stops where the recipe says so."""
        if self._fails:
            raise DataError(f"{where}: {error.reason}: {error}; mend the row, or set prepare.bad_rows: drop") from error
        self.drop(where, error.reason, str(error))


def _hash(*parts: str) -> int:
    return int(sha256_of_text(*parts)[:16], 16)
