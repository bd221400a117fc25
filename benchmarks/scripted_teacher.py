"""A teacher that knows the true replies and misbehaves by a script: a server on loopback for tests and studies.

    python -m benchmarks.scripted_teacher --truth truth.jsonl --folder distilled/letters --port 8008 --faults 7

The truth is a JSONL of `document`, `page`, `task` and `reply`, as `teacher.replies` takes it. Which page is asked about
is told by its image: its bytes are those of a file that pages.jsonl in the folder names. Every request is a line of the
log (`--log`), with what was charged for it, written before the answer is sent.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.scripted_batches import ScriptedBatches
from benchmarks.scripted_replies import (
    BROKEN,
    ERRORS,
    STATUS,
    as_geminis,
    as_it_is,
    asked,
    changed,
    completion,
    error,
    send,
    tokens_of,
    unchunked,
)
from gemtune.documents.teacher.ledger import Ledger
from gemtune.files import JsonObject

TRANSIENT = (
    "slow",
    "429",
    "429 in the body",
    "500",
    "dropped",
    "half",
    "wrong",
    "html",
    "escaped",
    "fenced",
    "thinking",
)
LASTING = ("cut", "refused")  # of a page for good, so that a data set does not hang on when a run was killed
_SHARE_TRANSIENT, _SHARE_LASTING = 0.5, 0.04
FREE = (
    "429",
    "429 in the body",
    "quota",
    "quota of the day",
    "500",
    "html",
    "401",
    "404",
    "400",
    "429 for long",
    "error in a 200",
)

Truth = Callable[[str, str, str], str | None]  # (SHA-256 of the image's bytes, task, prompt) -> the true reply
Script = Callable[[str, int], str]  # (image and task, how many requests for them before) -> a fault, or ""


@dataclass(frozen=True)
class Served:
    """A request that came: a line of the log."""

    id: str
    page: str
    task: str
    fault: str
    status: int
    charged: bool
    input: int
    output: int
    authorization: bool


@dataclass(frozen=True)
class Made:
    """What a request gets."""

    fault: str
    status: int
    value: Any
    headers: dict[str, str] | None = None


def seeded(seed: int, faults: Sequence[str] = TRANSIENT, lasting: Sequence[str] = LASTING) -> Script:
    """A few faults per page and task, at most one of a kind; some pages never get a reply.

    >>> script = seeded(7)
    >>> [script("a page", count) for count in range(3)] == [script("a page", count) for count in range(3)]
    True
    """

    def script(page: str, count: int) -> str:
        choice = random.Random(f"{seed} {page}")  # noqa: S311
        if lasting and choice.random() < _SHARE_LASTING:
            return choice.choice(lasting)
        plan = [
            fault for fault in choice.sample(list(faults), min(2, len(faults))) if choice.random() < _SHARE_TRANSIENT
        ]
        return plan[count] if count < len(plan) else ""

    return script


def listed(*faults: str) -> Script:
    """Those faults, one a request, whichever page it is for; then none."""
    left = list(faults)
    lock = threading.Lock()

    def script(page: str, count: int) -> str:
        with lock:
            return left.pop(0) if left else ""

    return script


def always(fault: str) -> Script:
    return lambda page, count: fault


class _Server(ThreadingHTTPServer):
    """A server to which a client that was killed is no news."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ScriptedTeacher:
    """The server, in threads of this process; `served` and the log say what it did."""

    def __init__(
        self,
        truth: Truth,
        script: Script = lambda page, count: "",
        *,
        port: int = 0,
        log: Path | None = None,
        slow: float = 30.0,
        latency: float = 0.0,
        key: str = "",
    ):
        self.truth, self.script, self.log, self.key = truth, script, log, key
        self.slow, self.latency = slow, latency
        self.served: list[Served] = []
        self.bodies: list[JsonObject] = []
        self.active = self.most_active = 0
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self.batches = ScriptedBatches(lambda body, name: self.made(body, name))
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                send(self, *teacher.batches.answer("GET", self.path, self.headers, b""))

            def do_POST(self) -> None:
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    body = unchunked(self.rfile)
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if teacher.batches.takes(self.path):
                    send(self, *teacher.batches.answer("POST", self.path, self.headers, body))
                    return
                with teacher._lock:
                    teacher.active += 1
                    teacher.most_active = max(teacher.most_active, teacher.active)
                try:
                    teacher.answer(self, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with teacher._lock:
                        teacher.active -= 1

            def log_message(self, *_: object) -> None:
                pass

        self.server = _Server(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.address}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> ScriptedTeacher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def answer(self, request: BaseHTTPRequestHandler, data: bytes) -> None:
        """One request: counted and logged, then answered or not."""
        body = json.loads(data)
        sent = request.headers.get("x-goog-api-key") or request.headers.get("Authorization", "")
        refusal = "401" if self.key and sent.removeprefix("Bearer ") != self.key else ""
        made = self.made(body, request.headers.get("X-Client-Request-Id", ""), refusal, bool(sent))
        self.closing.wait(self.latency)
        if made.fault in BROKEN:
            BROKEN[made.fault](self, request, made.value)
        else:
            send(request, made.status, made.value, made.headers)

    def made(self, body: JsonObject, name: str, refusal: str = "", has_key: bool = False) -> Made:
        """What a request gets, which is in the log when this returns."""
        image, prompt, task = asked(body)
        digest = hashlib.sha256(image).hexdigest()
        page = f"{digest} {task}"
        with self._lock:
            self.bodies.append(body)
            count = self._counts[page]
            self._counts[page] += 1
        fault = self.script(page, count) or refusal
        kind = fault.partition(":")[0]
        text = self.truth(digest, task, prompt)
        usage = tokens_of(image, prompt, text or "", fault)
        is_charged = kind not in FREE and text is not None
        status = 404 if text is None else STATUS.get(kind, 200)
        self._log(
            Served(
                id=name,
                page=digest,
                task=task,
                fault=fault,
                status=status,
                charged=is_charged,
                input=usage["prompt_tokens"] if is_charged else 0,
                output=usage["completion_tokens"] if is_charged else 0,
                authorization=has_key,
            )
        )
        shape = as_geminis if "contents" in body else as_it_is
        if text is None:
            return Made(fault, 404, error(f"no truth for the image {digest} and the task {task}"))
        if status != 200:
            return Made(fault, status, *ERRORS[kind](fault))
        return Made(fault, 200, shape(completion(*changed(text, usage, fault))))

    def _log(self, line: Served) -> None:
        with self._lock:
            self.served.append(line)
            if self.log:
                with self.log.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(asdict(line)) + "\n")


