"""Reading and writing files so that nothing is ever half-written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gemtune.errors import DataError, GemtuneError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Opens a temporary file next to `path` and renames it to `path` only when the block ends without an error."""
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os_errors(path), os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        # mkstemp makes private files; a run directory is as readable as the user's umask says.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turns an operating system error about `path` into one line with the next move."""
    try:
        yield
    except OSError as error:
        moves = {
            13: "check its permissions or choose another runs_dir",
            28: "free some space or choose another runs_dir",
            30: "choose a runs_dir that can be written",
        }
        move = moves.get(error.errno or 0, "check the path")
        raise GemtuneError(f"{path}: {error.strerror or error}; {move}") from error


def write_text(path: Path, text: str) -> None:
    with replacing(path) as out:
        out.write(text)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`; DataError names the line when it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: broken JSON ({error.msg})") from error


def write_jsonl(path: Path, lines: Iterator[dict[str, Any]]) -> int:
    """Writes one JSON object a line and returns how many."""
    count = 0
    with replacing(path) as out:
        for line in lines:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file gemtune wrote; DataError names the line that is broken."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: broken JSON ({error.msg}); run the stage that wrote it again") from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_text(*parts: str) -> str:
    """The SHA-256 of strings, each with its length, in hex: ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
