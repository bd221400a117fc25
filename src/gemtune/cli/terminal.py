"""The terminal, and what it cannot show: what its encoding lacks is written as an escape, and is never an error."""

from __future__ import annotations

import io
import json
import os
import sys

from gemtune.errors import json_visible, visible


def prepare_terminal() -> None:
    """Makes file names and arguments UTF-8, and both streams take any text; call it before anything else.

    Where Python was told to take names for ASCII (PYTHONUTF8=0 with LC_ALL=C), it is started again in its UTF-8 mode:
    what was read from the command line is damaged by then, and no file with another name can be opened.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        command = [sys.executable, "-X", "utf8", "-m", "gemtune", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606 (ourselves)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not _is_utf8(stream.encoding):
            stream.reconfigure(errors="backslashreplace")


def tell(*lines: object, err: bool = False, end: str = "\n", raw: bool = False) -> None:
    """Prints lines on stdout or stderr, unless `raw` with all that could act on a terminal shown as a sign."""
    stream = sys.stderr if err else sys.stdout
    stream.write("".join(f"{line if raw else visible(str(line))}{end}" for line in lines))
    stream.flush()


def tell_json(value: object) -> None:
    """Prints JSON, whose own escapes stand for what the terminal's encoding lacks."""
    text = json.dumps(value, indent=2, ensure_ascii=not _is_utf8(sys.stdout.encoding), default=str)
    tell(json_visible(text), raw=True)


def _is_utf8(encoding: str | None) -> bool:
    """
    >>> _is_utf8("UTF-8"), _is_utf8("ascii"), _is_utf8(None)
    (True, False, False)
    """
    return (encoding or "").lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")
