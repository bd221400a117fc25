"""Work on hostile text in a child process, killed when it takes too long or too much memory.

The child imports `module:function` once and then answers requests, JSON in and JSON out, until its parent is gone.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

try:
    import resource
except ImportError:  # Windows has the wall clock alone
    resource = None  # type: ignore[assignment]

JsonValue = Any  # what json can write: the function behind a worker knows what it is asked

_START_SECONDS = 60.0  # for Python and the function's imports, on a machine that is busy
_LENGTH = 8  # bytes of the length in front of a message
_MOST = 64_000_000  # bytes of an answer, where nothing else is said
# Of the environment, TESSDATA_PREFIX for the tesseract that a child asks: no token reaches it.
_INHERITED = ("PATH", "HOME", "SYSTEMROOT", "TMPDIR", "TEMP", "TESSDATA_PREFIX")


class WorkerError(Exception):
    """The work was not done; the text is one line that says which limit it went over."""


class Worker:
    """A function in a child process, which is started when it is first called and again after it was killed.

    >>> with Worker("time:sleep", seconds=0.2) as sleep:
    ...     sleep(0.0)
    ...     sleep(5.0)
    Traceback (most recent call last):
    gemtune.worker.WorkerError: it takes longer than 0.2 s
    """

    def __init__(
        self,
        function: str,
        *,
        seconds: float,
        memory: int = 512 * 2**20,
        answer: int = _MOST,
        stderr: int = subprocess.DEVNULL,
    ):
        self.function = function
        self.seconds = seconds  # for one request: of the wall clock, and of the processor
        self.memory = memory  # bytes that requests may add to what the child has after its imports
        self.answer = answer  # bytes that it may have
        self.stderr = stderr  # where the child's standard error goes, as subprocess takes it
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __call__(self, request: JsonValue) -> JsonValue:
        """The function's answer; WorkerError when it went over a limit or ended the child."""
        with self._lock:
            answer = self._ask(self._started(), request, self.seconds)
        if "error" in answer:
            raise WorkerError(answer["error"])
        if "traceback" in answer:
            raise RuntimeError(f"in the child process of {self.function}:\n{answer['traceback']}")
        return answer["value"]

    def close(self) -> None:
        """Ends the child; the next request starts another."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        """The child, warm: its imports are not part of any request's time."""
        if self._child is None or self._child.poll() is not None:
            self.close()
            inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
            self._child = subprocess.Popen(  # noqa: S603  # Python itself, with a function of gemtune's
                [sys.executable, "-P", "-m", "gemtune.worker", self.function, str(self.seconds), str(self.memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.stderr,
                env={**inherited, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._ask(self._child, None, _START_SECONDS)
        return self._child

    def _ask(self, child: subprocess.Popen[bytes], request: JsonValue, seconds: float) -> dict[str, JsonValue]:
        late = threading.Event()

        def stop() -> None:
            late.set()
            child.kill()

        clock = threading.Timer(seconds, stop)
        clock.start()
        try:
            _send(child.stdin, request)
            answer = _receive(child.stdout, self.answer)
        except BrokenPipeError:
            answer = None
        finally:
            clock.cancel()
        if isinstance(answer, dict):
            return answer
        self.close()
        if late.is_set() or (resource and -child.returncode in (signal.SIGXCPU, signal.SIGKILL)):
            raise WorkerError(f"it takes longer than {seconds:g} s")
        raise WorkerError(f"its process ended with {child.returncode}")


def _send(pipe: IO[bytes] | None, value: JsonValue) -> None:
    data = json.dumps(value).encode()
    if pipe:
        pipe.write(len(data).to_bytes(_LENGTH, "big") + data)
        pipe.flush()


def _receive(pipe: IO[bytes] | None, most: int = _MOST) -> JsonValue:
    """The next message, or None where there is none, or one that is too large."""
    head = pipe.read(_LENGTH) if pipe else b""
    size = int.from_bytes(head, "big")
    if pipe is None or len(head) < _LENGTH or size > most:
        return None
    data = pipe.read(size)
    return json.loads(data) if len(data) == size else None


def main(function: str, seconds: float, memory: int) -> None:
    """Answers the requests on standard input until it ends. Standard output is the answers' alone."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    module, _, name = function.partition(":")
    work: Callable[[JsonValue], JsonValue] = getattr(importlib.import_module(module), name)
    _receive(requests)
    _limit_memory(memory)
    _send(answers, {"value": None})
    while head := requests.read(_LENGTH):
        request = json.loads(requests.read(int.from_bytes(head, "big")))
        _limit_processor(seconds)
        _send(answers, _answer(work, request, memory))


def _answer(work: Callable[[JsonValue], JsonValue], request: JsonValue, memory: int) -> dict[str, JsonValue]:
    try:
        return {"value": work(request)}
    except MemoryError:
        return {"error": f"it needs more than {memory // 2**20} MiB of memory"}
    except RecursionError:
        return {"error": "it is nested too deep"}
    except Exception:  # the parent raises it again
        return {"traceback": traceback.format_exc()}


def _limit_memory(memory: int) -> None:
    if resource and Path("/proc/self/statm").exists():
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # and no file is written


def _limit_processor(seconds: float) -> None:
    """Ends the child, should nobody be there to do it, a second after what a request may take."""
    if resource:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        most = int(usage.ru_utime + usage.ru_stime + seconds) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
