"""The batch API that OpenAI has, and others after it: a file of requests, a job, a file of results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from gemtune.documents.teacher.chat_completions import ChatCompletions
from gemtune.documents.teacher.exchange import Answer, Request
from gemtune.documents.teacher.failures import MOST_SAID, Failure, TeacherError, failure_of

_RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
_ENDED = ("completed", "expired", "cancelled")  # with what was done until then
_CHAT = "/v1/chat/completions"


class ChatBatches:
    """Jobs of chat completions at the endpoint of a client."""

    most_bytes = 90_000_000  # the endpoint takes 200 MB
    most_requests = 50_000

    def __init__(self, chat: ChatCompletions):
        self._chat, self._endpoint = chat, chat.endpoint

    def line(self, request: Request, name: str) -> bytes:
        body, _ = self._chat.body(request)
        return json.dumps({"custom_id": name, "method": "POST", "url": _CHAT, "body": body}).encode()

    def create(self, name: str, lines: IO[bytes]) -> str:
        files = {"file": (f"{name}.jsonl", lines, "application/jsonl")}
        try:
            uploaded = self._endpoint.json("POST", "files", data={"purpose": "batch"}, files=files)
            keys = {"input_file_id": uploaded.get("id"), "endpoint": _CHAT, "completion_window": "24h"}
            job = self._endpoint.json("POST", "batches", json={**keys, "metadata": {"gemtune": name}})
        except TeacherError as error:
            raise TeacherError(f"teacher.batch: {error}; false asks without batches, where there are none") from error
        except Failure as failure:
            if failure.kind == "bad request":
                raise TeacherError(
                    f"teacher.batch: {self._chat.place.url} takes no batch ({failure.said})"
                ) from failure
            raise
        if not isinstance(job.get("id"), str):
            raise Failure("no answer", "a batch without an id")
        return str(job["id"])

    def find(self, name: str) -> str | None:
        jobs = self._endpoint.json("GET", "batches?limit=100").get("data", [])
        return next((job["id"] for job in jobs if (job.get("metadata") or {}).get("gemtune") == name), None)

    def state(self, job: str) -> str | None:
        there = self._endpoint.json("GET", f"batches/{job}")
        if there.get("status") in _RUNNING:
            return None
        if there.get("status") in _ENDED:
            return ""
        if there.get("status") != "failed":
            raise Failure("no answer", f"a batch in no state that is known ({str(there.get('status'))[:40]})")
        errors = (there.get("errors") or {}).get("data") or [{}]
        return str(errors[0].get("message") or "the batch failed")[:MOST_SAID]

    def results(self, job: str, requests: Mapping[str, Request]) -> Iterator[tuple[str, Answer | Failure]]:
        there = self._endpoint.json("GET", f"batches/{job}")
        for file in filter(None, (there.get("output_file_id"), there.get("error_file_id"))):
            for line in filter(str.strip, self._endpoint.lines(f"files/{file}/content")):
                try:
                    value = json.loads(line)
                    name = value["custom_id"]
                except (ValueError, LookupError, TypeError) as error:
                    raise Failure("no answer", "a line of results that is none") from error
                if name in requests:
                    yield name, self._result(value, requests[name])

    def _result(self, line: dict[str, Any], request: Request) -> Answer | Failure:
        dialect = self._chat.dialect()
        response = line.get("response") or {}
        body, status = json.dumps(response.get("body"), ensure_ascii=False), response.get("status_code")
        try:
            if status == 200:
                return self._chat.answer(request, body, dialect.level)
            if not isinstance(status, int):  # expired, say: not worked on, and not charged
                return Failure("server error", str(line.get("error"))[:MOST_SAID])
            failure = failure_of(status, {}, body, self._chat.place)
            return self._chat.understood(failure, dialect)
        except Failure as failure:
            return failure
        except TeacherError as error:
            return Failure("stopped", str(error)[:MOST_SAID])
