"""The documents that `pages.source` names, what each is called, and which of its pages are wanted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from gemtune.data.images import IMAGE_SUFFIXES
from gemtune.data.paths import composed, existing, expanded, is_there, matching, walk
from gemtune.documents.references import ENDINGS
from gemtune.errors import DataError, did_you_mean, listed
from gemtune.files import READING, os_errors
from gemtune.recipe.document_sections import PAGE_RANGE, Pages

SUFFIXES = {".pdf", ".tiff", ".jpeg", *IMAGE_SUFFIXES.values()}

Value = TypeVar("Value")


@dataclass(frozen=True, order=True)
class Document:
    """A file with pages, by the name that the recipe, its pages and its rows call it."""

    name: str
    path: Path


def documents_of(pages: Pages, *written: Path) -> tuple[list[Document], Counter[str]]:
    """The documents of a recipe by name, and the suffixes of files that are none; folders that are `written` left out.

    DataError where a source is not there or holds no document, and where a key names a document that is none.
    """
    others: Counter[str] = Counter()
    placed: list[tuple[Path, Path]] = []  # what the name starts from, the file
    for text in [pages.source] if isinstance(pages.source, str) else pages.source:
        base, files = _files(existing(expanded(text, "pages.source")), [folder.resolve() for folder in written])
        chosen = [path for path in files if path == base or path.suffix.lower() in SUFFIXES]
        unread = set(files) - {*chosen, *_references(files, chosen)}
        others.update(path.suffix.lower() or path.name for path in unread)
        if not chosen:
            there = f"; found {listed(sorted(others))}" if others else ""
            raise DataError(f"pages.source: no PDF, TIFF or image in {text}{there}; check the path")
        placed += [(base.parent if path == base else base, path) for path in chosen]
    documents = _named(placed)
    for key, names in (("select", pages.select), ("passwords", pages.passwords)):
        for name in names:
            if not any(fnmatchcase(document.name, composed(name)) or document.name == name for document in documents):
                known = did_you_mean(
                    name, [document.name for document in documents], "the names are below pages.source"
                )
                raise DataError(f"pages.{key}: no document is called {name!r}{known}")
    return documents, others


def _references(files: list[Path], documents: list[Path]) -> set[Path]:
    """The files with the true text of a document or of a page of it, such as `a.md` and `a.3.md` beside `a.pdf`."""
    stems = {path.with_suffix("") for path in documents}
    texts = {path for path in files if path.suffix.lower() in ENDINGS}
    return {path for path in texts if stems & {path.with_suffix(""), path.with_suffix("").with_suffix("")}}


def _files(path: Path, written: list[Path]) -> tuple[Path, list[Path]]:
    """The path or folder that names start from, and the files there, hidden ones left out."""
    with os_errors(path, READING):
        if path.is_dir():
            return path, sorted(_below(path, written))
        if is_there(path) or path.is_symlink():
            return path, [path]
        base, files = matching(path)
    if not files:
        raise DataError(f"pages.source: {path} is not there, and no file matches it; check the path")
    return base, files


def _below(folder: Path, written: list[Path]) -> Iterator[Path]:
    """Also links to folders; not what gemtune writes there."""
    for place, names in walk(folder, follows=True):
        here = place.resolve()
        if not any(here.is_relative_to(output) and not folder.resolve().is_relative_to(output) for output in written):
            yield from (place / name for name in names if not name.startswith("."))


def _named(placed: list[tuple[Path, Path]]) -> list[Document]:
    """Each file once, by its path below its source; below what all sources share where two would have one name."""
    base_of = {Path(os.path.abspath(path)): Path(os.path.abspath(base)) for base, path in reversed(placed)}
    documents = [Document(composed(path.relative_to(base).as_posix()), path) for path, base in base_of.items()]
    if len({document.name for document in documents}) < len(documents):
        shared = Path(os.path.commonpath([path.parent for path in base_of]))
        documents = [
            replace(document, name=composed(document.path.relative_to(shared).as_posix())) for document in documents
        ]
    return sorted(documents)


def of_document(table: Mapping[str, Value], name: str) -> Value | None:
    """What a recipe's table says of a document: by its name, else by the first glob that matches.

    >>> of_document({"*.pdf": "1-3", "a/b.pdf": "2"}, "a/b.pdf"), of_document({"*.pdf": "1-3"}, "a.tif")
    ('2', None)
    """
    if name in table:
        return table[name]
    return next((value for glob, value in table.items() if fnmatchcase(name, composed(glob))), None)


def page_numbers(selection: str | None, count: int) -> list[int]:
    """The pages that a selection takes of a document of `count` pages, in order; pages it does not have are not in it.

    >>> page_numbers("1-3, 7", 9), page_numbers("-2-", 9), page_numbers("8-", 9), page_numbers(None, 2)
    ([1, 2, 3, 7], [8, 9], [8, 9], [1, 2])
    >>> page_numbers("3-5", 4), page_numbers("7", 4)
    ([3, 4], [])
    """
    if selection is None:
        return list(range(1, count + 1))
    chosen: set[int] = set()
    for part in selection.split(","):
        match = PAGE_RANGE.fullmatch(part)
        if match is None:
            raise DataError(f"pages.select: wanted pages such as `1-3,7`, `5-` or `-2-`, found {selection!r}")
        if match["from_end"]:
            first, last = max(1, count - int(match["from_end"]) + 1), count
        else:
            first = int(match["first"])
            last = int(match["last"]) if match["last"] else count if match["dash"] else first
        chosen.update(range(first, min(last, count) + 1))
    return sorted(chosen)
