"""A child process answers, and is killed when a request goes over its limits."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemtune.worker import Worker, WorkerError

WORK = """
import os

def size(count): return len(bytearray(count))
def spin(_):
    while True: pass
def deep(count): return 0 if not count else 1 + deep(count - 1)
def leave(code): os._exit(code)
def fail(text): raise ValueError(text)
def environment(_): return dict(os.environ)
def say(text):
    print(ascii(text), flush=True)
    return text
def complain(text): return os.write(2, text.encode())
def write(path):
    with open(path, "w") as out: out.write("x")
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "hostile_work.py").write_text(WORK, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "hostile_work"


@pytest.mark.parametrize(
    ("function", "request_value", "reason"),
    [
        ("size", 10**9, "it needs more than 128 MiB of memory"),
        ("spin", None, "it takes longer than 0.5 s"),
        ("deep", 10**6, "it is nested too deep"),
        ("leave", 3, "its process ended with 3"),
    ],
)
def test_a_limit_is_a_line_and_the_next_request_is_answered(
    work: str, function: str, request_value: object, reason: str
) -> None:
    with Worker(f"{work}:{function}", seconds=0.5, memory=128 * 2**20) as worker:
        for _ in range(2):  # a child that was killed is replaced
            with pytest.raises(WorkerError, match=reason):
                worker(request_value)


def test_one_child_serves_many_requests_and_what_it_prints_is_no_answer(work: str) -> None:
    with Worker(f"{work}:say", seconds=5) as worker:
        assert [worker(text) for text in ("a", "\ud83d", "ب" * 100_000)] == ["a", "\ud83d", "ب" * 100_000]


def test_an_exception_of_the_function_is_raised_with_its_traceback(work: str) -> None:
    with Worker(f"{work}:fail", seconds=5) as worker, pytest.raises(RuntimeError, match=r"in fail(.|\n)*ValueError: x"):
        worker("x")


def test_the_child_has_no_token_and_writes_no_file(work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with Worker(f"{work}:environment", seconds=5) as worker:
        assert "secret" not in worker(None).values()
    with Worker(f"{work}:write", seconds=5) as worker, pytest.raises((RuntimeError, WorkerError)):
        worker(str(tmp_path / "file"))


def test_what_the_child_says_of_an_error_can_be_kept(work: str) -> None:
    reading, writing = os.pipe()
    with Worker(f"{work}:complain", seconds=5, stderr=writing) as worker:
        assert worker("a") == 1
    os.close(writing)
    assert os.read(reading, 100) == b"a"
    os.close(reading)


def test_a_child_ends_with_its_worker(work: str) -> None:
    worker = Worker(f"{work}:say", seconds=5)
    worker("a")
    child = worker._child
    assert child is not None
    worker.close()
    assert child.poll() is not None


def test_a_child_that_is_closed_to_starts_no_request_late(work: str) -> None:
    """The clock of a request that was answered does not kill the child in the middle of a later one."""
    with Worker(f"{work}:say", seconds=0.3) as worker:
        worker("a")
        child = worker._child
        time.sleep(0.4)
        worker("b")
        assert worker._child is child
