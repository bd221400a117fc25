"""What was sent where: a line of audit.jsonl for every request, written before its page image leaves this machine."""

from __future__ import annotations

import datetime
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated
from urllib.parse import urlsplit

from gemtune.documents.folder import DistilledFolder
from gemtune.documents.redaction import Sendable
from gemtune.documents.teacher.exchange import Request
from gemtune.files import JsonObject, os_errors
from gemtune.recipe.document_sections import Teacher
from gemtune.run_files import Stored


@dataclass(frozen=True, kw_only=True)
class Sent(Stored):
    """One request that was sent with a page image: a line of audit.jsonl."""

    at: Annotated[str, "UTC"]
    document: str
    number: Annotated[int, "of the page, from 1"]
    task: str
    image: Annotated[str, "the SHA-256 of its pixels"]
    host: Annotated[str, "where it went"]
    model: str
    redacted: Annotated[list[JsonObject], "what was covered on it: its `kind` and `boxes`; not the value"]


_OWN_HOSTS = {"openai": "api.openai.com", "gemini": "generativelanguage.googleapis.com"}  # without `teacher.url`


def recorder(folder: DistilledFolder, sendable: Sequence[Sendable], teacher: Teacher) -> Callable[[Request], None]:
    """What adds a line for a request to the audit file; the line is on the disk when it returns."""
    by_image = {(one.page.document, one.page.number, one.image): one for one in sendable}
    host, lock = host_of(teacher), threading.Lock()

    def record(request: Request) -> None:
        one = by_image[request.document, request.page, request.image]
        sent = Sent(
            at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            document=request.document,
            number=request.page,
            task=request.task,
            image=request.image.stem,
            host=host,
            model=teacher.model,
            redacted=[{"kind": redaction.kind, "boxes": list(redaction.boxes)} for redaction in one.redactions],
        )
        with lock:
            _add_line(folder.audit_file, json.dumps(sent.to_json(), ensure_ascii=False))

    return record


def _add_line(path: Path, line: str) -> None:
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as audit:
            torn = b"\n" if audit.tell() and not _ends_a_line(audit) else b""  # by a kill
            audit.write(torn + line.encode("utf-8", "backslashreplace") + b"\n")
            audit.flush()
            os.fsync(audit.fileno())


def host_of(teacher: Teacher) -> str:
    """
    >>> host_of(Teacher(url="http://localhost:8000/v1")), host_of(Teacher())
    ('localhost:8000', 'api.openai.com')
    """
    return urlsplit(teacher.url).netloc.rpartition("@")[2] if teacher.url else _OWN_HOSTS[teacher.provider]


def _ends_a_line(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
