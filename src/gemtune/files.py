"""Reading and writing files so that nothing is ever half-written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gemtune.errors import DataError, GemtuneError, RunError

JsonObject = dict[str, Any]  # a JSON object whose keys the reader knows, and its type does not

_REDO = "run the stage that wrote it again"
_ELSEWHERE = "choose another folder (runs_dir or pages.folder in a recipe)"


@dataclass(frozen=True)
class Access:
    """What a file is opened for: the error that a failure becomes, and the next move by its errno."""

    error: type[GemtuneError]
    moves: Mapping[int, str]
    otherwise: str


WRITING = Access(
    GemtuneError,
    {
        errno.EACCES: f"check its permissions, or {_ELSEWHERE}",
        errno.EROFS: _ELSEWHERE,
        errno.ENOTDIR: f"a file is where a folder should be: {_ELSEWHERE}",
        errno.EEXIST: f"a file is where a folder should be: {_ELSEWHERE}",
        errno.EISDIR: "a folder is where the file should be: remove it, or give another name",
        **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), f"free some space, or {_ELSEWHERE}"),
    },
    "check the path",
)
# What the user gives ...
READING = Access(
    DataError, {errno.EACCES: "make it readable for you (chmod u+r, or ask its owner)"}, "check the path and the disk"
)
REPLIES = Access(GemtuneError, {}, "give another --output")
CACHING = Access(GemtuneError, {}, "GEMTUNE_CACHE names another folder")
READING_BACK = Access(RunError, {}, _REDO)  # ... and what gemtune wrote.


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Opens a temporary file next to `path` and renames it to `path` only when the block ends without an error.

    Half a surrogate pair, which UTF-8 cannot hold, is written as `\\ud83d`: what JSON calls it, so it is read back.
    """
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os_errors(path), os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        with os_errors(path):
            _put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    """Renames it; mkstemp has made it private, and what gemtune writes is as readable as the user's umask says."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    temporary.replace(path)


@contextlib.contextmanager
def os_errors(path: Path, access: Access = WRITING) -> Iterator[None]:
    """Turns an operating system error about `path` into one line with the next move."""
    try:
        yield
    except OSError as error:
        move = access.moves.get(error.errno or 0, access.otherwise)
        raise access.error(f"{path}: {error.strerror or error}; {move}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file, or leaves what is there."""
    with replacing(path) as out:
        out.write(text)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file of bytes, or leaves what is there."""
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
            _put_in_place(Path(temporary), path)
        finally:
            Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Writes a JSON value on indented lines, with a line end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`, which gemtune wrote; RunError names the line when it is broken."""
    try:
        with os_errors(path, READING_BACK):
            return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _not_json(path, error) from error


def read_object(path: Path) -> JsonObject:
    """The JSON object in `path`, which gemtune wrote; RunError when it is anything else."""
    return _object(read_json(path), path)


def _object(value: object, where: object) -> JsonObject:
    if not isinstance(value, dict):
        raise RunError(f"{where}: found {_kind(value)}, wanted an object; {_REDO}")
    return value


def _kind(value: object) -> str:
    """
    >>> _kind([1, 2]), _kind(None), _kind("a")
    ('an array', 'null', 'a str')
    """
    return "null" if value is None else "an array" if isinstance(value, list) else f"a {type(value).__name__}"


def write_jsonl(path: Path, lines: Iterable[Mapping[str, object]]) -> int:
    """Writes one JSON object per line and returns how many."""
    count = 0
    with replacing(path) as out:
        for line in lines:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[JsonObject]:
    """Yields the objects of a file gemtune wrote; RunError names the line that is broken or none."""
    number = 0
    with os_errors(path, READING_BACK), path.open(encoding="utf-8") as lines:
        try:
            for line in lines:
                number += 1
                yield _object(json.loads(line), f"{path}:{number}")
        except (ValueError, RecursionError) as error:
            raise _not_json(path, error, number) from error


def _not_json(path: Path, error: ValueError | RecursionError, line: int | None = None) -> RunError:
    if isinstance(error, json.JSONDecodeError):
        return RunError(f"{path}:{line or error.lineno}: broken JSON ({error.msg}); {_REDO}")
    if isinstance(error, UnicodeDecodeError):
        return RunError(f"{path}: cannot be read as UTF-8 text ({error}); {_REDO}")
    fault = "nested too deep" if isinstance(error, RecursionError) else "a number of too many digits"
    return RunError(f"{path}{f':{line}' if line else ''}: {fault}; {_REDO}")


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


def cache_folder() -> Path:
    """Where converted models and compiled kernels are kept: $GEMTUNE_CACHE, or gemtune/ in the user's cache folder."""
    named, base = os.environ.get("GEMTUNE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if named or base:
        return Path(named or Path(base or "") / "gemtune")
    try:
        return Path.home() / ".cache" / "gemtune"
    except RuntimeError as error:
        raise GemtuneError("this user has no home folder to keep a cache in; GEMTUNE_CACHE names one") from error


def writable(folder: Path, access: Access = WRITING) -> Path:
    """The folder, in which a file was written to see that it can be; GemtuneError says why it cannot."""
    with os_errors(folder, access):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder


def writable_cache() -> Path:
    """The cache folder, if it can be written."""
    return writable(cache_folder(), CACHING)


def require_temporary_folder() -> None:
    """GemtuneError where there is none, as on a disk that is full or read-only: PyTorch is not even imported then."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise GemtuneError(f"{error.strerror}; free some space there, or set TMPDIR to a folder to write in") from error
