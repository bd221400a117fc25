"""Gemini's batch API, with the requests of a job in its creation."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING

from gemtune.documents.teacher.endpoints import prompt_of
from gemtune.documents.teacher.exchange import Answer, Request
from gemtune.documents.teacher.failures import MOST_SAID, Failure, TeacherError, failure_of
from gemtune.documents.teacher.gemini import Gemini

if TYPE_CHECKING:
    from google.genai import types

_RUNNING = ("QUEUED", "PENDING", "RUNNING", "PAUSED", "UPDATING", "CANCELLING")
_ENDED = ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "CANCELLED", "EXPIRED")


class GeminiBatches:
    """Jobs of a client of Gemini."""

    most_bytes = 18_000_000  # it takes 20 MB inline
    most_requests = 10_000

    def __init__(self, gemini: Gemini):
        self._gemini, self._jobs = gemini, gemini.client.batches

    def line(self, request: Request, name: str) -> bytes:
        asked = self._gemini.dialect()
        config = self._gemini.config(request, asked).model_dump(mode="json", exclude_none=True)
        image = base64.b64encode(request.image.read_bytes()).decode("ascii")
        return json.dumps(
            {"key": name, "image": image, "prompt": prompt_of(request, asked.level), "config": config}
        ).encode()

    def create(self, name: str, lines: IO[bytes]) -> str:
        from google.genai import types

        requests = [
            types.InlinedRequest(
                contents=self._gemini.contents(base64.b64decode(line["image"]), line["prompt"]),
                metadata={"key": line["key"]},
                config=types.GenerateContentConfig(**line["config"]),
            )
            for line in map(json.loads, lines)
        ]
        config = types.CreateBatchJobConfig(display_name=name)
        try:
            with self._gemini.failures(self._gemini.dialect()):
                job = self._jobs.create(model=self._gemini.teacher.model, src=requests, config=config)
        except Failure as failure:
            if failure.kind in ("bad request", "other dialect"):
                raise TeacherError(
                    f"teacher.batch: {self._gemini.place.url} takes no batch ({failure.said})"
                ) from failure
            raise
        if not job.name:
            raise Failure("no answer", "a batch without a name")
        return job.name

    def find(self, name: str) -> str | None:
        with self._gemini.failures(self._gemini.dialect()):
            return next((job.name for job in self._jobs.list() if job.display_name == name), None)

    def state(self, job: str) -> str | None:
        state = (self._job(job).state or "").removeprefix("JOB_STATE_")
        if state in _ENDED:
            return ""
        if state in _RUNNING:
            return None
        if state != "FAILED":
            raise Failure("no answer", f"a batch in no state that is known ({state or 'none'})")
        return "the batch failed"

    def results(self, job: str, requests: Mapping[str, Request]) -> Iterator[tuple[str, Answer | Failure]]:
        there = self._job(job).dest
        for one in (there and there.inlined_responses) or []:
            name = (one.metadata or {}).get("key", "")
            if name in requests:
                yield name, self._result(one, requests[name])

    def _job(self, job: str) -> types.BatchJob:
        with self._gemini.failures(self._gemini.dialect()):
            return self._jobs.get(name=job)

    def _result(self, one: types.InlinedResponse, request: Request) -> Answer | Failure:
        try:
            if one.response:
                return self._gemini.answer(request, one.response, self._gemini.dialect())
            code, said = (one.error.code, one.error.message) if one.error else (None, None)
            body = json.dumps({"error": {"message": said or "no reply"}})
            return failure_of(_STATUS.get(code or 0, code or 500), {}, body, self._gemini.place)
        except Failure as failure:
            return failure
        except TeacherError as error:
            return Failure("stopped", str(error)[:MOST_SAID])


# gRPC's codes, which a job's errors have.
_STATUS = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 13: 500, 14: 503, 16: 401}
