"""A teacher that knows the true replies and misbehaves by a script: a server on loopback for tests and studies.

    python -m benchmarks.scripted_teacher --truth truth.jsonl --folder distilled/letters --port 8008 --faults 7

The truth is a JSONL of `document`, `page`, `task` and `reply`, as `teacher.replies` takes it. Which page is asked about
is told by its image: its bytes are those of a file that pages.jsonl in the folder names. Every request is a line of the
log (`--log`), with what was charged for it, written before the answer is sent.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import random
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.scripted_batches import ScriptedBatches
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
HTML = "<html><body><h1>Please sign in</h1></body></html>"

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
                _send(self, *teacher.batches.answer("GET", self.path, self.headers, b""))

            def do_POST(self) -> None:
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    body = _unchunked(self.rfile)
                else:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if teacher.batches.takes(self.path):
                    _send(self, *teacher.batches.answer("POST", self.path, self.headers, body))
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
        if made.fault in _BROKEN:
            _BROKEN[made.fault](self, request, made.value)
        else:
            _send(request, made.status, made.value, made.headers)

    def made(self, body: JsonObject, name: str, refusal: str = "", has_key: bool = False) -> Made:
        """What a request gets, which is in the log when this returns."""
        image, prompt, task = _asked(body)
        digest = hashlib.sha256(image).hexdigest()
        page = f"{digest} {task}"
        with self._lock:
            self.bodies.append(body)
            count = self._counts[page]
            self._counts[page] += 1
        fault = self.script(page, count) or refusal
        kind = fault.partition(":")[0]
        text = self.truth(digest, task, prompt)
        usage = _usage(image, prompt, text or "", fault)
        is_charged = kind not in FREE and text is not None
        status = 404 if text is None else _STATUS.get(kind, 200)
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
        shape = _as_geminis if "contents" in body else _as_it_is
        if text is None:
            return Made(fault, 404, _error(f"no truth for the image {digest} and the task {task}"))
        if status != 200:
            return Made(fault, status, *_ERRORS[kind](fault))
        return Made(fault, 200, shape(_completion(*_changed(text, usage, fault))))

    def _log(self, line: Served) -> None:
        with self._lock:
            self.served.append(line)
            if self.log:
                with self.log.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(asdict(line)) + "\n")


def _asked(body: JsonObject) -> tuple[bytes, str, str]:
    """The image, the prompt, and the task, where the schema has its name."""
    image, prompt = b"", ""
    if "contents" in body:  # Gemini's
        for part in body["contents"][-1]["parts"]:
            image += base64.urlsafe_b64decode(part["inlineData"]["data"] + "==") if "inlineData" in part else b""
            prompt += part.get("text", "")
        return image, prompt, ""
    for part in body["messages"][-1]["content"]:
        if part["type"] == "image_url":
            image = base64.b64decode(part["image_url"]["url"].partition(",")[2])
        else:
            prompt += part["text"]
    schema = (body.get("response_format") or {}).get("json_schema") or {}
    return image, prompt, schema.get("name", "")


def _usage(image: bytes, prompt: str, text: str, fault: str) -> JsonObject:
    """Tokens by a rule: one a patch of 28 pixels, one each three letters."""
    width, height = struct.unpack(">II", image[16:24]) if image[:4] == b"\x89PNG" else (28, 28)
    thinking = 50 if fault == "thinking" else 0
    given = len(text) // 2 if fault == "cut" else len(text)
    return {
        "prompt_tokens": math.ceil(width / 28) * math.ceil(height / 28) + len(prompt) // 3,
        "completion_tokens": given // 3 + 1 + thinking,
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }


def _completion(text: str, usage: JsonObject, finish: str, refusal: str | None = None) -> JsonObject:
    message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def _as_it_is(completion: JsonObject) -> JsonObject:
    return completion


def _as_geminis(completion: JsonObject) -> JsonObject:
    """The same as Google says it."""
    [choice], usage = completion["choices"], completion["usage"]
    message, thinking = choice["message"], usage["completion_tokens_details"]["reasoning_tokens"]
    counts = {
        "promptTokenCount": usage["prompt_tokens"],
        "candidatesTokenCount": usage["completion_tokens"] - thinking,
        "thoughtsTokenCount": thinking,
    }
    if message["refusal"]:
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": counts}
    finish = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "RECITATION"}[choice["finish_reason"]]
    parts = [*([{"text": "Let me see.", "thought": True}] if thinking else []), {"text": message["content"]}]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": counts}


def _changed(text: str, usage: JsonObject, fault: str) -> tuple[str, JsonObject, str, str | None]:
    """A reply as a fault has it."""
    if fault == "cut":
        return text[: len(text) // 2], usage, "length", None
    if fault == "refused":
        return "", usage, "stop", "I cannot help with this page."
    if fault == "filtered":
        return "", usage, "content_filter", None
    if fault == "wrong":
        return '{"quite": "another thing"}', usage, "stop", None
    if fault == "escaped":
        return json.dumps(json.loads(text)), usage, "stop", None
    if fault == "fenced":
        return f"```json\n{text}\n```", usage, "stop", None
    if fault == "broken":
        return text.rstrip()[:-1] + ",}", usage, "stop", None
    return text, usage, "stop", None


def _error(message: str, code: str = "", **more: object) -> JsonObject:
    return {"error": {"message": message, "code": code, **more}}


def _google(seconds: float, quota: str) -> JsonObject:
    violation = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}
    words = "You exceeded your current quota, please check your plan and billing details."
    return {"error": {"code": 429, "message": words, "status": "RESOURCE_EXHAUSTED", "details": [violation, retry]}}


_MINUTE, _DAY = "GenerateRequestsPerMinutePerProjectPerModel", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
_STATUS = {
    **dict.fromkeys(("429", "429 in the body", "429 for long", "quota", "quota of the day"), 429),
    **{status: int(status) for status in ("400", "401", "404", "500")},
}
_ERRORS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "429": lambda fault: (_error("Rate limit reached"), {"Retry-After": "1"}),
    "429 in the body": lambda fault: (_google(0.75, _MINUTE),),
    "429 for long": lambda fault: (_error("Rate limit reached"), {"Retry-After": "7200"}),
    "quota": lambda fault: (_error("You exceeded your current quota, please check your plan.", "insufficient_quota"),),
    "quota of the day": lambda fault: (_google(45.83, _DAY),),
    "500": lambda fault: (_error("The server had an error"),),
    "401": lambda fault: (_error("Incorrect API key provided: sk-te**********cret.", "invalid_api_key"),),
    "404": lambda fault: (_error("The model `m` does not exist or you do not have access to it.", "model_not_found"),),
    "400": lambda fault: (_error(fault.partition(":")[2].strip() or "Invalid request"),),
}


def _unchunked(stream: BinaryIO) -> bytes:
    data = b""
    while size := int(stream.readline(), 16):
        data += stream.read(size)
        stream.readline()
    stream.readline()
    return data


def _send(request: BaseHTTPRequestHandler, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
    data = value.encode() if isinstance(value, str) else json.dumps(value, ensure_ascii=False).encode()
    request.send_response(status)
    for name, text in (headers or {}).items():
        request.send_header(name, text)
    request.send_header("Content-Type", "text/html" if isinstance(value, str) else "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def _slow(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    teacher.closing.wait(teacher.slow)
    _send(request, 200, value)


def _trickle(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    """A byte now and then: no single read takes long."""
    data = json.dumps(value).encode()
    request.send_response(200)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    ends = time.monotonic() + teacher.slow
    for byte in data:
        if time.monotonic() > ends or teacher.closing.wait(0.05):
            break
        request.wfile.write(bytes([byte]))
    request.close_connection = True


def _dropped(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    request.close_connection = True
    request.connection.close()


def _half(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    data = json.dumps(value).encode()
    request.send_response(200)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data[: len(data) // 2])
    request.wfile.flush()
    request.close_connection = True


def _html(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    _send(request, 200, HTML)


def _router(teacher: ScriptedTeacher, request: BaseHTTPRequestHandler, value: JsonObject) -> None:
    _send(request, 200, {"error": {"message": "Provider returned error", "code": 502}})


_BROKEN = {
    "error in a 200": _router,
    "slow": _slow,
    "trickle": _trickle,
    "dropped": _dropped,
    "half": _half,
    "html": _html,
}


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
