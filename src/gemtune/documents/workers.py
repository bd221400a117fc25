"""Child processes that draw pages, and a thread for each that waits for it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from gemtune.files import JsonObject
from gemtune.worker import Worker, WorkerError

SECONDS = 300.0  # a page may take, on a machine that is busy
MEMORY = 3 << 30  # bytes of addresses a page may take; it uses a twentieth
ANSWER = 256_000_000  # bytes: a colour page of 25 million pixels, before and after its steps, in base64

Asked = TypeVar("Asked")
Result = TypeVar("Result")


class Workers:
    """A function that draws, in as many children as pages are drawn at once."""

    def __init__(self, count: int, function: str = "gemtune.documents.render:answer"):
        self._workers = [Worker(function, seconds=SECONDS, memory=MEMORY, answer=ANSWER) for _ in range(count)]
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.close()

    def ask(self, request: JsonObject) -> JsonObject:
        """A child's answer; a problem where it took too much, or crashed."""
        worker = self._free.get()
        try:
            answer: JsonObject = worker(request)
            return answer
        except WorkerError as error:
            return {"problem": f"cannot be drawn: {error}; open it in a viewer and print it to a new PDF"}
        finally:
            self._free.put(worker)

    def map(self, function: Callable[[Asked], Result], asked: Sequence[Asked]) -> Iterator[tuple[Asked, Result]]:
        """Yields what is asked with its result, in the order in which they are done."""
        with ThreadPoolExecutor(len(self._workers)) as threads:
            asked_of = {threads.submit(function, one): one for one in asked}
            try:
                for future in as_completed(asked_of):
                    yield asked_of.pop(future), future.result()
            finally:
                threads.shutdown(cancel_futures=True)
