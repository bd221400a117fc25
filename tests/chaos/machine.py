"""Processes that are started fast and may be killed, disks that are full or read-only, and a clock that is set back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

YEARS = 6 * 365 * 86_400.0  # seconds that the clock is set back by
_LONGEST = 300.0  # seconds that a command may take
_CLONE_NEWNS, _MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 1, 32, 4096, 16384, 1 << 18

First = Callable[[], object]  # what a process does before its command


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal; and what it said on standard error."""

    code: int
    said: str

    @property
    def is_bug(self) -> bool:
        return self.code == 1 or "Traceback" in self.said or "a bug of gemtune's" in self.said


class Process:
    """`gemtune ARGUMENTS` in a process of its own, forked from this one, which has imported all that takes seconds."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, first: First = lambda: None):
        self._said = folder.parent / f"said-{time.monotonic_ns()}"
        self._said.touch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, about threads and fork: none is at work here
            self.pid = os.fork()
        if not self.pid:
            self._work(arguments, folder, first)

    def _work(self, arguments: tuple[str, ...], folder: Path, first: First) -> None:
        code = 70
        try:
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.dup2(os.open(self._said, os.O_WRONLY), 2)
            first()
            code = _code_of(arguments)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        """How it ended; one that takes five minutes hangs, and is killed."""
        clock = threading.Timer(_LONGEST, self.signal, [9])
        clock.start()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        clock.cancel()
        said = self._said.read_text(encoding="utf-8", errors="replace")
        self._said.unlink()
        return Ended(code, said)


def _code_of(arguments: tuple[str, ...]) -> int:
    """Runs the command line here, as Python would at the top of a program."""
    from gemtune.cli.app import main

    sys.argv = ["gemtune", *arguments]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # there is one
        return 1
    return 0


def ask(arguments: tuple[str, ...], folder: Path, first: First = lambda: None) -> Ended:
    """Runs a command to its end."""
    return Process(arguments, folder, first).wait()


def clock_set_back() -> None:
    """Python's clock says six years ago; libfaketime would do it for libraries in C, too, and is not everywhere."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() - YEARS
    time.time_ns = lambda: now_ns() - int(YEARS * 1e9)


def small_files(most: int) -> First:
    """A limit on the size of a file, where no small disk can be mounted."""

    def limit() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return limit


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def may_mount() -> bool:
    """Whether this process may mount what only it and its children see; gone with them."""
    if not sys.platform.startswith("linux") or _libc().unshare(_CLONE_NEWNS):
        return False
    return not _libc().mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def _mount(source: str, place: Path, kind: str, flags: int, options: str = "") -> None:
    if _libc().mount(source.encode(), os.fsencode(place), kind.encode(), flags, options.encode() or None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place))


def _unmount(place: Path) -> None:
    if _libc().umount2(os.fsencode(place), 2):  # lazily: a process that was killed may still have a file open
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place))


@contextlib.contextmanager
def disk(place: Path, size: int) -> Iterator[None]:
    """A disk of its own at a folder."""
    _mount("tmpfs", place, "tmpfs", 0, f"size={size}")
    try:
        yield
    finally:
        _unmount(place)


def resize(place: Path, size: int) -> None:
    """Gives that disk more room."""
    _mount("tmpfs", place, "tmpfs", _MS_REMOUNT, f"size={size}")


@contextlib.contextmanager
def read_only(place: Path, mounts: bool) -> Iterator[None]:
    """A folder in which nothing can be written: its file system says so, or else its permissions."""
    if mounts:
        _mount(str(place), place, "none", _MS_BIND)
        _mount("none", place, "none", _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    else:
        subprocess.run(["chmod", "-R", "a-w", str(place)], check=True)
    try:
        yield
    finally:
        if mounts:
            _unmount(place)
        else:
            subprocess.run(["chmod", "-R", "u+w", str(place)], check=True)
