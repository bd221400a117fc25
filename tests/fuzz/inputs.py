"""Hostile inputs as Hypothesis strategies: mutants of bytes, JSON documents spoiled in places, values of rows.

A mutant is a seed with a list of edits, so Hypothesis finds the fewest and simplest edits that still fail.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Json = Any  # of json.loads
Place = tuple[str | int, ...]  # the keys on the way to a value

# What parsers trip over: ends of numbers, of texts, of structures, of encodings.
PIECES = [
    *(bytes([value]) for value in (0, 1, 9, 10, 13, 27, 34, 44, 127, 128, 255)),
    *(size.to_bytes(4, order) for size in (0, 1, 255, 2**31 - 1, 2**31, 2**32 - 1) for order in ("little", "big")),
    *(
        bytes(8),
        b"\xff" * 8,
        b"-1",
        b"9" * 400,
        b"9" * 5000,
        b"1e999",
        b"NaN",
        b"null",
        b"true",
        b"[]",
        b"{}",
        b"[" * 2000,
    ),
    *(b'{"a":' * 2000, b'"', b'""', b"'", b"\\", b"\\ud83d", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"\xff\xfe"),
    *("é😀\u202e".encode(), b"a" * 300, b"../", b"/etc/passwd\0", b"%s%n", b"\x1b[31m", b"&a [*a, *a]", b": ", b"- "),
]
TEXTS = [
    *("", " ", "\0", "\n", "a" * 300, "A" * 64, "~no-such-user/x", "~", "../../x", "/", ".", "..", "\ud83d", "\udc80x"),
    *("data:image/png;base64,!", "data:,", "http://[", "file:///etc/passwd", "hf://a/b", "ftp://x/y", "C:\\x\\y"),
    *("\x1b[31mred", "\u202eabc", "\ufeff", "<image>", "<image>" * 30, "<start_of_image>", "<bos>", "{a}", "{{}}"),
    *("[" * 500, '{"a":' * 500, "[1, 2", '["a"]', "{'role': 'user'}", '{"role": "user", "content": 1}', "nan", "0"),
    *("1e999", "9" * 5000, "e\u0301" * 400, "🏳️‍🌈" * 20, "مرحبا", "system", "user", "assistant", "human", "gpt", "tool"),
]
_SIGNS = "ab Z09_-.,:;{}[]()<>|\\\"'`#%\0\n\té\u0301\u202e😀\ud83d中م"
_WORDS = st.lists(st.sampled_from(_SIGNS), max_size=8).map("".join)
NUMBERS = [0, 1, -1, 2, 255, 2**31, -(2**31) - 1, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, -1e308]
STRANGE = [float("nan"), float("inf"), float("-inf"), 10**400]


@dataclass(frozen=True)
class File:
    """A file that is no longer what it was; what is printed of it is where it differs."""

    name: str
    data: bytes
    seed: bytes

    def __repr__(self) -> str:
        same = _shared(self.data, self.seed)
        after = _shared(self.data[same:][::-1], self.seed[same:][::-1])
        was, now = self.seed[same : len(self.seed) - after], self.data[same : len(self.data) - after]
        return f"{self.name}: at byte {same} of {len(self.seed)}, {was!r} is now {now!r}"


def _shared(one: bytes, other: bytes) -> int:
    """The length of the beginning that both have."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def texts() -> st.SearchStrategy[str]:
    """Short ordinary and hostile texts, halves of surrogate pairs among them."""
    return st.sampled_from(TEXTS) | _WORDS


def values(keys: Sequence[str] = (), leaves: st.SearchStrategy[Json] | None = None) -> st.SearchStrategy[Json]:
    """Values as JSON and Python's readers have them, nested a little, in objects with these keys among others."""
    scalars = st.none() | st.booleans() | st.sampled_from([*NUMBERS, *STRANGE]) | texts()
    names = st.sampled_from([*keys, *keys, *TEXTS[:12]]) if keys else texts()
    leaf = scalars if leaves is None else scalars | leaves
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
        max_leaves=8,
    )


@st.composite
def mutants(draw: st.DrawFn, seeds: Sequence[bytes] | Callable[[], Sequence[bytes]], most: int = 6) -> bytes:
    """One of the seeds with up to `most` edits: bytes changed, cut out, doubled, put in, or all after a place gone."""
    data = draw(st.sampled_from(list(seeds() if callable(seeds) else seeds)))
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([1, 2, 4, 16, 200]))
        edit = draw(st.sampled_from(["flip", "piece", "over", "remove", "double", "cut"]))
        if edit == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif edit in ("piece", "over"):
            piece = draw(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=4))
            data = data[:at] + piece + data[at + (len(piece) if edit == "over" else 0) :]
        elif edit == "remove":
            data = data[:at] + data[at + length :]
        elif edit == "double":
            data = data[: at + length] + data[at:]
        elif edit == "cut":
            data = data[:at]
    return data


@st.composite
def spoiled(draw: st.DrawFn, documents: Sequence[Json], keys: Sequence[str] = (), most: int = 3) -> Json:
    """One of the documents in which up to `most` values were replaced, removed, renamed, doubled or put in."""
    document = copy.deepcopy(draw(st.sampled_from(list(documents))))
    for _ in range(draw(st.integers(0, most))):
        places = list(_places(document))
        place = draw(st.sampled_from(places)) if places else ()
        edit = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "wrap", "insert"]))
        if not place:
            document = draw(values(keys)) if edit == "replace" else document
            continue
        holder = _at(document, place[:-1])
        if edit == "replace":
            holder[place[-1]] = draw(values(keys))
        elif edit == "remove":
            del holder[place[-1]]
        elif edit == "wrap":
            holder[place[-1]] = draw(st.sampled_from(([holder[place[-1]]], {"a": holder[place[-1]]})))
        elif isinstance(holder, dict):
            name = draw(st.sampled_from([*keys]) if keys else texts())
            holder[name] = holder.pop(place[-1]) if edit == "rename" else draw(values(keys))
    return document


def _places(value: Json, at: Place = ()) -> Iterator[Place]:
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from _places(child, (*at, key))


def _at(value: Json, place: Place) -> Json:
    for key in place:
        value = value[key]
    return value


def as_bytes(value: Json, indent: int | None = None) -> bytes:
    """JSON as a file holds it, with the numbers and halves of characters that JSON has no word for."""
    return json.dumps(value, indent=indent).encode("utf-8", "surrogatepass")


@st.composite
def spoiled_files(draw: st.DrawFn, files: Callable[[], dict[str, bytes]]) -> File:
    """One of the files: a document in it spoiled in places, or a mutant of its bytes."""
    there = files()
    name = draw(st.sampled_from(sorted(there)))
    seed = there[name]
    if name.endswith((".json", ".jsonl")) and draw(st.integers(0, 3)):
        documents = [json.loads(line) for line in (seed.splitlines() if name.endswith(".jsonl") else [seed])]
        documents = documents or [None]
        at = draw(st.integers(0, len(documents) - 1))
        documents[at] = draw(spoiled([documents[at]], _keys(documents[at])))
        indent = 2 if name.endswith(".json") else None
        return File(name, b"".join(as_bytes(document, indent) + b"\n" for document in documents), seed)
    return File(name, draw(mutants([seed])), seed)


def _keys(document: Json) -> list[str]:
    return sorted({key for place in _places(document) for key in place if isinstance(key, str)})[:200]
