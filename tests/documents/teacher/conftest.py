"""Pages with true replies, and the scripted teacher that knows them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from gemtune.documents.folder import DistilledFolder
from gemtune.documents.teacher import Patience, Reply, Request, ask
from gemtune.files import JsonObject
from gemtune.recipe.document_sections import Teacher

sys.path.insert(0, str(Path(__file__).parents[3]))  # the package benchmarks

from benchmarks.scripted_teacher import ScriptedTeacher, faults_of_ledger

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "number": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["title", "number"],
    "additionalProperties": False,
}
QUICK = Patience(first=0.01, longest=0.05)


class Pages:
    """A folder with a few page images, a request for each, and the true replies."""

    def __init__(self, root: Path, count: int = 3):
        self.folder = DistilledFolder(root)
        self.log = root / "served.jsonl"
        self.images = [self._draw(number) for number in range(1, count + 1)]
        self.truth_of = {
            hashlib.sha256(image.read_bytes()).hexdigest(): {"title": f"صفحة {number}", "number": number}
            for number, image in enumerate(self.images, 1)
        }

    def _draw(self, number: int) -> Path:
        path = self.folder.images / f"{hashlib.sha256(str(number).encode()).hexdigest()}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (56, 28 + number), number).save(path)
        return path

    def requests(self, task: str = "fields", schema: JsonObject | None = SCHEMA) -> list[Request]:
        return [Request("a.pdf", n, task, 0, image, "Read it.", schema) for n, image in enumerate(self.images, 1)]

    def truth(self, digest: str, task: str, prompt: str) -> str | None:
        value = self.truth_of.get(digest)
        return json.dumps(value, ensure_ascii=False) if value else None

    def ask(self, teacher: Teacher, requests: list[Request] | None = None, **more: object) -> list[Reply]:
        said: list[str] = []
        replies = ask(requests or self.requests(), teacher, self.folder, say=said.append, patience=QUICK, **more)  # type: ignore[arg-type]
        try:
            return sorted(replies, key=lambda reply: reply.request.page)
        finally:
            self.said = said

    def assert_the_ledger_is_right(self) -> None:
        assert faults_of_ledger(self.log, self.folder.ledger_file) == []


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    return Pages(tmp_path / "distilled")


@pytest.fixture
def serve(pages: Pages) -> Iterator[Callable[..., ScriptedTeacher]]:
    """Starts a scripted teacher that knows the pages; all of them end with the test."""
    servers: list[ScriptedTeacher] = []

    def start(script: Callable[[str, int], str] | None = None, **more: object) -> ScriptedTeacher:
        scripts = [script] if script else []
        servers.append(ScriptedTeacher(pages.truth, *scripts, log=pages.log, **more))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()
