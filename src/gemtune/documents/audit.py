"""What was sent where: a line of audit.jsonl for every page image, written before it leaves this machine."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Annotated
from urllib.parse import urlsplit

from gemtune.documents.folder import DistilledFolder
from gemtune.documents.redaction import Sendable
from gemtune.files import JsonObject, os_errors
from gemtune.recipe.document_sections import Teacher
from gemtune.run_files import Stored


@dataclass(frozen=True, kw_only=True)
class Sent(Stored):
    """One page image that was sent: a line of audit.jsonl."""

    at: Annotated[str, "UTC"]
    document: str
    number: Annotated[int, "of the page, from 1"]
    image: Annotated[str, "the SHA-256 of its pixels"]
    host: Annotated[str, "where it went"]
    model: str
    redacted: Annotated[list[JsonObject], "what was covered on it: its `kind` and `boxes`; not the value"]


_OWN_HOSTS = {"openai": "api.openai.com", "gemini": "generativelanguage.googleapis.com"}  # without `teacher.url`


def record_sent(folder: DistilledFolder, sendable: Sequence[Sendable], teacher: Teacher) -> None:
    """Adds a line a page to the audit file; they are on the disk when this returns."""
    at, host = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), host_of(teacher)
    lines = [
        Sent(
            at=at,
            document=one.page.document,
            number=one.page.number,
            image=one.image.stem,
            host=host,
            model=teacher.model,
            redacted=[{"kind": redaction.kind, "boxes": list(redaction.boxes)} for redaction in one.redactions],
        )
        for one in sendable
    ]
    data = "".join(json.dumps(line.to_json(), ensure_ascii=False) + "\n" for line in lines)
    with os_errors(folder.audit_file):
        folder.audit_file.parent.mkdir(parents=True, exist_ok=True)
        with folder.audit_file.open("ab+") as audit:
            if audit.tell() and not _ends_a_line(audit):
                data = "\n" + data  # after a line that a kill has torn
            audit.write(data.encode("utf-8", "backslashreplace"))
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
