"""The batch API of the scripted teacher: files, jobs that take a few polls, results by custom id."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from gemtune.files import JsonObject

POLLS = 2  # before a job has ended


class ScriptedBatches:
    """Jobs and files of one server; `made` answers a request of a job as it would answer one that is posted.

    `script` is what goes wrong, in turn, one for each job: "failed", "expired" (half of it done), "lost" (the job is
    there, but its creation gets no answer) or "".
    """

    def __init__(self, made: Callable[[JsonObject, str], Any]):
        self._made, self._lock = made, threading.RLock()
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, JsonObject] = {}
        self.script: list[str] = []
        self.polls = POLLS
        self._polled: dict[str, int] = {}

    def takes(self, path: str) -> bool:
        return path.startswith(("/v1/files", "/v1/batches")) or ":batchGenerateContent" in path

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """Status and value."""
        with self._lock:
            parts = path.partition("?")[0].strip("/").split("/")[1:]
            if ":batchGenerateContent" in path:
                return self._created_by_google(json.loads(body))
            if "x-goog-api-key" in headers:
                jobs = {f"batches/{name}": job for name, job in self.jobs.items()}
                if parts == ["batches"]:
                    return 200, {"operations": [_as_googles(job) for job in self.jobs.values()]}
                there = "/".join(parts) in jobs
                return (200, _as_googles(self._polled_job(parts[-1]))) if there else (404, {})
            if method == "POST" and parts == ["files"]:
                return 200, {"id": self._kept(_file_in(headers, body)), "object": "file"}
            if method == "POST" and parts == ["batches"]:
                return self._created(json.loads(body))
            if parts[0] == "files" and parts[-1] == "content":
                return 200, self.files[parts[1]].decode()
            if parts == ["batches"]:
                return 200, {"data": list(self.jobs.values())[::-1]}
            if len(parts) == 2 and parts[1] in self.jobs:
                return 200, self._polled_job(parts[1])
            return 404, {"error": {"message": f"nothing at {path}"}}

    def _kept(self, data: bytes) -> str:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = data
        return name

    def _created(self, keys: JsonObject) -> tuple[int, Any]:
        name = f"batch_{len(self.jobs) + 1}"
        fate = self.script.pop(0) if self.script else ""
        self.jobs[name] = {"id": name, "status": "validating", "metadata": keys["metadata"], "fate": fate}
        self.jobs[name]["input_file_id"] = keys["input_file_id"]
        if fate == "lost":
            return 500, {"error": {"message": "The server had an error"}}
        return 200, self.jobs[name]

    def _created_by_google(self, body: JsonObject) -> tuple[int, Any]:
        requests = body["batch"]["inputConfig"]["requests"]["requests"]
        lines = [json.dumps({"custom_id": one["metadata"]["key"], "body": one["request"]}).encode() for one in requests]
        keys = {"input_file_id": self._kept(b"\n".join(lines)), "metadata": {"name": body["batch"]["displayName"]}}
        status, value = self._created(keys)
        return status, _as_googles(value) if status == 200 else value

    def _polled_job(self, name: str) -> JsonObject:
        job = self.jobs[name]
        self._polled[name] = self._polled.get(name, 0) + 1
        if job["status"] == "validating" and self._polled[name] > self.polls:
            self._end(job)
        return job

    def _end(self, job: JsonObject) -> None:
        if job["fate"] == "failed":
            job.update(status="failed", errors={"data": [{"message": "Enqueued token limit reached"}]})
            return
        lines = [json.loads(line) for line in self.files[job["input_file_id"]].splitlines()]
        done = lines[: len(lines) // 2] if job["fate"] == "expired" else lines
        results: dict[bool, list[str]] = {True: [], False: []}
        for line in done[::-1]:  # in no order, as the real one
            made = self._made(line["body"], line["custom_id"])
            response = {"status_code": made.status, "body": made.value}
            if made.status == 200:
                job.setdefault("responses", []).append({"metadata": {"key": line["custom_id"]}, "response": made.value})
            else:
                error = {"code": made.status, "message": made.value["error"]["message"]}
                job.setdefault("responses", []).append({"metadata": {"key": line["custom_id"]}, "error": error})
            result = {"custom_id": line["custom_id"], "response": response, "error": None}
            results[made.status == 200].append(json.dumps(result))
        for line in lines[len(done) :]:
            error = {"code": "batch_expired", "message": "not executed before the window ended"}
            results[False].append(json.dumps({"custom_id": line["custom_id"], "response": None, "error": error}))
        job.update(
            status="expired" if job["fate"] == "expired" else "completed",
            output_file_id=self._kept("\n".join(results[True]).encode()) if results[True] else None,
            error_file_id=self._kept("\n".join(results[False]).encode()) if results[False] else None,
        )


_GOOGLES = {"validating": "PENDING", "completed": "SUCCEEDED", "failed": "FAILED", "expired": "EXPIRED"}


def _as_googles(job: JsonObject) -> JsonObject:
    """A job as Google has it: an operation."""
    metadata = {"displayName": job["metadata"]["name"], "state": f"BATCH_STATE_{_GOOGLES[job['status']]}"}
    if "responses" in job:
        metadata["output"] = {"inlinedResponses": {"inlinedResponses": job["responses"]}}
    return {"name": f"batches/{job['id']}", "metadata": metadata}


def _file_in(headers: Mapping[str, str], body: bytes) -> bytes:
    """The file of a form."""
    form = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    for part in form.iter_parts():  # type: ignore[attr-defined]
        if part.get_filename():
            return bytes(part.get_payload(decode=True))
    raise ValueError("no file in the form")