def truth_of(path: Path, folder: Path) -> Truth:
    """The replies in a file, by the images of a folder that `gemtune distill` fills meanwhile."""
    replies: dict[tuple[str, int], dict[str, str]] = {}
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        reply = line["reply"]
        text = reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)
        replies.setdefault((line["document"], line["page"]), {})[line["task"]] = text
    pages: dict[str, tuple[str, int]] = {}
    lock = threading.Lock()

    def read_pages() -> None:
        for page in map(json.loads, (folder / "pages.jsonl").read_text(encoding="utf-8").splitlines()):
            digest = hashlib.sha256((folder / page["image"]).read_bytes()).hexdigest()
            pages[digest] = (page["document"], page["number"])

    def truth(digest: str, task: str, prompt: str) -> str | None:
        with lock:
            if digest not in pages:
                read_pages()
        of_task = replies.get(pages.get(digest, ("", 0)), {})
        return of_task.get(task) if task else next((text for text in of_task.values() if _fits(text, prompt)), None)

    return truth


def _fits(text: str, prompt: str) -> bool:
    """Whether a prompt with a schema in it asks for such a reply."""
    try:
        return all(f'"{name}"' in prompt for name in json.loads(text))
    except (ValueError, TypeError):
        return True


def faults_of_ledger(log: Path, ledger: Path) -> list[str]:
    """What the server charged and the ledger does not have, and the other way round; empty: both say the same."""
    lines = {line["id"]: line for line in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
    book, faults = Ledger(ledger), []
    listed_open = {intent.intent for intent in book.maybe_charged()}
    for name, line in lines.items():
        charge = book.charges.get(name)
        if name not in book.intents:
            faults.append(f"{name}: sent without an intent")
        elif (
            line["charged"]
            and name not in listed_open
            and (charge is None or charge.usage.total != line["input"] + line["output"])
        ):
            faults.append(f"{name}: {line['input']} + {line['output']} tokens charged, the ledger has {charge}")
        elif not line["charged"] and charge and charge.usage.total:
            faults.append(f"{name}: nothing charged, the ledger has {charge}")
    faults += [
        f"{name}: in the ledger, and never sent"
        for name, charge in book.charges.items()
        if charge.usage.total and name not in lines
    ]
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True, help="JSONL of document, page, task, reply")
    parser.add_argument("--folder", type=Path, required=True, help="the folder that distill writes, with pages.jsonl")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=int, metavar="SEED", help="misbehaves by this seed")
    parser.add_argument("--slow", type=float, default=30.0, help="seconds of a slow reply")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds of every other")
    parser.add_argument("--log", type=Path, default=Path("scripted_teacher.jsonl"))
    options = parser.parse_args()
    script = always("") if options.faults is None else seeded(options.faults)
    truth = truth_of(options.truth, options.folder)
    keys = {name: getattr(options, name) for name in ("port", "log", "slow", "latency")}
    with ScriptedTeacher(truth, script, **keys) as teacher:
        print(teacher.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
