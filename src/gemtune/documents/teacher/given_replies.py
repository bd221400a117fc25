"""A teacher whose replies are there already, in files: hand labels, or what another run was answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from gemtune.documents.teacher.exchange import Request
from gemtune.errors import DataError, shown
from gemtune.files import READING, os_errors

_Place = tuple[str, int, str, int]  # document, page, task, sample
_ENDINGS = (".json", ".md", ".txt")


def given_replies(path: Path) -> Callable[[Request], str | None]:
    """A request -> the words of its reply, or None; DataError for a file that is not as the recipe page says."""
    if path.is_dir():
        return lambda request: _in_folder(path, request)
    of_place = dict(_lines(path))
    return lambda request: of_place.get((request.document, request.page, request.task, request.sample))


def _in_folder(folder: Path, request: Request) -> str | None:
    """`<document>/<page>.<task>.json`; Markdown, or plain text, for a task without a schema."""
    sample = f".{request.sample}" if request.sample else ""
    for ending in _ENDINGS:
        path = folder / request.document / f"{request.page}.{request.task}{sample}{ending}"
        with os_errors(path, READING):
            if path.is_file():
                return _text(path)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from error


def _lines(path: Path) -> Iterator[tuple[_Place, str]]:
    with os_errors(path, READING):
        lines = _text(path).split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _placed(json.loads(line))
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                wanted = "an object with document, page, task and reply"
                raise DataError(f"{path}:{number}: wanted {wanted}, found {shown(line, 80)}; mend it") from error


def _placed(line: dict[str, object]) -> tuple[_Place, str]:
    document, page, task, sample = line["document"], line["page"], line["task"], line.get("sample", 0)
    if not (isinstance(document, str) and isinstance(page, int) and isinstance(task, str) and isinstance(sample, int)):
        raise TypeError
    reply = line["reply"]
    words = reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)
    return (document, page, task, sample), words
