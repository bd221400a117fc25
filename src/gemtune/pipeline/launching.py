"""A stage's work in one process or in several: the parent starts them, hears from them, and starts them again.

Workers are started by torch's elastic launcher, which is what `torchrun` is. They meet in a store of the parent's, in
another one at every attempt: addresses of dead workers are never found there. Through that store they also get their
order and send messages: what to say, how far they are, the answer, or why they stopped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemtune.errors import RunError
from gemtune.pipeline.clustered import on_cluster
from gemtune.pipeline.job import Job
from gemtune.pipeline.orders import RESTARTS, Outcome, Progress, Work, order_of

if TYPE_CHECKING:
    from torch.distributed import TCPStore

HERE = "127.0.0.1"
ORDER, MESSAGES = "order", "messages"  # keys of the store
POLL = 0.05  # seconds between two looks at the messages


def in_workers(job: Job, work: Work, progress: Progress = lambda line: None, **arguments: Any) -> Any:
    """What `work(job, progress, **arguments)` returns on the first of the job's workers.

    Each worker makes a job of its own from the recipe; this process holds the run's lock meanwhile. After a worker was
    killed, all start again, at most RESTARTS times: a training goes on from its newest checkpoint.
    """
    if job.recipe.scale.engine == "ray":
        return on_cluster(job, work, progress, arguments)
    order = order_of(job, work, arguments)
    for restart in range(1, RESTARTS + 2):
        outcome, killed = _attempt(job, order, progress)
        if killed is None:
            return outcome.answer
        if restart <= RESTARTS:
            job.say(f"{killed}; the workers start again from what is saved (restart {restart} of {RESTARTS}).")
    raise RunError(
        f"{killed}, after {RESTARTS} restarts; the same command goes on from the newest checkpoint: free memory, or "
        "lower scale.workers first"
    )


def _attempt(job: Job, order: str, progress: Progress) -> tuple[Outcome, str | None]:
    """Starts the workers and waits for their end; which of them was killed, if one was; raises what one refused."""
    from torch.distributed import TCPStore
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    outcome = Outcome()
    store = TCPStore(HERE, 0, is_master=True, wait_for_workers=False)
    store.set(ORDER, order)
    with tempfile.TemporaryDirectory(prefix="gemtune-workers-") as logs, _environment(job.workers):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=job.workers,
            run_id=Path(logs).name,
            rdzv_backend="c10d",
            rdzv_endpoint=f"{HERE}:0",
            local_addr=HERE,
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=Std.ALL),
        )
        arguments = ("-P", "-m", "gemtune.pipeline.launched", HERE, store.port)
        with _messages(store, job, outcome, progress), _signals():
            try:
                elastic_launch(config, sys.executable)(*arguments)
            except ChildFailedError as error:
                codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            else:
                codes = {}
        last_words = _last_line(logs)
    outcome.require_accepted()
    # The others were told to end, or have found the connection broken: theirs is not the cause.
    deaths = [(rank, code) for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    if deaths:
        rank, code = deaths[0]
        return outcome, f"worker {rank} of {job.workers} was killed ({signal.Signals(-code).name})"
    if codes:
        raise RuntimeError(f"in a worker:\n{outcome.bug or last_words}")
    return outcome, None


@contextlib.contextmanager
def _messages(store: TCPStore, job: Job, outcome: Outcome, progress: Progress) -> Iterator[None]:
    """Hears what workers send, in a thread of its own, until the block ends and the last message is read."""
    ended = threading.Event()

    def hear() -> None:
        while True:
            is_last = ended.is_set()
            while store.queue_len(MESSAGES):
                outcome.hear(json.loads(store.queue_pop(MESSAGES)), job, progress)
            if is_last:
                return
            time.sleep(POLL)

    with ThreadPoolExecutor(1) as pool:
        hearing = pool.submit(hear)
        try:
            yield
        finally:
            ended.set()
        hearing.result()


@contextlib.contextmanager
def _environment(workers: int) -> Iterator[None]:
    """What workers inherit: the processor shared out among them, unless the user has said how many threads there are.

    Threads of several workers on the same cores wait for each other: 50 steps took 243 s instead of 33 s.
    """
    before = dict(os.environ)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """The launcher takes signals for itself, ends its workers and raises: here that is Ctrl-C and exit again."""
    from torch.distributed.elastic.multiprocessing.api import SignalException

    lines = logging.getLogger("torch.distributed.elastic")  # they are not for users
    lines.propagate = False
    lines.addHandler(logging.NullHandler())
    is_main = threading.current_thread() is threading.main_thread()
    names = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT] if is_main else []
    before = {name: signal.getsignal(name) for name in names}
    try:
        yield
    except SignalException as stop:
        if stop.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + stop.sigval) from None
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _last_line(logs: str) -> str:
    """The last line that a worker has written to its standard error, for one that could say nothing else."""
    for path in sorted(Path(logs).rglob("stderr.log")):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        if words := [line for line in lines if line.strip()]:
            return words[-1]
    return "it said nothing"
