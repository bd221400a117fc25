"""What happens with a bug of gemtune's: a file to send with the report, in which there is nothing of the user's."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from gemtune.hardware import gemtune_version, installed_versions


def report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Writes the crash file and one line that asks for it; in place of sys.excepthook."""
    if not issubclass(kind, Exception) or issubclass(kind, BrokenPipeError):
        return sys.__excepthook__(kind, error, trace) if not issubclass(kind, Exception) else None
    path = None
    with contextlib.suppress(OSError):
        path = _write("\n".join(crash_lines(error)) + "\n")
    where = f"please report it with {path}, which holds where it happened and nothing of your data"
    sys.stderr.write(f"gemtune: a bug of gemtune's ({kind.__name__}); {where if path else 'please report it'}\n")


def crash_lines(error: BaseException) -> Iterator[str]:
    """The traceback without what the exceptions say, which can be a row or a token, and the versions."""
    yield f"gemtune {gemtune_version()}, Python {platform.python_version()}, {platform.platform()}"
    yield ", ".join(f"{name} {version}" for name, version in installed_versions().items())
    seen: BaseException | None = error
    while seen is not None:
        yield f"\n{type(seen).__module__}.{type(seen).__qualname__} (what it says is left out: it can hold data)"
        for frame in traceback.extract_tb(seen.__traceback__):
            yield f"  {_without_home(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line or ''}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _without_home(name: str) -> str:
    home = os.path.expanduser("~")
    return f"~{name.removeprefix(home)}" if home not in ("/", "~") and name.startswith(home) else name


def _write(text: str) -> Path:
    """A private file in the folder for temporary files."""
    handle, name = tempfile.mkstemp(prefix="gemtune-crash-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
        out.write(text)
    return Path(name)
