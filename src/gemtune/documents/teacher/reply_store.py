"""The cache of replies: a file per reply, by what decides it, with the room on the disk taken before it is paid for."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from gemtune.documents.teacher.exchange import Reply, Request
from gemtune.documents.teacher.ledger import Charge, Ledger
from gemtune.errors import RunError
from gemtune.files import JsonObject, os_errors, read_object, sha256_of_text
from gemtune.recipe.document_sections import Teacher
from gemtune.run_files import Stored

FORMAT = 1  # of a reply's file; another one is another key
_BYTES_A_TOKEN = 8  # of a reply, raw and as JSON; Arabic has about 5
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class StoredReply(Stored):
    """A reply that was paid for: a file of `replies`."""

    format: int
    model: str
    document: str
    page: int
    task: str
    sample: int
    outcome: Annotated[str, "answered, or why it is of no use: cut, refused, wrong reply"]
    raw: Annotated[str, "the teacher's words"]
    value: Annotated[JsonObject | None, "what they say, in the order of the schema; null for plain text"]
    text: Annotated[str, "`value` on one line, or the plain text"]
    repairs: Annotated[list[str], "what was mended in the words"]
    faults: Annotated[list[str], "what is wrong with them"]
    charge: Annotated[JsonObject, "its line in the ledger"]
    structured: Annotated[str, "how the endpoint was told the schema: schema, json or none; empty without one"] = ""
    changes: Annotated[list[str], "what of the schema it was told otherwise, because it does not know it"] = field(
        default_factory=list
    )

    def reply_to(self, request: Request) -> Reply:
        charge = Charge.from_json(self.charge, "the charge of a reply")
        return Reply(request, self.value, self.text, None, charge.usage)


def key_of(request: Request, teacher: Teacher) -> str:
    """The name of a reply: what of a request and its teacher decides it. The address and `max_tokens` do not."""
    sampling = {"temperature": teacher.temperature, "sample": request.sample}
    return sha256_of_text(
        str(FORMAT),
        pixels_of(request.image),
        request.prompt,
        json.dumps(request.schema, sort_keys=True, ensure_ascii=False),
        teacher.model,
        json.dumps(sampling),
    )


def pixels_of(image: Path) -> str:
    """The SHA-256 of an image's pixels: its name, where it is named so."""
    if _SHA256.fullmatch(image.stem):
        return image.stem
    from PIL import Image

    with Image.open(image) as picture:
        return sha256_of_text(f"{picture.size} {picture.mode}", picture.tobytes().hex())


class ReplyStore:
    """The folder of replies."""

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> StoredReply | None:
        """The reply of a key, of use or not."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            return StoredReply.from_json(read_object(path), path)
        except RunError as error:
            words = str(error).partition("; run ")[0]
            raise RunError(f"{words}; remove that file, and the page is asked for, and paid for, again") from error

    @contextlib.contextmanager
    def room(self, key: str, tokens: int) -> Iterator[Path]:
        """A file with the room of a reply, taken on the disk before it is asked for: a full disk stops here, unpaid."""
        path = self.path(key)
        temporary = path.with_name(f".{path.name}")
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                _take_room(file.fileno(), tokens * _BYTES_A_TOKEN + 16_384)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def put(self, key: str, room: Path, reply: StoredReply) -> None:
        """Stores a reply in its room: on the disk, whole, when this returns."""
        data = (json.dumps(reply.to_json(), ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")
        path = self.path(key)
        with os_errors(path):
            with room.open("r+b") as file:
                file.write(data)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
            room.replace(path)
            _sync_folder(path.parent)

    def reconcile(self, ledger: Ledger) -> None:
        """Settles what was stored before a kill and not yet in the ledger, and clears away what a kill left behind."""
        for intent in ledger.open_intents():
            reply = self.get(intent.reply)
            if reply and reply.charge.get("charge") == intent.intent:
                ledger.settle(Charge.from_json(reply.charge, self.path(intent.reply)))
        for left in self.folder.glob("*/.*.json"):
            left.unlink(missing_ok=True)


def _take_room(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS
        os.write(file, bytes(size))
    os.fsync(file)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
